-- Puts a value under a key in place of another, if that is still what it was.
--
-- ARGV: what the key must hold, what it is to hold (nothing: neither a value nor a key), and for how many milliseconds.
-- Answers 1 if it did.
if (redis.call('GET', KEYS[1]) or '') ~= ARGV[1] then return 0 end
if ARGV[2] == '' then
  redis.call('DEL', KEYS[1])
else
  redis.call('SET', KEYS[1], ARGV[2], 'PX', ARGV[3])
end
return 1
