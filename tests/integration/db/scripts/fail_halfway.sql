-- Makes a table and then fails.
create table halfway (id integer primary key);
insert into halfway values (1), (1);
