"""What a line looks like, what it never holds, and how repetition is held back."""

from __future__ import annotations

import json
import logging
from collections.abc import Iterator
from datetime import UTC, datetime, timedelta

import pytest
import structlog
from hypothesis import given
from hypothesis import strategies as st

from bms_ingest.log import RateLimited, configure, get_logger, mask_secrets, mask_text
from bms_ingest.settings import LogSettings


@pytest.fixture(autouse=True)
def _logging_as_before() -> Iterator[None]:
    root = logging.getLogger()
    handlers, level = list(root.handlers), root.level
    yield
    root.handlers[:] = handlers
    root.setLevel(level)
    logging.captureWarnings(capture=False)
    structlog.reset_defaults()


def lines(capsys: pytest.CaptureFixture[str]) -> list[dict[str, object]]:
    captured = capsys.readouterr()
    assert captured.out == ""
    return [json.loads(line) for line in captured.err.splitlines()]


def test_a_line_is_one_json_document_with_time_level_logger_and_facts(
    capsys: pytest.CaptureFixture[str],
) -> None:
    configure(LogSettings())
    get_logger("bms_ingest.somewhere").info("batch_stored", rows=12, window=timedelta(seconds=3), note="a\nb")
    (line,) = lines(capsys)
    moment = datetime.fromisoformat(str(line.pop("timestamp")))
    assert moment.tzinfo == UTC
    assert line == {
        "event": "batch_stored",
        "level": "info",
        "logger": "bms_ingest.somewhere",
        "rows": 12,
        "window": "0:00:03",
        "note": "a\nb",
    }


def test_a_logger_made_before_configure_takes_the_same_road(capsys: pytest.CaptureFixture[str]) -> None:
    early = structlog.get_logger("early")
    configure(LogSettings())
    early.warning("came_late")
    (line,) = lines(capsys)
    assert (line["event"], line["level"], line["logger"]) == ("came_late", "warning", "early")


def test_stdlib_logging_of_libraries_comes_out_in_the_same_form(capsys: pytest.CaptureFixture[str]) -> None:
    configure(LogSettings())
    logging.getLogger("uvicorn.error").info("Started server process")
    logging.getLogger("some.library").warning("lost %s of %d", "one", 3, extra={"host": "db"})
    (line,) = lines(capsys)
    assert (line["event"], line["logger"], line["host"]) == ("lost one of 3", "some.library", "db")


def test_level_and_second_configure_hold(capsys: pytest.CaptureFixture[str]) -> None:
    configure(LogSettings(level="debug"))
    configure(LogSettings(level="warning"))
    logger = get_logger("x")
    logger.info("quiet")
    logger.warning("loud")
    assert [line["event"] for line in lines(capsys)] == ["loud"]


def test_console_format_is_not_json(capsys: pytest.CaptureFixture[str]) -> None:
    configure(LogSettings(format="console"))
    get_logger("x").info("batch_stored", rows=12)
    text = capsys.readouterr().err
    assert "batch_stored" in text
    assert "rows=12" in text
    assert not text.lstrip().startswith("{")


@pytest.mark.parametrize("form", ["console", "json"])
def test_an_exception_is_logged_with_traceback_and_without_its_secret(
    capsys: pytest.CaptureFixture[str], form: str
) -> None:
    configure(LogSettings.model_validate({"format": form}))
    password = "hunter" + "2hunter2"
    dsn = f"postgresql://ingest:{password}@db/bms"
    try:
        raise ConnectionError("cannot reach " + dsn)
    except ConnectionError:
        get_logger("x").exception(
            "connect_failed", dsn=dsn, tried={"url": dsn, "password": password}, url=[dsn]
        )
    text = capsys.readouterr().err
    assert "Traceback" in text
    assert "cannot reach postgresql://ingest:***@db/bms" in text
    assert password not in text


@pytest.mark.parametrize(
    ("text", "masked"),
    [
        ("mqtts://gw:s3cret@broker:8883", "mqtts://gw:***@broker:8883"),
        ("mqtt://:p@ss/w@rd@broker and mqtt://b:c@d", "mqtt://:***@broker and mqtt://b:***@d"),
        ("host=db password='two words' user=x", "host=db password=*** user=x"),
        ("PGPASSWORD=abc psql", "PGPASSWORD=*** psql"),
        ('{"password": "abc", "a": 1}', '{"password": ***, "a": 1}'),
        ("wrong password: see the manual", "wrong password: see the manual"),
        (
            "mqtt://broker:1883 refused bms/sites/7/telemetry",
            "mqtt://broker:1883 refused bms/sites/7/telemetry",
        ),
    ],
)
def test_passwords_in_texts_are_masked(text: str, masked: str) -> None:
    assert mask_text(text) == masked


@given(
    st.text(st.characters(exclude_categories=("Z", "C")), min_size=6), st.sampled_from(["mqtt", "postgresql"])
)
def test_no_password_survives_in_a_url(password: str, scheme: str) -> None:
    secret = f"<{password}>"
    assert secret not in mask_text(f"error at {scheme}://user:{secret}@host/base: refused")


@pytest.mark.parametrize(
    "key", ["password", "mqtt_password", "dsn", "api_key", "apikey", "token", "Authorization"]
)
def test_keys_named_like_secrets_are_masked_whatever_they_hold(key: str) -> None:
    assert mask_secrets(None, "info", {key: "abc", "inner": {key: b"abc"}}) == {
        key: "***",
        "inner": {key: "***"},
    }


def test_a_repeated_warning_speaks_once_an_interval_and_counts_the_rest() -> None:
    now = 100.0
    with structlog.testing.capture_logs() as spoken:
        limited = RateLimited(get_logger("x"), timedelta(seconds=10), clock=lambda: now)
        for _ in range(13):
            limited.warning("write_failed", error="down")
        limited.error("other_trouble")
        now = 109.9
        limited.warning("write_failed", error="down")
        now = 110.0
        limited.warning("write_failed", error="still down")
        now = 121.0
        limited.warning("write_failed", error="down")
    said = [(line["event"], line.get("error"), line.get("suppressed")) for line in spoken]
    assert said == [
        ("write_failed", "down", None),
        ("other_trouble", None, None),
        ("write_failed", "still down", 13),
        ("write_failed", "down", None),
    ]
