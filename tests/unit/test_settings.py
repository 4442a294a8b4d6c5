"""Where settings come from, which of them wins, and what is refused."""

from __future__ import annotations

import json
from datetime import timedelta
from pathlib import Path

import pytest
from pydantic_core import PydanticUndefined

from bms_ingest.durations import format_duration
from bms_ingest.errors import SettingsError
from bms_ingest.models import METRICS
from bms_ingest.settings import Bounds, Settings, load_settings, shown
from bms_ingest.settings_tree import variable, walk

REQUIRED = {
    "BMS_INGEST_DATABASE__DSN": "postgresql://bms@db/bms",
    "BMS_INGEST_MQTT__URL": "mqtt://broker",
}


def load(text: str | None = None, tmp_path: Path | None = None, **variables: str) -> Settings:
    """Load with the required settings, a file of this text, and variables named without their prefix."""
    config = None
    if text is not None:
        assert tmp_path is not None
        config = tmp_path / "bms-ingest.toml"
        config.write_text(text)
    own = {f"BMS_INGEST_{name}": value for name, value in variables.items()}
    return load_settings(config, {**REQUIRED, **own})


def mistakes(text: str | None = None, tmp_path: Path | None = None, **variables: str) -> list[str]:
    """Return the sentences of the error that loading ends in."""
    with pytest.raises(SettingsError) as caught:
        load(text, tmp_path, **variables)
    return str(caught.value).splitlines()


def test_the_two_required_settings_are_enough() -> None:
    settings = load()

    assert settings.database.dsn.get_secret_value() == "postgresql://bms@db/bms"
    assert settings.batch.max_rows == 5_000
    assert settings.retention.raw == timedelta(days=90)
    assert list(settings.limits) == list(METRICS)


def test_environment_goes_over_the_file(tmp_path: Path) -> None:
    text = '[batch]\nmax_rows = 100\nmax_wait = "1s"\n[http]\nport = 1\n'

    settings = load(text, tmp_path, BATCH__MAX_ROWS="200", HTTP__HOST="::1")

    assert settings.batch.max_rows == 200
    assert settings.batch.max_wait == timedelta(seconds=1)
    assert (settings.http.host, settings.http.port) == ("::1", 1)


def test_file_named_by_the_environment_is_read(tmp_path: Path) -> None:
    config = tmp_path / "named.toml"
    config.write_text("[batch]\nmax_rows = 7\n")

    assert load(CONFIG=str(config)).batch.max_rows == 7


def test_file_given_as_argument_goes_before_the_one_in_the_environment(tmp_path: Path) -> None:
    (tmp_path / "named.toml").write_text("[batch]\nmax_rows = 7\n")

    assert load("[batch]\nmax_rows = 8\n", tmp_path, CONFIG=str(tmp_path / "named.toml")).batch.max_rows == 8


def test_variables_of_other_programs_are_none_of_our_business() -> None:
    settings = load_settings(None, {**REQUIRED, "PATH": "/bin", "MQTT__URL": "x", "PGPASSWORD": "x"})

    assert settings.mqtt.host == "broker"


def test_process_environment_is_read_when_none_is_given(monkeypatch: pytest.MonkeyPatch) -> None:
    for name, value in {**REQUIRED, "BMS_INGEST_BATCH__MAX_ROWS": "123"}.items():
        monkeypatch.setenv(name, value)

    assert load_settings().batch.max_rows == 123


def test_settings_made_in_code_ignore_the_environment(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("BMS_INGEST_BATCH__MAX_ROWS", "123")
    monkeypatch.setenv("BATCH", '{"max_rows": 124}')

    made = Settings.model_validate({"database": {"dsn": "postgresql://db"}, "mqtt": {"url": "mqtt://b"}})

    assert made.batch.max_rows == 5_000


def test_empty_variable_counts_as_not_set() -> None:
    settings = load(MQTT__SHARE_GROUP="", BATCH__MAX_ROWS="", CONFIG="")

    assert settings.mqtt.share_group is None
    assert settings.batch.max_rows == 5_000


def test_missing_settings_are_each_named_with_what_to_write() -> None:
    with pytest.raises(SettingsError) as caught:
        load_settings(None, {})

    dsn, url = str(caught.value).splitlines()
    assert dsn == (
        "`database.dsn` / BMS_INGEST_DATABASE__DSN is missing; write "
        "postgresql://user:password@host:5432/database, or name a file that holds it in "
        "`database.dsn_file` / BMS_INGEST_DATABASE__DSN_FILE"
    )
    assert url.startswith("`mqtt.url` / BMS_INGEST_MQTT__URL is missing; write mqtt://")


@pytest.mark.parametrize(
    ("name", "value", "sentence"),
    [
        (
            "BATCH__MAX_ROWS",
            "many",
            "`batch.max_rows` / BMS_INGEST_BATCH__MAX_ROWS is 'many'; "
            "write a whole number of at least 1 and at most 50000, such as 5000",
        ),
        (
            "BATCH__MAX_WAIT",
            "soon",
            "`batch.max_wait` / BMS_INGEST_BATCH__MAX_WAIT is 'soon'; "
            'write a duration of more than 0s and at most 36525d, such as "50ms"',
        ),
        (
            "LOG__LEVEL",
            "loud",
            "`log.level` / BMS_INGEST_LOG__LEVEL is 'loud'; "
            'write one of "debug", "info", "warning", "error"',
        ),
        (
            "LIMITS__GRID_VOLTAGE__HIGH",
            "inf",
            "`limits.grid_voltage.high` / BMS_INGEST_LIMITS__GRID_VOLTAGE__HIGH is 'inf'; "
            "write a number of at most 3.4e+38",
        ),
        (
            "LIMITS__GRID_VOLTAGE__HIGH",
            "-1",
            "`limits.grid_voltage` / BMS_INGEST_LIMITS__GRID_VOLTAGE has low 0 above high -1; "
            "write them the other way round",
        ),
        (
            "LIMITS__GRID_VOLTS__HIGH",
            "1",
            "`limits` / BMS_INGEST_LIMITS names no metric 'grid_volts'; did you mean grid_voltage?",
        ),
        (
            "MQTT__CLIENT_ID",
            "x" * 129,
            "`mqtt.client_id` / BMS_INGEST_MQTT__CLIENT_ID is '" + "x" * 79 + "…; "
            "write text of at least 1 and at most 128 characters",
        ),
        (
            "MQTT__SHARE_GROUP",
            "a/b",
            "`mqtt.share_group` / BMS_INGEST_MQTT__SHARE_GROUP must be plain text without / + #; "
            "write a word such as bms-ingest",
        ),
        (
            "MQTT__TELEMETRY_TOPIC",
            "bms/sites/+/telemetry",
            "`mqtt.telemetry_topic` / BMS_INGEST_MQTT__TELEMETRY_TOPIC must hold {site_id} exactly once, "
            "as a whole level; write for example bms/sites/{site_id}/telemetry",
        ),
        (
            "MQTT__STATUS_TOPIC",
            "bms/sites/{site_id}/telemetry",
            "`mqtt.status_topic` / BMS_INGEST_MQTT__STATUS_TOPIC is the same as `mqtt.telemetry_topic` / "
            "BMS_INGEST_MQTT__TELEMETRY_TOPIC; write the topic on which gateways publish online and offline",
        ),
        (
            "BATCH__MAX_ROWS",
            "10001",
            "`batch.max_rows` / BMS_INGEST_BATCH__MAX_ROWS is 10001, more than `mqtt.receive_maximum` / "
            "BMS_INGEST_MQTT__RECEIVE_MAXIMUM (10000), and the broker sends no more than that before a batch "
            "is acknowledged; write at most 10000, or raise the other",
        ),
        (
            "MQTT__TLS_CA_FILE",
            "/no/such/file.pem",
            "`mqtt.tls_ca_file` / BMS_INGEST_MQTT__TLS_CA_FILE is /no/such/file.pem, which cannot be read "
            "(No such file or directory); write the path of a PEM file",
        ),
        (
            "MQTT__KEEPALIVE",
            "1d",
            "`mqtt.keepalive` / BMS_INGEST_MQTT__KEEPALIVE is 1d; "
            'write a duration of at least 1s and at most 65535s, such as "30s"',
        ),
        (
            "BATCH_MAX_ROWS",
            "5",
            "BMS_INGEST_BATCH_MAX_ROWS is not a setting; did you mean BMS_INGEST_BATCH__MAX_ROWS?",
        ),
        ("MQTT__URLL", "5", "BMS_INGEST_MQTT__URLL is not a setting; did you mean BMS_INGEST_MQTT__URL?"),
        ("ZZZ", "5", "BMS_INGEST_ZZZ is not a setting; remove it"),
        (
            "MQTT",
            '{"url": "mqtt://b"}',
            "BMS_INGEST_MQTT names a group of settings; "
            "write one of its settings, such as BMS_INGEST_MQTT__URL",
        ),
        (
            "LIMITS__GRID_VOLTAGE",
            "240",
            "BMS_INGEST_LIMITS__GRID_VOLTAGE names a group of settings; "
            "write one of its settings, such as BMS_INGEST_LIMITS__GRID_VOLTAGE__LOW",
        ),
    ],
)
def test_mistake_in_the_environment_is_one_sentence(name: str, value: str, sentence: str) -> None:
    assert mistakes(None, None, **{name: value}) == [sentence]


@pytest.mark.parametrize(
    ("text", "sentence"),
    [
        ("[batch]\nmax_row = 5\n", "`batch.max_row` is not a setting; did you mean batch.max_rows?"),
        ("[bach]\nmax_rows = 5\n", "`bach` is not a setting; did you mean batch?"),
        ("_env_file = '/etc/passwd'\n", "`_env_file` is not a setting; remove it"),
        ("batch = 5\n", "`batch` is not a group; write a table [batch] with its settings below"),
        ("limits = 5\n", "`limits` is not a group; write a table [limits] with its settings below"),
        (
            "[limits]\ngrid_voltage = 5\n",
            "`limits.grid_voltage` is not a group; "
            "write a table [limits.grid_voltage] with its settings below",
        ),
        (
            "[limits]\ngrid_voltage = { lo = 5 }\n",
            "`limits.grid_voltage.lo` is not a setting; did you mean limits.grid_voltage.low?",
        ),
        (
            "[batch]\nmax_rows = 5.5\n",
            "`batch.max_rows` / BMS_INGEST_BATCH__MAX_ROWS is 5.5; "
            "write a whole number of at least 1 and at most 50000, such as 5000",
        ),
        (
            "[batch]\nmax_rows = true\n",
            "`batch.max_rows` / BMS_INGEST_BATCH__MAX_ROWS is true; "
            "write a whole number of at least 1 and at most 50000, such as 5000",
        ),
        (
            "[limits]\ngrid_voltage = { low = false }\n",
            "`limits.grid_voltage.low` / BMS_INGEST_LIMITS__GRID_VOLTAGE__LOW is false; "
            "write a number of at least -3.4e+38",
        ),
        (
            "[batch]\nmax_wait = nan\n",
            "`batch.max_wait` / BMS_INGEST_BATCH__MAX_WAIT is not a number of seconds; "
            'write a duration such as "30s", "10 min" or "90d"',
        ),
        (
            "[http]\nhost = [1]\n",
            "`http.host` / BMS_INGEST_HTTP__HOST is a table or a list; write text of at least 1 characters",
        ),
    ],
)
def test_mistake_in_the_file_is_one_sentence(tmp_path: Path, text: str, sentence: str) -> None:
    assert mistakes(text, tmp_path) == [sentence]


def test_malformed_file_is_named_with_line_and_column(tmp_path: Path) -> None:
    (sentence,) = mistakes("[batch]\nmax_rows = = 5\n", tmp_path)

    assert "bms-ingest.toml is not TOML" in sentence
    assert "line 2, column 12" in sentence


def test_file_that_is_not_text_is_named_with_its_line(tmp_path: Path) -> None:
    config = tmp_path / "config.toml"
    config.write_bytes(b"[batch]\n# caf\xe9\n")

    with pytest.raises(SettingsError, match=r"config\.toml is not UTF-8 text \(at line 2\)"):
        load_settings(config, REQUIRED)


def test_missing_file_says_who_asked_for_it(tmp_path: Path) -> None:
    (sentence,) = mistakes(CONFIG=str(tmp_path / "nowhere.toml"))

    assert sentence.startswith("BMS_INGEST_CONFIG: the configuration file ")
    assert "No such file or directory" in sentence


def test_each_of_several_mistakes_has_a_line_of_its_own(tmp_path: Path) -> None:
    sentences = mistakes(
        "[batch]\nmax_row = 5\n",
        tmp_path,
        HTTP__PORT="99999",
        LOG__LEVEL="loud",
        NOPE="1",
        MQTT__PROTOCOL="6",
    )

    assert len(sentences) == 5
    for name in ("batch.max_row`", "http.port", "log.level", "BMS_INGEST_NOPE", "mqtt.protocol"):
        assert sum(name in sentence for sentence in sentences) == 1


def test_limit_of_one_metric_leaves_the_others_and_its_other_bound() -> None:
    default = load().limits

    limits = load(LIMITS__GRID_VOLTAGE__HIGH="500").limits

    assert limits["grid_voltage"] == Bounds(low=default["grid_voltage"].low, high=500)
    assert {**limits, "grid_voltage": None} == {**default, "grid_voltage": None}


def test_tls_files_need_an_encrypted_scheme(tmp_path: Path) -> None:
    pem = tmp_path / "ca.pem"
    pem.write_text("")

    assert load(MQTT__URL="mqtts://b", MQTT__TLS_CA_FILE=str(pem)).mqtt.uses_tls
    (sentence,) = mistakes(MQTT__TLS_CA_FILE=str(pem))
    assert "is mqtt://, which is not encrypted; write mqtts:// or wss:// there" in sentence
    (sentence,) = mistakes(MQTT__URL="wss://b", MQTT__TLS_KEY_FILE=str(pem))
    assert "is given without `mqtt.tls_cert_file`" in sentence


def test_settings_are_shown_as_json_and_load_again(tmp_path: Path) -> None:
    settings = load(BATCH__MAX_WAIT="20ms", LIMITS__GRID_VOLTAGE__HIGH="500", MQTT__SHARE_GROUP="g")

    written = json.loads(json.dumps(shown(settings)))

    assert written["batch"]["max_wait"] == "20ms"
    assert written["limits"]["grid_voltage"] == {"low": 0.0, "high": 500.0}
    assert Settings.model_validate(written) == settings


def test_every_setting_can_be_given_in_the_environment() -> None:
    defaults = {variable(setting.path): setting.field.default for setting in walk(Settings)}
    given = {
        name: format_duration(value) if isinstance(value, timedelta) else str(value)
        for name, value in defaults.items()
        if value is not None and value is not PydanticUndefined
    }

    assert len(given) > 20
    assert load_settings(None, {**REQUIRED, **given}) == load()
