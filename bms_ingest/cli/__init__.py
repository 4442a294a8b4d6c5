"""The command line: one module a group of commands, which only wire the rooms and print."""

from bms_ingest.cli.program import app, main

__all__ = ["app", "main"]
