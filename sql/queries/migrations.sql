-- name: create_bookkeeping
-- Before the first migration: where the Migrator notes what it did.
create table schema_migrations (
    version integer not null,
    name text not null,
    checksum text not null,
    applied_at timestamptz not null default now(),
    constraint schema_migrations_pkey primary key (version)
);
comment on table schema_migrations is 'Migrations that this database has had.';
create table schema_functions (
    name text not null,
    checksum text not null,
    applied_at timestamptz not null default now(),
    constraint schema_functions_pkey primary key (name)
);
comment on table schema_functions is 'Function files as they were last applied.';

-- name: bookkeeping_exists
-- Whether this database was ever migrated.
select to_regclass('schema_migrations') is not null;

-- name: list_migrations
-- What this database has had, oldest first.
select version, name, checksum from schema_migrations order by version;

-- name: list_functions
-- Function files as they were last applied.
select name, checksum from schema_functions;

-- name: note_migration
-- First statement of a migration's transaction: a second starter fails here, before it changes anything.
insert into schema_migrations (version, name, checksum) values ($1, $2, $3);

-- name: note_function
-- In the transaction that applies a function file.
insert into schema_functions (name, checksum) values ($1, $2)
on conflict (name) do update set checksum = excluded.checksum, applied_at = now();

-- name: allow_long_statements
-- A migration may take as long as it must, but waits for a lock only briefly, because writers queue behind it.
select set_config('statement_timeout', '0', true),
    set_config('idle_in_transaction_session_timeout', '0', true),
    set_config('lock_timeout', $1, true);

-- name: try_lock
-- One Migrator at a time; asked again and again, because a waiting statement would hold up
-- what waits for old snapshots.
select pg_try_advisory_lock(hashtext('bms_ingest.migrations'));

-- name: unlock
-- The next Migrator may start.
select pg_advisory_unlock(hashtext('bms_ingest.migrations'));
