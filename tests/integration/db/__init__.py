"""Tests of the schema, the database room and the partitions, on a real server."""

from pathlib import Path

QUERIES = Path(__file__).parent / "queries"
SCRIPTS = Path(__file__).parent / "scripts"
