-- Another table, slowly: longer than the statement_timeout of the test.
create table second (id integer primary key);
select pg_sleep(0.4);
