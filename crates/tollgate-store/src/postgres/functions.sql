-- Has this transaction alone to itself what belongs to these locks; they must be in ascending order, each once.
--
-- Locks of their own, and not those of rows: keys without a row are locked as well, and who only looks writes nothing.
create or replace function tollgate.locked(locks int[]) returns boolean
language plpgsql as $$
declare
    lock int;
    is_locked boolean := true;
begin
    foreach lock in array locks loop
        -- As an expression, which costs less than a statement.
        is_locked := pg_advisory_xact_lock('tollgate.state'::regclass::oid::int, lock) is not null;
    end loop;
    return is_locked;
end $$;

-- The time in microseconds. `date_part` counts in doubles, where `extract` takes its time for decimals: to the microsecond until the
-- year 2041, to two of them after that, and never backwards.
create or replace function tollgate.clock() returns bigint
language sql volatile as $$ select (date_part('epoch', clock_timestamp()) * 1000000)::bigint $$;

-- The numbers of a state; those of a word are its microseconds, and the rest of them.
create or replace function tollgate.numbers(s tollgate.state) returns bigint[]
language sql immutable as $$ select coalesce(s.numbers, array[s.word / 1000, s.word % 1000]) $$;

-- Puts a state under a key in place of another, if that is still what it was, for so many milliseconds. Without a kind there
-- is no state. Returns whether it did.
create or replace function tollgate.swap(
    which uuid, locks int[], old_kind smallint, old_numbers bigint[],
    new_kind smallint, new_numbers bigint[], millis bigint)
returns boolean
language plpgsql as $$
declare
    is_locked constant boolean := tollgate.locked(locks);
    row record;
begin
    select s.kind, tollgate.numbers(s) as numbers into row from tollgate.state s where s.key = which;
    if (row.kind, row.numbers) is distinct from (old_kind, old_numbers) then
        return false;
    end if;
    if new_kind is null then
        delete from tollgate.state s where s.key = which;
    else
        insert into tollgate.state as s (key, kind, numbers, expires)
        values (which, new_kind, new_numbers, tollgate.clock() + 1000 * millis)
        on conflict (key) do update
        set kind = excluded.kind, numbers = excluded.numbers, word = null, expires = excluded.expires;
    end if;
    return true;
end $$;

-- Forgets keys.
create or replace function tollgate.forget(keys uuid[], locks int[]) returns void
language plpgsql as $$
declare
    is_locked constant boolean := tollgate.locked(locks);
begin
    delete from tollgate.state s where s.key = any(keys);
end $$;

-- What all agree on under a name: what the first of them proposed.
create or replace function tollgate.agree(what text, proposal text) returns text
language plpgsql as $$
begin
    insert into tollgate.agreed values (what, proposal) on conflict do nothing;
    return (select a.value from tollgate.agreed a where a.name = what);
end $$;

-- Removes the rows of some pages that say nothing any more, unless somebody else did within so many microseconds; who comes next
-- goes on behind them. Returns how many it removed.
create or replace function tollgate.sweep(pages bigint, every bigint) returns bigint
language plpgsql as $$
declare
    now constant bigint := tollgate.clock();
    first bigint;
    removed bigint;
begin
    select s.page into first from tollgate.sweeper s where s.due <= now for update skip locked;
    if first is null then
        return 0;
    end if;
    -- A row that somebody else works on is not idle.
    delete from tollgate.state where ctid = any(array(
        select s.ctid from tollgate.state s
        where s.ctid >= format('(%s,0)', first)::tid and s.ctid < format('(%s,0)', first + pages)::tid
            and s.expires < now
        for update skip locked));
    get diagnostics removed = row_count;
    delete from tollgate.permit where (key, id) in (
        select p.key, p.id from tollgate.permit p where p.until < now order by p.until limit 10000 for update skip locked);
    first := first + pages;
    if first * current_setting('block_size')::bigint >= pg_relation_size('tollgate.state') then
        first := 0;
    end if;
    update tollgate.sweeper set page = first, due = now + every;
    return removed;
end $$;
