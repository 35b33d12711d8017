-- Puts values under KEYS in place of others, if all of those are still what they were.
--
-- ARGV: for each key what it must hold, what it is to hold (nothing: neither a value nor a key), and for how many milliseconds.
-- Answers 1 if it did.
local values = redis.call('MGET', unpack(KEYS))
for key = 1, #KEYS do
  if (values[key] or '') ~= ARGV[3 * key - 2] then return 0 end
end
for key = 1, #KEYS do
  if ARGV[3 * key - 1] == '' then
    redis.call('DEL', KEYS[key])
  else
    redis.call('SET', KEYS[key], ARGV[3 * key - 1], 'PX', ARGV[3 * key])
  end
end
return 1
