"""Secrets: where they may come from, and that no error and no display ever holds one."""

from __future__ import annotations

import json
import traceback
from pathlib import Path

import pytest
from hypothesis import given
from hypothesis import strategies as st

from bms_ingest.errors import SettingsError
from bms_ingest.settings import load_settings, shown

PLANTED = "hunter2-s3cr3t"
REQUIRED = {
    "BMS_INGEST_DATABASE__DSN": f"postgresql://bms:{PLANTED}@db/bms",
    "BMS_INGEST_MQTT__URL": f"mqtt://bms:{PLANTED}@broker",
}


def all_that_is_printed(error: BaseException) -> str:
    """Return what a traceback would show, causes and contexts included."""
    return "".join(traceback.format_exception(error)) + repr(error)


@pytest.mark.parametrize("end", ["", "\n", "\r\n"])
def test_secret_is_read_from_its_file(tmp_path: Path, end: str) -> None:
    secret = tmp_path / "dsn"
    secret.write_bytes(f"postgresql://bms:{PLANTED}@db/bms{end}".encode())

    settings = load_settings(
        None,
        {
            "BMS_INGEST_DATABASE__DSN_FILE": str(secret),
            "BMS_INGEST_MQTT__URL": "mqtt://broker",
        },
    )

    assert settings.database.dsn.get_secret_value() == f"postgresql://bms:{PLANTED}@db/bms"
    assert settings.database.dsn_file == secret


def test_secrets_of_the_file_are_read_from_their_files(tmp_path: Path) -> None:
    (tmp_path / "dsn").write_text("postgresql://db\n")
    (tmp_path / "url").write_text("mqtt://u@broker\n")
    (tmp_path / "password").write_text(f"{PLANTED} \n\n")
    config = tmp_path / "config.toml"
    config.write_text(
        f"[database]\ndsn_file = '{tmp_path}/dsn'\n"
        f"[mqtt]\nurl_file = '{tmp_path}/url'\npassword_file = '{tmp_path}/password'\n"
    )

    mqtt = load_settings(config, {}).mqtt

    assert mqtt.username == "u"
    assert mqtt.password is not None
    assert mqtt.password.get_secret_value() == f"{PLANTED} \n"


def test_secret_given_twice_is_refused(tmp_path: Path) -> None:
    (tmp_path / "password").write_text(PLANTED)

    with pytest.raises(SettingsError) as caught:
        load_settings(
            None,
            {
                **REQUIRED,
                "BMS_INGEST_MQTT__PASSWORD": PLANTED,
                "BMS_INGEST_MQTT__PASSWORD_FILE": str(tmp_path / "password"),
            },
        )

    assert str(caught.value) == (
        "`mqtt.password` / BMS_INGEST_MQTT__PASSWORD and `mqtt.password_file` / "
        "BMS_INGEST_MQTT__PASSWORD_FILE are both given; remove one of them"
    )


@pytest.mark.parametrize("name", ["DSN", "DSN_FILE"])
@pytest.mark.parametrize("below", ["dsn", "dsn_file"])
def test_secret_of_the_environment_goes_over_the_file_in_either_form(
    tmp_path: Path, name: str, below: str
) -> None:
    (tmp_path / "above").write_text("postgresql://above")
    (tmp_path / "below").write_text("postgresql://below")
    values = {"dsn": "postgresql://{}", "dsn_file": f"{tmp_path}/{{}}"}
    config = tmp_path / "config.toml"
    config.write_text(f"[database]\n{below} = '{values[below].format('below')}'\n")

    settings = load_settings(
        config,
        {
            f"BMS_INGEST_DATABASE__{name}": values[name.lower()].format("above"),
            "BMS_INGEST_MQTT__URL": "mqtt://broker",
        },
    )

    assert settings.database.dsn.get_secret_value() == "postgresql://above"


def test_password_of_the_url_fills_in_and_the_setting_goes_before_it() -> None:
    from_url = load_settings(
        None, {**REQUIRED, "BMS_INGEST_MQTT__URL": "mqtt://bms:a%40b@broker"}
    ).mqtt.password
    own = load_settings(None, {**REQUIRED, "BMS_INGEST_MQTT__PASSWORD": "own"}).mqtt.password

    assert from_url is not None
    assert from_url.get_secret_value() == "a@b"
    assert own is not None
    assert own.get_secret_value() == "own"


@pytest.mark.parametrize(
    ("content", "why"),
    [
        (None, "No such file or directory"),
        (b"", "is empty"),
        (b"\n", "is empty"),
        (b"\xff", "is not UTF-8 text"),
        (b"x" * 65_537, "holds more than 65536 bytes"),
    ],
)
def test_unusable_secret_file_is_one_mistake(tmp_path: Path, content: bytes | None, why: str) -> None:
    path = tmp_path / PLANTED
    if content is not None:
        path.write_bytes(content)

    with pytest.raises(SettingsError) as caught:
        load_settings(
            None,
            {"BMS_INGEST_DATABASE__DSN_FILE": str(path), "BMS_INGEST_MQTT__URL": "mqtt://broker"},
        )

    (sentence,) = str(caught.value).splitlines()
    assert sentence.startswith("`database.dsn_file` / BMS_INGEST_DATABASE__DSN_FILE names a file that")
    assert why in sentence
    assert PLANTED not in sentence


MALFORMED = [
    f"postgresql://bms:{PLANTED}@db:notaport/bms",
    f"postgresql://bms:{PLANTED}/x@db/bms",
    f"postgresql://bms:{PLANTED}#x@db/bms",
    f"postgresql://bms:1/{PLANTED}@db/bms",
    f"postgresql://bms:1?{PLANTED}@db/bms",
    f"postgresql://bms:{PLANTED}@x@db/bms",
    f"postgresql://[{PLANTED}/bms",
    f"bms:{PLANTED}@db",
    f"host=db password={PLANTED}",
    f"{PLANTED}",
    f"postgresql://bms:{PLANTED}@db/bms\n",
    f"postgresql://bms:{PLANTED}@db:65536/bms",
]


@pytest.mark.parametrize("malformed", MALFORMED)
@pytest.mark.parametrize("name", ["BMS_INGEST_DATABASE__DSN", "BMS_INGEST_MQTT__URL"])
def test_malformed_address_is_refused_without_being_shown(name: str, malformed: str) -> None:
    value = malformed.replace("postgresql", "mqtt") if "MQTT" in name else malformed

    with pytest.raises(SettingsError) as caught:
        load_settings(None, {**REQUIRED, name: value})

    assert PLANTED not in all_that_is_printed(caught.value)
    assert name in str(caught.value)
    assert "; write " in str(caught.value)


@pytest.mark.parametrize(
    "name",
    [
        "MQTT__URLL",
        "MQTT",
        "DATABASE",
        "DATABASE__DSN_FILE",
        "MQTT__URL_FILE",
        "MQTT__PASSWORD_FILE",
        "DSN",
    ],
)
def test_secret_in_the_wrong_place_is_not_shown(name: str) -> None:
    without = {key: value for key, value in REQUIRED.items() if name.removesuffix("_FILE") not in key}

    with pytest.raises(SettingsError) as caught:
        load_settings(None, {**without, f"BMS_INGEST_{name}": f"mqtt://u:{PLANTED}@h"})

    assert PLANTED not in all_that_is_printed(caught.value)


def test_secrets_of_a_broken_file_are_not_shown(tmp_path: Path) -> None:
    config = tmp_path / "config.toml"
    for text in (
        f'[database]\ndsn = "postgresql://u:{PLANTED}@h" oops\n',
        f'[database]\ndsn = ["{PLANTED}"]\n[mqtt]\nurl = {{ "{PLANTED}" = 1 }}\npassword = 5\n',
        f'[database]\ndsn = "postgresql://u:{PLANTED}@h"\n[mqtt]\nurl = "mqtt://u:{PLANTED}@h"\n'
        "[batch]\nmax_rows = 0\n",
    ):
        config.write_text(text)
        with pytest.raises(SettingsError) as caught:
            load_settings(config, {})
        assert PLANTED not in all_that_is_printed(caught.value)


def test_number_in_place_of_a_secret_is_not_shown(tmp_path: Path) -> None:
    config = tmp_path / "config.toml"
    config.write_text("[mqtt]\npassword = 8462013\n")

    with pytest.raises(SettingsError) as caught:
        load_settings(config, REQUIRED)

    assert str(caught.value).startswith("`mqtt.password` / BMS_INGEST_MQTT__PASSWORD is not text; write ")
    assert "8462013" not in all_that_is_printed(caught.value)


def test_shown_settings_hold_everything_but_the_secrets() -> None:
    settings = load_settings(
        None,
        {
            "BMS_INGEST_DATABASE__DSN": f"postgresql://bms:{PLANTED}@a:1,b:2/bms?sslmode=require&password={PLANTED}",
            "BMS_INGEST_MQTT__URL": f"wss://bms:{PLANTED}@broker:444/path?token={PLANTED}&x=1",
            "BMS_INGEST_MQTT__PASSWORD": PLANTED,
        },
    )

    display = shown(settings)

    assert PLANTED not in json.dumps(display) + repr(settings) + str(settings)
    assert display["database"]["dsn"] == "postgresql://bms:***@a:1,b:2/bms?sslmode=require&password=***"
    assert display["mqtt"]["url"] == "wss://bms:***@broker:444/path?token=***&x=1"
    assert display["mqtt"]["password"] == "***"


def test_address_without_a_password_is_shown_as_it_is() -> None:
    settings = load_settings(
        None,
        {
            "BMS_INGEST_DATABASE__DSN": "postgresql:///bms?host=/run/postgresql",
            "BMS_INGEST_MQTT__URL": "mqtt://[::1]:1884",
        },
    )

    assert shown(settings)["database"]["dsn"] == "postgresql:///bms?host=/run/postgresql"
    assert shown(settings)["mqtt"]["url"] == "mqtt://[::1]:1884"
    assert shown(settings)["mqtt"]["password"] is None


@given(
    st.text(st.characters(exclude_categories=["Cs"]), max_size=30),
    st.sampled_from(["mqtt", "ws", "postgresql"]),
)
def test_whatever_surrounds_a_secret_it_is_never_printed(around: str, scheme: str) -> None:
    address = f"{scheme}://u:{around}{PLANTED}{around[::-1]}@host/x"
    environment = {"BMS_INGEST_DATABASE__DSN": address, "BMS_INGEST_MQTT__URL": address}
    try:
        printed = json.dumps(shown(load_settings(None, environment)))
    except SettingsError as error:
        printed = all_that_is_printed(error)

    assert PLANTED not in printed
