"""Finds the SQL files that ship with the program and reads the named queries in them."""

from __future__ import annotations

import re
from collections.abc import Iterator, Mapping
from functools import cache
from pathlib import Path

from bms_ingest.errors import BmsIngestError

_NAME = re.compile(r"^-- name:(?P<name>.*)$", re.MULTILINE)
_SLUG = re.compile(r"[a-z][a-z0-9_]*")


class SqlFileError(BmsIngestError):
    """A file of SQL is missing or not written as `load_queries` needs it; our mistake, not a user's."""


class UnknownQueryError(SqlFileError, KeyError):
    """No statement of this name is in the file."""

    def __str__(self) -> str:
        return str(self.args[0])


class Queries(Mapping[str, str]):
    """Statements of one file by name; asking for a name that is not there raises UnknownQueryError."""

    def __init__(self, source: str, statements: Mapping[str, str]) -> None:
        self._source = source
        self._statements = dict(statements)

    def __getitem__(self, name: str) -> str:
        try:
            return self._statements[name]
        except KeyError:
            known = ", ".join(sorted(self._statements)) or "nothing"
            raise UnknownQueryError(f"{self._source} has no query named {name!r}; it has {known}") from None

    def __contains__(self, name: object) -> bool:
        return name in self._statements

    def __iter__(self) -> Iterator[str]:
        return iter(self._statements)

    def __len__(self) -> int:
        return len(self._statements)


@cache
def sql_directory() -> Path:
    """Return the folder that holds `migrations/`, `functions/` and `queries/`.

    In a wheel it lies inside the package, in a checkout beside it.

    Raises:
        SqlFileError: neither is there, so the installation is broken.
    """
    package = Path(__file__).resolve().parent
    for candidate in (package / "sql", package.parent / "sql"):
        if (candidate / "migrations").is_dir():
            return candidate
    raise SqlFileError("the SQL files of bms-ingest are missing; install it again")


@cache
def load_queries(name: str, directory: Path | None = None) -> Queries:
    """Read `queries/<name>.sql`: over each statement stand `-- name: slug` and a line with its purpose.

    Args:
        name: file name without its ending.
        directory: where the file is, when it is not one of the program's own.

    Raises:
        SqlFileError: no such file, or a statement without a proper name, purpose or text.
    """
    path = (directory or sql_directory() / "queries") / f"{name}.sql"
    try:
        text = path.read_text(encoding="utf-8")
    except FileNotFoundError:
        raise SqlFileError(
            f"there are no queries named {name!r}: {path.name} is not in {path.parent}"
        ) from None
    return Queries(path.name, _parse(path.name, text))


def _parse(source: str, text: str) -> dict[str, str]:
    marks = list(_NAME.finditer(text))
    if not marks:
        raise SqlFileError(f"{source} holds no statement under a '-- name: slug' line")
    statements: dict[str, str] = {}
    for mark, following in zip(marks, [*marks[1:], None], strict=True):
        name = mark["name"].strip()
        if not _SLUG.fullmatch(name):
            raise SqlFileError(f"{source}: {name!r} is not a query name; use lower case, digits, underscores")
        if name in statements:
            raise SqlFileError(f"{source}: two queries are named {name!r}")
        purpose, _, statement = (
            text[mark.end() : following and following.start()].lstrip("\n").partition("\n")
        )
        if not purpose.startswith("-- ") or not purpose[3:].strip():
            raise SqlFileError(f"{source}: a line with its purpose is missing under '-- name: {name}'")
        statement = statement.strip().removesuffix(";").rstrip()
        if not statement:
            raise SqlFileError(f"{source}: query {name!r} has no statement")
        statements[name] = statement
    return statements
