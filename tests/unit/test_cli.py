"""What the command line promises before it touches a server: help, usage, exit codes, and how things look."""

from __future__ import annotations

import io
import json
import os
import re
import subprocess
import sys
import tomllib
from collections.abc import Callable, Iterator
from datetime import UTC, datetime, timedelta
from pathlib import Path
from typing import IO, Any

import pytest
import typer
from hypothesis import given
from hypothesis import strategies as st
from typer.main import get_command

import bms_ingest
from bms_ingest.cli import app
from bms_ingest.cli.arguments import duration, moment
from bms_ingest.cli.config import toml_lines
from bms_ingest.cli.output import cell, make_streams_robust, print_json, print_table, visible
from bms_ingest.cli.prose import filled
from bms_ingest.cli.quarantine import hex_dump

PASSWORD = "s3cret" + "-of-the-database"
VALID = {
    "BMS_INGEST_DATABASE__DSN": f"postgresql://ingest:{PASSWORD}@127.0.0.1:1/bms",
    "BMS_INGEST_MQTT__URL": f"mqtt://ingest:{PASSWORD}@127.0.0.1:1",
}

Run = Callable[..., subprocess.CompletedProcess[str]]


@pytest.fixture
def run() -> Run:
    """Runs the program in an environment without settings but those that are given."""

    def start(
        *arguments: str, stdout: int | IO[str] = subprocess.PIPE, **settings: str
    ) -> subprocess.CompletedProcess[str]:
        kept = {name: value for name, value in os.environ.items() if not name.startswith("BMS_INGEST_")}
        return subprocess.run(
            [sys.executable, "-m", "bms_ingest", *arguments],
            env={**kept, "COLUMNS": "110", **settings},
            stdout=stdout,
            stderr=subprocess.PIPE,
            text=True,
            timeout=60,
            check=False,
        )

    return start


def commands() -> Iterator[tuple[str, ...]]:
    def below(command: Any, path: tuple[str, ...]) -> Iterator[tuple[str, ...]]:
        if not hasattr(command, "commands"):
            yield path
            return
        for name, child in command.commands.items():
            yield from below(child, (*path, name))

    return below(get_command(app), ())


def test_every_promised_command_is_there() -> None:
    assert {" ".join(path) for path in commands()} == {
        "run",
        "migrate",
        "demo",
        "simulate",
        "doctor",
        "config check",
        "config show",
        "sites add",
        "sites list",
        "sites pending",
        "quarantine list",
        "quarantine show",
        "partitions list",
        "partitions ensure",
    }


@pytest.mark.parametrize("path", list(commands()), ids=" ".join)
def test_help_says_what_the_command_does_and_shows_an_example_of_it(path: tuple[str, ...]) -> None:
    command: Any = get_command(app)
    for name in path:
        command = command.commands[name]
    text = command.help
    assert re.match(r"[A-Z].+\.", text)
    assert re.search(rf"Examples?:\n(?:.*\n)?.*bms-ingest .*{' '.join(path)}", text), text


@pytest.mark.parametrize("path", list(commands()), ids=" ".join)
def test_no_option_takes_a_secret_by_value(path: tuple[str, ...]) -> None:
    command: Any = get_command(app)
    for name in path:
        command = command.commands[name]
    options = [option for parameter in command.params for option in parameter.opts]
    assert not [option for option in options if re.search("pass|secret|token|dsn", option)]


def test_help_names_the_variables_and_the_exit_codes(run: Run) -> None:
    program, command = run("--help"), run("run", "--help")
    assert program.returncode == command.returncode == 0
    assert "2 wrong usage or configuration" in program.stdout
    assert "BMS_INGEST_CONFIG" in program.stdout
    for name in VALID:
        assert name in command.stdout


def test_version_is_printed(run: Run) -> None:
    finished = run("--version")
    assert (finished.returncode, finished.stdout) == (0, f"bms-ingest {bms_ingest.__version__}\n")


@pytest.mark.parametrize(
    "arguments",
    [
        ("fly",),
        ("sites", "add", "--name", "without an organization"),
        ("sites", "add", "--organization", "a", "--name", "b", "--latitude", "91"),
        ("sites", "add", "--organization", "a", "--name", "b", "--id", "0"),
        ("sites", "add", "--organization", "a", "--name", "b", "--expected-interval", "soon"),
        ("sites", "add", "--organization", "a", "--name", "b", "--nominal-voltage", "nan"),
        ("sites", "add", "--organization", "a", "--name", "b", "--nominal-voltage", "-1"),
        ("sites", "add", "--organization", "a", "--name", " "),
        ("sites", "add", "--organization", "a\x1bb", "--name", "b"),
        ("quarantine", "list", "--reason", "bad_mood"),
        ("quarantine", "list", "--since", "yesterday"),
        ("quarantine", "show", "all"),
    ],
)
def test_wrong_usage_is_2_and_not_a_traceback(run: Run, arguments: tuple[str, ...]) -> None:
    finished = run(*arguments, **VALID)
    assert finished.returncode == 2
    assert "Traceback" not in finished.stderr
    assert finished.stdout == ""


@pytest.mark.parametrize(
    "arguments", [("run",), ("migrate",), ("doctor",), ("sites", "list"), ("config", "check")]
)
def test_a_missing_setting_is_2_with_a_sentence_each(run: Run, arguments: tuple[str, ...]) -> None:
    finished = run(*arguments)
    assert finished.returncode == 2
    first, second = finished.stderr.splitlines()
    assert first.startswith("bms-ingest: ")
    assert "BMS_INGEST_DATABASE__DSN" in first
    assert "BMS_INGEST_MQTT__URL" in second


def test_config_check_and_show_leave_secrets_out(run: Run) -> None:
    assert run("config", "check", **VALID).stdout == "ok\n"
    document = json.loads(run("config", "show", "--json", **VALID).stdout)
    toml = run("config", "show", **VALID)
    assert PASSWORD not in toml.stdout + toml.stderr + json.dumps(document)
    assert tomllib.loads(toml.stdout)["batch"] == document["batch"]
    assert document["database"]["dsn"] == "postgresql://ingest:***@127.0.0.1:1/bms"


def test_config_file_goes_below_the_environment(run: Run, tmp_path: Path) -> None:
    config = tmp_path / "config.toml"
    config.write_text("[batch]\nmax_rows = 77\nmax_wait = '1s'\n")
    for arguments, more in ((("--config", str(config)), {}), ((), {"BMS_INGEST_CONFIG": str(config)})):
        finished = run(
            *arguments, "config", "show", "--json", **VALID, **more, BMS_INGEST_BATCH__MAX_WAIT="2s"
        )
        batch = json.loads(finished.stdout)["batch"]
        assert (batch["max_rows"], batch["max_wait"]) == (77, "2s")


def test_an_unreadable_config_file_is_one_sentence_of_ours(run: Run, tmp_path: Path) -> None:
    config = tmp_path / "config.toml"
    config.write_text("")
    config.chmod(0)
    names: tuple[Path, ...] = (tmp_path, tmp_path / "nowhere.toml")
    for path in names if os.geteuid() == 0 else (*names, config):
        finished = run("--config", str(path), "config", "check", **VALID)
        assert finished.returncode == 2
        (line,) = finished.stderr.splitlines()
        assert line.startswith(f"bms-ingest: the configuration file {path} cannot be read")


@pytest.mark.parametrize("arguments", [("config", "show"), ("config", "show", "--json"), ("--help",)])
def test_a_full_disk_is_1_with_one_sentence(run: Run, arguments: tuple[str, ...]) -> None:
    with Path("/dev/full").open("w") as full:
        finished = run(*arguments, **VALID, stdout=full)
    assert finished.returncode == 1
    (line,) = finished.stderr.splitlines()
    assert line.startswith("bms-ingest: cannot go on: ")
    assert "No space left on device" in line


def test_what_the_encoding_lacks_is_escaped_and_json_stays_json(
    capsys: pytest.CaptureFixture[str], monkeypatch: pytest.MonkeyPatch
) -> None:
    for encoding in ("ascii", "latin-1"):
        written = io.BytesIO()
        monkeypatch.setattr(sys, "stdout", io.TextIOWrapper(written, encoding=encoding))
        make_streams_robust()
        print_table(("name",), [("Höhe … 电",)], empty="none")
        print_json(["Höhe … 电"])
        sys.stdout.flush()
        table, _, document = written.getvalue().decode(encoding).partition("[")
        assert "\\u2026" in table
        assert json.loads(f"[{document}") == ["Höhe … 电"]


def test_output_that_was_closed_before_the_start_goes_nowhere(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(sys, "stdout", None)
    make_streams_robust()
    with sys.stdout:
        print_table(("name",), [("x",)], empty="none")


def test_what_config_show_prints_is_a_config_file(run: Run, tmp_path: Path) -> None:
    plain = {"BMS_INGEST_DATABASE__DSN": "postgresql://h/b", "BMS_INGEST_MQTT__URL": "mqtt://h"}
    first = run("config", "show", **plain).stdout
    config = tmp_path / "config.toml"
    config.write_text(first)
    assert run("--config", str(config), "config", "show").stdout == first


@pytest.mark.parametrize(
    "arguments", [("migrate",), ("sites", "list", "--json"), ("quarantine", "show", "1")]
)
def test_a_database_that_is_down_is_1_with_one_sentence(run: Run, arguments: tuple[str, ...]) -> None:
    finished = run(*arguments, **VALID)
    assert finished.returncode == 1
    assert finished.stdout == ""
    (line,) = finished.stderr.splitlines()
    assert line.startswith("bms-ingest: the database cannot do this: ")
    assert line.endswith("bms-ingest doctor")
    assert PASSWORD not in line


def test_moments_are_absolute_or_relative_and_utc_without_an_offset() -> None:
    assert moment("2026-03-01T12:00+02:00") == datetime(2026, 3, 1, 10, tzinfo=UTC)
    assert moment("2026-03-01") == datetime(2026, 3, 1, tzinfo=UTC)
    before = datetime.now(UTC)
    assert before - timedelta(hours=2) <= moment("2h") <= datetime.now(UTC) - timedelta(hours=2)
    for nonsense in ("", "later", "99999999d", "2026-02-30"):
        with pytest.raises(typer.BadParameter):
            moment(nonsense)


@pytest.mark.parametrize("text", ["0s", "-1s", "quick", ""])
def test_durations_are_positive(text: str) -> None:
    with pytest.raises(typer.BadParameter, match="30s, 5min or 1h"):
        duration(text)


def test_tables_show_no_value_cut_where_there_is_no_terminal(capsys: pytest.CaptureFixture[str]) -> None:
    print_table(("id", "detail"), [(1, "x" * 500), (None, "[red]not markup[/red]")], empty="none")
    out = capsys.readouterr().out
    assert "x" * 500 in out
    assert "[red]not markup[/red]" in out
    print_table(("id",), [], empty="there is nothing")
    assert capsys.readouterr().out == "there is nothing\n"


def test_json_is_one_document_with_offsets(capsys: pytest.CaptureFixture[str]) -> None:
    print_json([{"at": datetime(2026, 3, 1, tzinfo=UTC), "name": "Höhe"}])
    assert json.loads(capsys.readouterr().out) == [{"at": "2026-03-01T00:00:00+00:00", "name": "Höhe"}]


@given(st.text())
def test_nothing_that_a_terminal_obeys_is_printed(text: str) -> None:
    assert all(character.isprintable() for character in cell(text))
    assert all(character.isprintable() or character in "\n\t" for character in visible(text, keep="\n\t"))


@given(st.binary(max_size=200))
def test_a_hex_dump_holds_every_byte(payload: bytes) -> None:
    lines = list(hex_dump(payload))
    assert bytes.fromhex("".join(line[10:57] for line in lines)) == payload
    assert [int(line[:8], 16) for line in lines] == list(range(0, len(payload), 16))


def test_help_paragraphs_are_filled_and_examples_kept() -> None:
    assert filled("One\ntwo.\n\n\b\nExample:\n  a\n  b\n\nThree\nfour.") == (
        "One two.\n\nExample:\n  a\n  b\n\nThree four."
    )


def test_toml_has_no_table_without_settings() -> None:
    assert toml_lines({"a": 1, "b": {"c": None}, "d": {"e": {"f": "x"}}}) == [
        "a = 1",
        "",
        "[b]",
        "# c is not set",
        "",
        "[d.e]",
        'f = "x"',
    ]
