-- The second version of the tables: a state that is one word stands beside the numbers of the others, which it has in their place.
alter table tollgate.state add column word bigint, alter column numbers drop not null;
