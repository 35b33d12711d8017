-- The starts of the window before, of the present one, and of the three after it; nothing if a calendar's rule does not tell those
-- around the present.
create or replace function tollgate.edges(r bigint[], now bigint) returns bigint[]
language plpgsql immutable as $$
declare
    current bigint;
begin
    -- The letter w.
    if r[12] = 119 then
        current := now - now % r[3];
        return array[current - r[3], current, current + r[3], current + 2 * r[3], current + 3 * r[3]];
    end if;
    -- Nine edges: one before the present window, and three after it.
    for place in reverse 8 .. 4 loop
        if r[place] <= now then
            return case when now < r[place + 1] then r[place - 1 : place + 3] end;
        end if;
    end loop;
    return null;
end $$;

-- Decides requests, one after the other, on the states of some keys.
--
-- keys      in ascending order, each once
-- locks     what is locked for them, in ascending order, each once: so no two calls wait for each other
-- rule_of   for each key the number of its rule
-- rules     twelve numbers for each rule: its own (`shared/rule.rs`), and the letter of its kind at the end
-- requests  for each how many groups it has; for each of these how many hits must admit, whether it is a shadow, and how many
--           hits there are; for each of these the number of its key, what must be there, counting what the same key is asked
--           for before, and what is taken, both as pairs. If the number is 0 there is no state, and the next one says whether
--           the hit admits
-- told      the time in microseconds, or null: the server's own
--
-- Answers the time, for each request a digit (1 if it passes), and for each key the state that was there: a letter (0 if there
-- was none), how many numbers, and these. Without requests it only reads. If a calendar's rule tells only of other times, it answers
-- with the time alone. What the answers mean for people (what is left, when to retry) is worked out by whoever asked, from just that.
--
-- All numbers are whole. A meter's times and costs are pairs: whole microseconds, and a rest in parts of one. The rules
-- themselves are explained in `tollgate-core/src/algorithm/`.
create or replace function tollgate.decide(
    keys uuid[], locks int[], rule_of int[], rules bigint[], requests bigint[], told bigint,
    out now bigint, out passed text, out held bigint[])
language plpgsql as $$
declare
    -- The letters of the kinds: m, c, b, f, w, q, s, l.
    METER constant bigint := 109;
    OF_CALL constant bigint := 99;
    BY_BATCH constant bigint := 98;
    FIXED_WINDOW constant bigint := 102;
    CARRYING_WINDOW constant bigint := 119;
    CALENDAR_WINDOW constant bigint := 113;
    SLIDING_WINDOW constant bigint := 115;
    SLIDING_LOG constant bigint := 108;
    -- The farthest that a limit of a call adopts: 2^58 nanoseconds, as microseconds and thousandths.
    FARTHEST constant bigint := 288230376151711;
    FARTHEST_PART constant bigint := 744;
    -- Up to this microsecond a moment is a word: a 64-bit number of nanoseconds.
    LAST_WORD constant bigint := 9000000000000000;
    -- How a key without a state is answered: no letter, no numbers.
    NOTHING constant bigint[] := '{0, 0}';

    is_locked boolean;
    clock bigint;
    which uuid;
    places constant int := cardinality(keys);
    place int := 0;

    -- For each key the letter of the state that was there, and the state: three numbers, or the entries of a log.
    kinds bigint[] := array_fill(0::bigint, array[places]);
    one bigint[] := kinds;
    two bigint[] := kinds;
    three bigint[] := kinds;
    logs tollgate.numbered[];
    dirty boolean[] := array_fill(false, array[places]);

    -- Of the key that is looked at.
    r bigint[];
    kind bigint;
    is_known boolean;
    a bigint;
    b bigint;
    c bigint;
    entries bigint[];
    edges bigint[];
    vacant bigint;

    -- Of the request that is decided.
    at int := 1;
    hits int;
    needed int;
    admitting int;
    admits boolean;
    allowed boolean;
    need bigint;
    need_part bigint;
    -- Of the hits that admit, which key is to be charged, and by how much.
    taking int;
    taking_before int;
    takes int[];
    costs bigint[];
    cost_parts bigint[];

    -- What is written in the end.
    word bigint;
    writing int := 0;
    rows tollgate.state[];
begin
    is_locked := tollgate.locked(locks);
    -- Not before: so whoever comes to a key later does so at a later time.
    clock := tollgate.clock();
    now := coalesce(told, clock);

    held := '{}';
    for which, kind, entries in
        select s.key, s.kind, tollgate.numbers(s) from tollgate.state s where s.key = any(keys) order by s.key
    loop
        place := place + 1;
        while keys[place] <> which loop
            held := held || NOTHING;
            place := place + 1;
        end loop;
        held := held || array[kind, cardinality(entries)] || entries;
        kinds[place] := kind;
        if kind = SLIDING_LOG then
            logs[place] := row(entries);
        else
            one[place] := entries[1];
            two[place] := entries[2];
            three[place] := entries[3];
        end if;
    end loop;
    while place < places loop
        place := place + 1;
        held := held || NOTHING;
    end loop;
    passed := '';
    if requests = '{}' then
        return;
    end if;

    -- Each state as it is at the present: a new one where there is none, or one that is as new.
    for place in 1 .. places loop
        r := rules[12 * rule_of[place] - 11 : 12 * rule_of[place]];
        kind := r[12];
        a := one[place];
        b := two[place];
        c := three[place];
        is_known := kinds[place] = kind;
        if kind = METER or kind = OF_CALL then
            if is_known and (a + r[6] > now or a + r[6] = now and b + r[7] > 0
                or a + r[6] = now - 1 and b + r[7] > r[3])
            then
                -- What lies too far ahead, because the clock was set back, is brought near.
                if kind = METER and (a, b) > (now + r[1], r[2]) then
                    a := now + r[1];
                    b := r[2];
                    dirty[place] := true;
                elsif kind = OF_CALL and (a, b) > (now + FARTHEST, FARTHEST_PART) then
                    a := now + FARTHEST;
                    b := FARTHEST_PART;
                    dirty[place] := true;
                end if;
            else
                a := now + r[4];
                b := r[5];
                -- A new key that is not at its fullest begins to recover now, whatever becomes of the request.
                dirty[place] := is_known or r[4] > 0 or r[5] > 0;
            end if;
        elsif kind = BY_BATCH then
            if is_known and b + (a + r[2] - 1) / r[2] * r[3] + r[5] > now then
                if b > now then
                    b := now;
                    dirty[place] := true;
                end if;
                a := greatest(least(a, r[1]) - least((now - b) / r[3], (a + r[2] - 1) / r[2]) * r[2], 0);
                b := now - (now - b) % r[3];
            else
                a := r[4];
                b := now;
                dirty[place] := is_known or r[4] > 0;
            end if;
        elsif kind = FIXED_WINDOW then
            if is_known and b > 0 and a + r[2] > now then
                if a > now - now % r[2] + r[2] then
                    a := now - now % r[2] + r[2];
                    dirty[place] := true;
                end if;
            else
                a := now - now % r[2];
                b := 0;
                dirty[place] := is_known;
            end if;
        elsif kind = CARRYING_WINDOW or kind = CALENDAR_WINDOW then
            edges := tollgate.edges(r, now);
            if edges is null then
                -- Nothing has been written.
                passed := null;
                return;
            end if;
            if is_known and b + c > 0 and a >= edges[2] then
                if a > edges[3] then
                    a := edges[3];
                    dirty[place] := true;
                end if;
            elsif is_known and a = edges[1] and b + c > r[1] then
                a := edges[2];
                b := b + c - r[1];
                c := 0;
            else
                a := edges[2];
                b := 0;
                c := 0;
                dirty[place] := is_known;
            end if;
        elsif kind = SLIDING_WINDOW then
            vacant := case when c > 0 then a + 2 * r[2] when b > 0 then a + r[2] else 0 end;
            if is_known and vacant > now then
                if a > now - now % r[2] + r[2] then
                    a := now - now % r[2] + r[2];
                    dirty[place] := true;
                elsif a < now - now % r[2] then
                    b := case when a + r[2] = now - now % r[2] then c else 0 end;
                    c := 0;
                    a := now - now % r[2];
                end if;
            else
                a := now - now % r[2];
                b := 0;
                c := 0;
                dirty[place] := is_known;
            end if;
        else
            entries := coalesce(logs[place].numbers, '{}');
            -- What lies in the future was taken now.
            b := 0;
            while entries[cardinality(entries) - 1] > now or dirty[place] and entries[cardinality(entries) - 1] = now loop
                b := b + entries[cardinality(entries)];
                entries := trim_array(entries, 2);
                dirty[place] := true;
            end loop;
            if dirty[place] then
                entries := entries || array[now, b];
            end if;
            b := 1;
            while entries[b] + r[2] <= now loop
                b := b + 2;
            end loop;
            entries := entries[b:];
            -- A log that has nothing left is as new.
            dirty[place] := dirty[place] or is_known and entries = '{}';
            select coalesce(sum(entries[n]), 0) into a from generate_series(2, cardinality(entries), 2) n;
            logs[place] := row(entries);
        end if;
        one[place] := a;
        two[place] := b;
        three[place] := c;
    end loop;

    while at <= cardinality(requests) loop
        allowed := true;
        taking := 0;
        at := at + 1;
        for _ in 1 .. requests[at - 1] loop
            needed := requests[at];
            hits := requests[at + 2];
            admitting := 0;
            taking_before := taking;
            at := at + 3;
            for _ in 1 .. hits loop
                place := requests[at];
                need := requests[at + 1];
                if place = 0 then
                    admits := need = 1;
                else
                    r := rules[12 * rule_of[place] - 11 : 12 * rule_of[place]];
                    kind := r[12];
                    a := one[place];
                    if kind = METER or kind = OF_CALL then
                        need_part := requests[at + 2];
                        if a >= now then
                            need := need + a - now;
                            need_part := need_part + two[place];
                        end if;
                        admits := (need, need_part) <= (r[1], r[2])
                            and (need_part < r[3] or (need + 1, need_part - r[3]) <= (r[1], r[2]));
                    elsif kind = BY_BATCH or kind = SLIDING_LOG then
                        admits := need = 0 and kind = SLIDING_LOG or a + need <= r[1];
                    elsif kind = FIXED_WINDOW then
                        admits := two[place] + need <= r[1];
                    elsif kind = CARRYING_WINDOW or kind = CALENDAR_WINDOW then
                        admits := two[place] + three[place] + need <= r[1] + r[2];
                    else
                        -- What is left must hold the part of the window before that still counts. The products pass 2^63.
                        b := r[1] - three[place] - need;
                        admits := need = 0 or b >= 0
                            and two[place]::numeric * (r[2] - greatest(now - a, 0)) <= b::numeric * r[2];
                    end if;
                end if;
                if admits then
                    admitting := admitting + 1;
                    if place > 0 and (requests[at + 3] > 0 or requests[at + 4] > 0) then
                        taking := taking + 1;
                        takes[taking] := place;
                        costs[taking] := requests[at + 3];
                        cost_parts[taking] := requests[at + 4];
                    end if;
                end if;
                at := at + 5;
            end loop;
            if admitting < needed then
                taking := taking_before;
                -- What only watches stands in nobody's way.
                allowed := allowed and requests[at - 5 * hits - 2] = 1;
            end if;
        end loop;
        passed := passed || allowed::int;
        if not allowed then
            continue;
        end if;
        for taken in 1 .. taking loop
            place := takes[taken];
            need := costs[taken];
            r := rules[12 * rule_of[place] - 11 : 12 * rule_of[place]];
            kind := r[12];
            a := one[place];
            dirty[place] := true;
            if kind = METER or kind = OF_CALL then
                b := cost_parts[taken];
                if a >= now then
                    b := b + two[place];
                else
                    a := now;
                end if;
                one[place] := a + need + (b >= r[3])::int;
                two[place] := case when b >= r[3] then b - r[3] else b end;
            elsif kind = BY_BATCH then
                if a = 0 then
                    two[place] := now;
                end if;
                one[place] := least(a + need, r[1]);
            elsif kind = FIXED_WINDOW then
                two[place] := two[place] + need;
            elsif kind = SLIDING_WINDOW or kind = CARRYING_WINDOW or kind = CALENDAR_WINDOW then
                three[place] := three[place] + need;
            else
                one[place] := a + need;
                entries := logs[place].numbers;
                if entries[cardinality(entries) - 1] >= now then
                    entries[cardinality(entries)] := entries[cardinality(entries)] + need;
                else
                    entries := entries || array[now, need];
                end if;
                logs[place] := row(entries);
            end if;
        end loop;
    end loop;

    for place in 1 .. places loop
        if not dirty[place] then
            continue;
        end if;
        r := rules[12 * rule_of[place] - 11 : 12 * rule_of[place]];
        kind := r[12];
        a := one[place];
        b := two[place];
        entries := array[a, b];
        word := null;
        if kind = METER or kind = OF_CALL then
            vacant := a + r[6] + 2;
            -- A part is a nanosecond.
            if r[3] = 1000 and a <= LAST_WORD then
                word := 1000 * a + b;
                entries := null;
            end if;
        elsif kind = BY_BATCH then
            vacant := b + (a + r[2] - 1) / r[2] * r[3] + r[5];
        elsif kind = FIXED_WINDOW then
            vacant := case when b > 0 then a + r[2] else 0 end;
        elsif kind = CARRYING_WINDOW or kind = CALENDAR_WINDOW then
            c := three[place];
            entries := array[a, b, c];
            edges := tollgate.edges(r, now);
            -- One that lies ahead is the next.
            vacant := case when b + c = 0 then 0 else edges[3 + (a >= edges[3])::int + (b + c > r[1])::int] end;
        elsif kind = SLIDING_WINDOW then
            c := three[place];
            entries := array[a, b, c];
            vacant := case when c > 0 then a + 2 * r[2] when b > 0 then a + r[2] else 0 end;
        else
            entries := logs[place].numbers;
            vacant := coalesce(entries[cardinality(entries) - 1] + r[2], 0);
        end if;
        if vacant > now then
            -- A second more than it is worth remembering, in case the clock is set back; ten minutes if the time is told.
            vacant := clock + vacant - now + case when told is null then 1000000 else 600000000 end;
            writing := writing + 1;
            rows[writing] := row(keys[place], vacant, kind, entries, word)::tollgate.state;
        elsif kinds[place] <> 0 then
            delete from tollgate.state s where s.key = keys[place];
        end if;
    end loop;
    if writing > 0 then
        insert into tollgate.state select * from unnest(rows)
        on conflict (key) do update
        set kind = excluded.kind, numbers = excluded.numbers, word = excluded.word, expires = excluded.expires;
    end if;
end $$;
