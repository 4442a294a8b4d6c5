"""The settings in short, with their secrets masked; they were checked when they were loaded."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from typing import Any

from bms_ingest.doctor.result import Report, Result, ok


class ConfigurationExamination:
    """Shows what all other lines are about.

    Args:
        shown: the settings as `settings.shown` gives them, secrets masked.
    """

    def __init__(self, shown: Mapping[str, Any]) -> None:
        self._shown = shown

    @property
    def checks(self) -> Sequence[str]:
        """Names of the checks, in order."""
        return ("settings",)

    async def run(self, report: Report) -> None:
        """Report the settings."""
        report(judge_settings(self._shown))


def judge_settings(shown: Mapping[str, Any]) -> Result:
    """Name the addresses and the identity of the daemon."""
    mqtt, batch = shown["mqtt"], shown["batch"]
    share = f", share group {mqtt['share_group']}" if mqtt["share_group"] else ""
    return ok(
        "settings",
        f"database {shown['database']['dsn']}, broker {mqtt['url']}, client id {mqtt['client_id']}{share}, "
        f"topic {mqtt['telemetry_topic']}, batches of up to {batch['max_rows']} rows",
    )
