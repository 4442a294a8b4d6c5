"""The page and the sample file that describe the settings are complete and true."""

from __future__ import annotations

import re
import tomllib
from collections.abc import Iterator
from datetime import timedelta
from pathlib import Path
from typing import Any

import pytest
from pydantic_core import PydanticUndefined

from bms_ingest.durations import format_duration
from bms_ingest.models import METRICS
from bms_ingest.settings import Settings, load_settings
from bms_ingest.settings_limits import DEFAULT_LIMITS
from bms_ingest.settings_tree import ANY_NAME, Setting, dotted, variable, walk

ROOT = Path(__file__).parents[2]
PAGE = (ROOT / "docs" / "configuration.md").read_text()
SAMPLE = ROOT / "deploy" / "bms-ingest.toml"


def every_setting() -> Iterator[tuple[Setting, tuple[str, ...], Any]]:
    """Yield each setting with its full path and default (None: required or not set), once for each metric."""
    for setting in walk(Settings):
        if ANY_NAME not in setting.path:
            default = setting.field.default
            yield setting, setting.path, None if default is PydanticUndefined else default
            continue
        for name in METRICS:
            bound = DEFAULT_LIMITS[name][0 if setting.path[-1] == "low" else 1]
            yield setting, tuple(name if part == ANY_NAME else part for part in setting.path), bound


def rows_of_page() -> dict[str, list[str]]:
    """Return the cells of each row that describes a setting, by the setting's name."""
    rows = [
        [cell.strip() for cell in line.strip("|").split("|")] for line in PAGE.splitlines() if line[:1] == "|"
    ]
    return {row[0].strip("`"): row for row in rows if row[0].startswith("`")}


PLAIN = [(path, default) for _, path, default in every_setting() if path[0] != "limits"]


@pytest.mark.parametrize(("path", "default"), PLAIN)
def test_page_has_a_row_with_name_variable_default_and_purpose(
    path: tuple[str, ...], default: object
) -> None:
    _, name, shown, purpose = rows_of_page()[dotted(path)]

    assert name == f"`{variable(path)}`"
    assert purpose
    if isinstance(default, timedelta):
        assert shown == f"`{format_duration(default)}`"
    elif default is not None:
        assert shown == f"`{default}`"
    else:
        assert shown in ("", "required")


@pytest.mark.parametrize("metric", METRICS)
def test_page_has_a_row_with_the_limits_of_each_metric(metric: str) -> None:
    low, high = DEFAULT_LIMITS[metric]

    assert rows_of_page()[f"limits.{metric}"][1:3] == [f"`{low:g}`", f"`{high:g}`"]


def test_page_names_no_setting_that_does_not_exist() -> None:
    known = {dotted(path) for path, _ in PLAIN} | {f"limits.{metric}" for metric in METRICS}

    assert set(rows_of_page()) == known
    variables = {variable(path) for _, path, _ in every_setting()} | {"BMS_INGEST_CONFIG"}
    assert set(re.findall(r"BMS_INGEST_[A-Z0-9_]*[A-Z0-9]\b", PAGE)) <= variables


def test_sample_loads_and_changes_no_default() -> None:
    sample = load_settings(SAMPLE, {})
    bare = load_settings(
        None,
        {
            "BMS_INGEST_DATABASE__DSN": sample.database.dsn.get_secret_value(),
            "BMS_INGEST_MQTT__URL": sample.mqtt.url.get_secret_value(),
        },
    )

    assert sample == bare


def test_sample_shows_every_option_with_its_default_under_a_comment() -> None:
    text = SAMPLE.read_text()
    options = tomllib.loads(re.sub(r"^#(?=[a-z])", "", text, flags=re.MULTILINE))

    shown = dict(leaves(options))
    assert set(shown) == {path for _, path, _ in every_setting()}
    for setting, path, default in every_setting():
        if default is not None:
            written = format_duration(default) if isinstance(default, timedelta) else default
            assert shown[path] == written, setting.path
    lines = text.splitlines()
    for number, line in enumerate(lines):
        if re.match(r"#?[a-z_0-9]+ = ", line):
            assert lines[number - 1].startswith("#"), f"no comment over {line}"


def leaves(table: dict[str, Any], above: tuple[str, ...] = ()) -> Iterator[tuple[tuple[str, ...], Any]]:
    """Yield each value of nested tables with its path."""
    for name, value in table.items():
        if isinstance(value, dict):
            yield from leaves(value, (*above, name))
        else:
            yield (*above, name), value
