"""Everything that speaks to PostgreSQL besides the writer: pool, named queries, migrations."""
