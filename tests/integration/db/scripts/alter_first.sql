-- Needs a lock that no reader of the table may hold.
alter table first add column note text;
