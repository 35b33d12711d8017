-- Permits of one key: who holds them, and who waits in line. The rules are those of `Concurrency` in tollgate-core.
--
-- numbers  to acquire: units, how many there are, for how long it lasts, for how long a place in line is kept, how many holders there
--          may be; to renew: for how long. Times are microseconds
-- told     the time, or null: the server's own
--
-- Answers, to acquire, three numbers: 1, for how long it is held, and 0; or 0, how many units are wanted by those before in line, and
-- after how long there is one (-1: never). To renew: for how long it is held, or -1. To release: 1 if there was one. For usage: how many units are
-- held, and waited for.
create or replace function tollgate.permits(
    what text, which uuid, locks int[], permit uuid, numbers bigint[], told bigint)
returns bigint[]
language plpgsql as $$
declare
    DAY constant bigint := 86400000000;
    is_locked constant boolean := tollgate.locked(locks);
    -- Not before: so whoever comes to a key later does so at a later time.
    now constant bigint := coalesce(told, tollgate.clock());
    in_use bigint;
    awaited bigint;
    ahead bigint;
    held_until bigint;
    own_place bigint;
    is_crowded boolean;
    missing bigint;
    back bigint := 0;
    returns_at bigint;
    holder record;
begin
    -- What would last for longer than anything can lies in a future that the clock was set back from.
    update tollgate.permit p set until = now + DAY where p.key = which and p.until > now + DAY;
    delete from tollgate.permit p where p.key = which and p.until <= now;
    if what = 'renew' then
        update tollgate.permit p set until = now + numbers[1]
        where p.key = which and p.id = permit and p.place is null;
        return array[case when found then numbers[1] else -1 end];
    elsif what = 'release' then
        delete from tollgate.permit p where p.key = which and p.id = permit;
        return array[found::int];
    end if;
    select coalesce(sum(p.units) filter (where p.place is null), 0), coalesce(sum(p.units) filter (where p.place > 0), 0)
    into in_use, awaited from tollgate.permit p where p.key = which;
    if what = 'usage' then
        return array[in_use, awaited];
    end if;

    select p.until, p.place into held_until, own_place from tollgate.permit p where p.key = which and p.id = permit;
    if held_until is not null and own_place is null then
        return array[1, held_until - now, 0];
    end if;
    select coalesce(sum(p.units), 0) into ahead from tollgate.permit p
    where p.key = which and p.place > 0 and (own_place is null or p.place < own_place);
    is_crowded := own_place is null and (select count(*) from tollgate.permit p where p.key = which) >= numbers[5];
    if numbers[1] <= numbers[2] and ahead + numbers[1] <= greatest(numbers[2] - in_use, 0) and not is_crowded then
        insert into tollgate.permit as p (key, id, units, until) values (which, permit, numbers[1], now + numbers[3])
        on conflict (key, id) do update set units = excluded.units, until = excluded.until, place = null;
        return array[1, numbers[3], 0];
    end if;
    if numbers[1] > numbers[2] or numbers[4] = 0 then
        delete from tollgate.permit p where p.key = which and p.id = permit;
    elsif not is_crowded then
        insert into tollgate.permit as p (key, id, units, until, place)
        values (which, permit, numbers[1], now + numbers[4], coalesce(own_place,
            (select max(q.place) + 1 from tollgate.permit q where q.key = which), 1))
        on conflict (key, id) do update set units = excluded.units, until = excluded.until;
    end if;
    if numbers[1] > numbers[2] then
        return array[0, ahead, -1];
    end if;
    missing := greatest(ahead + numbers[1] - greatest(numbers[2] - in_use, 0), 0);
    returns_at := now;
    for holder in
        select p.units, p.until from tollgate.permit p where p.key = which and p.place is null order by p.until
    loop
        returns_at := holder.until;
        back := back + holder.units;
        exit when back >= missing;
    end loop;
    return array[0, ahead, returns_at - now];
end $$;
