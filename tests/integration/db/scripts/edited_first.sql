-- A table, with second thoughts.
create table first (id bigint primary key);
