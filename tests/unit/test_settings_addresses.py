"""The broker's URL and the database's DSN."""

from __future__ import annotations

import pytest

from bms_ingest.addresses import check_dsn, mask_address, parse_broker_url


@pytest.mark.parametrize(
    ("url", "parts"),
    [
        ("mqtt://h", ("mqtt", "h", 1883, None, None, "")),
        ("mqtt://h/", ("mqtt", "h", 1883, None, None, "")),
        ("MQTTS://u:p@h:1", ("mqtts", "h", 1, "u", "p", "")),
        ("mqtts://h", ("mqtts", "h", 8883, None, None, "")),
        ("ws://h", ("ws", "h", 80, None, None, "/mqtt")),
        ("wss://u@h/a/b?c=d", ("wss", "h", 443, "u", None, "/a/b?c=d")),
        ("mqtt://%40u:%3A%2F@[::1]:5", ("mqtt", "::1", 5, "@u", ":/", "")),
        ("mqtt://u:@h", ("mqtt", "h", 1883, "u", "", "")),
    ],
)
def test_url_is_taken_apart(url: str, parts: tuple[object, ...]) -> None:
    address = parse_broker_url(url)

    assert (
        address.scheme,
        address.host,
        address.port,
        address.username,
        address.password,
        address.websocket_path,
    ) == parts


@pytest.mark.parametrize(
    ("url", "why"),
    [
        ("", "does not begin with"),
        ("broker:1883", "does not begin with"),
        ("http://h", "does not begin with"),
        ("tcp://h", "does not begin with"),
        ("mqtt://", "names no host"),
        ("mqtt://:1883", "names no host"),
        ("mqtt://h:0", "no valid host and port"),
        ("mqtt://h:65536", "no valid host and port"),
        ("mqtt://h:x", "no valid host and port"),
        ("mqtt://[::1", "no valid host and port"),
        ("mqtt://h/path", "has a path"),
        ("mqtt://h?x=1", "has a path"),
        ("ws://h/#x", "contains a #"),
        ("mqtt://u:p@q@h", "more than one @"),
        ("ws://u:1/p@h", "has an @ behind"),
        ("mqtt://h ", "contains a blank"),
        ("mqtt://h\n", "contains a blank"),
        ("mqtt://h\0", "contains a blank"),
    ],
)
def test_url_that_cannot_be_meant_is_refused_with_what_to_write(url: str, why: str) -> None:
    with pytest.raises(ValueError, match=r".+; .*write ") as caught:
        parse_broker_url(url)

    assert why in str(caught.value)


@pytest.mark.parametrize(
    "dsn",
    [
        "postgresql://u:p@h:5432/d",
        "postgres://h",
        "postgresql:///d?host=/run/postgresql",
        "postgresql://u@h1:1,h2:2,[::1]:3/d?target_session_attrs=primary",
        "postgresql://u@[::1]/d",
        "postgresql://u@%2Frun%2Fpostgresql/d",
    ],
)
def test_dsn_that_asyncpg_takes_is_accepted(dsn: str) -> None:
    check_dsn(dsn)


@pytest.mark.parametrize(
    ("dsn", "why"),
    [
        ("", "does not begin with"),
        ("mysql://h", "does not begin with"),
        ("host=h dbname=d", "contains a blank"),
        ("postgresql://h:x/d", "has a port"),
        ("postgresql://h:1,i:0/d", "has a port"),
        ("postgresql://h:/d", "has a port"),
        ("postgresql://[::1/d", "no valid host"),
        ("postgresql://u:p#q@h/d", "contains a #"),
    ],
)
def test_dsn_that_cannot_be_meant_is_refused_with_what_to_write(dsn: str, why: str) -> None:
    with pytest.raises(ValueError, match=r".+; .*write ") as caught:
        check_dsn(dsn)

    assert why in str(caught.value)


def test_only_the_password_is_masked() -> None:
    assert mask_address("mqtt://u:p@h:1/x") == "mqtt://u:***@h:1/x"
    assert mask_address("mqtt://u@h") == "mqtt://u@h"
    assert (
        mask_address("postgresql://u:p@h/d?sslpassword=q&a=b%20c")
        == "postgresql://u:***@h/d?sslpassword=***&a=b%20c"
    )
