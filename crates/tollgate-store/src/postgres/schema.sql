-- The first version of the tables.

-- The state of each key: the letter of the kind of rule that wrote it, its numbers, and from when on it says nothing any more,
-- in microseconds of the server's clock. There is no index by that time, so that a state which changes stays in its page.
create table tollgate.state (
    key uuid primary key,
    expires bigint not null,
    kind smallint not null,
    numbers bigint[] not null
) with (fillfactor = 60);

-- The numbers of one state, where there are several.
create type tollgate.numbered as (numbers bigint[]);

-- What nodes have agreed on, under its name.
create table tollgate.agreed (
    name text primary key,
    value text not null
);

-- From which page on rows that say nothing any more are removed next, and when, by whichever node comes first.
create table tollgate.sweeper (
    page bigint not null,
    due bigint not null
);
insert into tollgate.sweeper values (0, 0);

-- Who holds permits of a key, and who waits in line: those have a place there.
create table tollgate.permit (
    key uuid not null,
    id uuid not null,
    units bigint not null,
    until bigint not null,
    place bigint,
    primary key (key, id)
);
create index permit_until on tollgate.permit (until);
