-- Takes one amount from some keys whose state is a word, the nanosecond at which it is at its fullest, if each holds as much: what
-- `decide` comes to for such a state, in one plain statement, as a function's expressions are made ready in each transaction.
--
-- ASKED  the keys and what is locked for them, in ascending order of the locks
-- $3     the letter of the limit's kind
-- $4     what is taken, in nanoseconds, which is at most what the limit holds
-- $5     how much farther than that from the present the word may be afterwards; less than nothing if that is nearer
-- $6     the time in microseconds, or null: the server's own
--
-- Answers for each key that was charged the word as it is now, and the time. Of all others nothing is known by that: the key may
-- hold too little, or something else than a word, or something that a clock left behind which was set back.
--
-- A row that holds too little as it was when the statement began is not touched, so that a denial writes nothing. Where others came
-- between, it is the newest row that counts.
insert into tollgate.state as s (key, expires, kind, word)
select a.key, a.word / 1000 + case when $6 is null then 1000002 else tollgate.clock() - $6 + 600000002 end, $3, a.word
from (
    -- Not before: so whoever comes to a key later does so at a later time.
    select asked.key, case when pg_advisory_xact_lock('tollgate.state'::regclass::oid::int, asked.lock) is not null
        then coalesce($6, tollgate.clock()) * 1000 + $4 end as word
    from ASKED asked (key, lock)
    offset 0
) a
where coalesce((select o.word from tollgate.state o where o.key = a.key), 0) <= a.word + $5
on conflict (key) do update
set word = greatest(s.word + $4, excluded.word), expires = excluded.expires + greatest(s.word + $4 - excluded.word, 0) / 1000
where s.kind = excluded.kind and s.word <= excluded.word + $5
returning s.key, s.word, coalesce($6, tollgate.clock());
