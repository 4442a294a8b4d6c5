"""Fixtures of every suite; each room's live in a module of their own."""

pytest_plugins = ["tests.fixtures.postgres", "tests.fixtures.brokers", "tests.fixtures.daemon"]
