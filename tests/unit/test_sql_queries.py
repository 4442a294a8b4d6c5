"""Named queries in files, and how the SQL files themselves are written."""

from __future__ import annotations

import re
from pathlib import Path

import pytest

from bms_ingest.sql import SqlFileError, UnknownQueryError, load_queries, sql_directory

QUERY_FILES = sorted(path.stem for path in (sql_directory() / "queries").glob("*.sql"))
SCHEMA_FILES = sorted(
    path.relative_to(sql_directory())
    for folder in ("migrations", "functions")
    for path in (sql_directory() / folder).glob("*.sql")
)


def write(directory: Path, text: str) -> Path:
    (directory / "some.sql").write_text(text, encoding="utf-8")
    return directory


def test_statements_are_found_by_name_without_their_headings(tmp_path: Path) -> None:
    first = "-- A file.\n\n-- name: one\n-- Why one.\nselect 1;\n\n"
    second = "-- name: two_2\n-- Why two.\n-- A trap.\nselect 2,\n  3;\n"
    queries = load_queries("some", write(tmp_path, first + second))
    assert dict(queries) == {"one": "select 1", "two_2": "-- A trap.\nselect 2,\n  3"}
    assert "one" in queries
    assert "three" not in queries
    assert len(queries) == 2


def test_unknown_name_says_what_there_is(tmp_path: Path) -> None:
    queries = load_queries("some", write(tmp_path, "-- name: one\n-- Why.\nselect 1;\n"))
    with pytest.raises(UnknownQueryError, match=r"^some\.sql has no query named 'two'; it has one$"):
        queries["two"]


def test_unknown_file_says_where_it_looked(tmp_path: Path) -> None:
    with pytest.raises(SqlFileError, match=r"nothing_here\.sql is not in"):
        load_queries("nothing_here")
    with pytest.raises(SqlFileError, match=re.escape(str(tmp_path))):
        load_queries("other", tmp_path)


@pytest.mark.parametrize(
    ("text", "message"),
    [
        ("select 1;\n", "no statement"),
        ("-- name: one\nselect 1;\n", "purpose is missing under '-- name: one'"),
        ("-- name: one\n-- \nselect 1;\n", "purpose is missing"),
        ("-- name: one\n-- Why.\n\n-- name: two\n-- Why.\nselect 2;\n", "'one' has no statement"),
        ("-- name: one\n-- Why.\n;\n", "'one' has no statement"),
        ("-- name: One-Two\n-- Why.\nselect 1;\n", "'One-Two' is not a query name"),
        ("-- name:\n-- Why.\nselect 1;\n", "'' is not a query name"),
        (
            "-- name: one\n-- Why.\nselect 1;\n-- name: one\n-- Why.\nselect 2;\n",
            "two queries are named 'one'",
        ),
    ],
)
def test_file_that_is_not_in_order_is_refused(tmp_path: Path, text: str, message: str) -> None:
    with pytest.raises(SqlFileError, match=re.escape(message)):
        load_queries("some", write(tmp_path, text))


@pytest.mark.parametrize("name", QUERY_FILES)
def test_shipped_queries_are_in_order(name: str) -> None:
    assert len(load_queries(name)) > 0


@pytest.mark.parametrize("path", SCHEMA_FILES, ids=str)
def test_every_table_index_and_function_says_what_needs_it(path: Path) -> None:
    lines = (sql_directory() / path).read_text(encoding="utf-8").splitlines()
    created = [
        number
        for number, line in enumerate(lines)
        if re.match(r"create (or replace )?(unique )?(table|index|function|sequence|view)\b", line)
    ]
    assert created
    for number in created:
        assert lines[number - 1].startswith("-- "), lines[number]
