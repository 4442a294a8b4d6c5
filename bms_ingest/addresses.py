"""The broker's URL and the database's DSN: check them, take them apart, show them without secrets. Pure.

No error of this module contains any part of the address: in a malformed one the password may be anywhere.
"""

from __future__ import annotations

from dataclasses import dataclass, field
from urllib.parse import parse_qsl, quote, unquote, urlencode, urlsplit

MASK = "***"
ADDRESS = "address"
"""Annotation of a secret that is a URL: all but its password may be shown."""
MQTT_PORTS = {"mqtt": 1883, "mqtts": 8883, "ws": 80, "wss": 443}
DEFAULT_WEBSOCKET_PATH = "/mqtt"

_MQTT_EXAMPLE = "write mqtt://user:password@host:1883, or the same with mqtts://, ws:// or wss://"
_DSN_EXAMPLE = "write postgresql://user:password@host:5432/database"
_ENCODE = "write characters such as @ : / ? # % in the user name and the password as %40 %3A %2F %3F %23 %25"
_SECRET_WORDS = ("pass", "secret", "token", "key", "signature", "credential")


@dataclass(frozen=True, slots=True)
class BrokerAddress:
    """The parts of a broker's URL, decoded and with defaults filled in."""

    scheme: str
    host: str
    port: int
    username: str | None
    password: str | None = field(repr=False)
    websocket_path: str = field(repr=False)
    """Path and query of the upgrade request; "/mqtt" when the URL names none."""


def parse_broker_url(url: str) -> BrokerAddress:
    """Take a broker's URL apart.

    Raises:
        ValueError: what is wrong and what to write, without any part of the URL.
    """
    _refuse_invisible(url, _MQTT_EXAMPLE)
    scheme, separator, _ = url.partition("://")
    if not separator or scheme.lower() not in MQTT_PORTS:
        raise ValueError(f"does not begin with mqtt://, mqtts://, ws:// or wss://; {_MQTT_EXAMPLE}")
    scheme = scheme.lower()
    try:
        parts = urlsplit(url)
        port = parts.port
    except ValueError:
        raise ValueError(f"has no valid host and port (1 to 65535); {_ENCODE}") from None
    if port == 0:
        raise ValueError(f"has no valid host and port (1 to 65535); {_MQTT_EXAMPLE}")
    if not parts.hostname:
        raise ValueError(f"names no host; {_MQTT_EXAMPLE}")
    if "#" in url:
        raise ValueError(f"contains a #; {_ENCODE}")
    websocket = scheme in ("ws", "wss")
    if not websocket and (parts.path not in ("", "/") or "?" in url):
        raise ValueError(f"has a path, which only ws:// and wss:// can have; write none, and {_ENCODE}")
    _refuse_stray_at(url, parts.netloc)
    path = (parts.path if parts.path not in ("", "/") else DEFAULT_WEBSOCKET_PATH) if websocket else ""
    return BrokerAddress(
        scheme=scheme,
        host=parts.hostname,
        port=port or MQTT_PORTS[scheme],
        username=None if parts.username is None else unquote(parts.username),
        password=None if parts.password is None else unquote(parts.password),
        websocket_path=f"{path}?{parts.query}" if websocket and parts.query else path,
    )


def check_dsn(dsn: str) -> None:
    """Refuse what asyncpg could not connect with; several hosts and `?host=/socket/directory` are fine.

    Raises:
        ValueError: what is wrong and what to write, without any part of the DSN.
    """
    _refuse_invisible(dsn, _DSN_EXAMPLE)
    if not dsn.startswith(("postgresql://", "postgres://")):
        raise ValueError(f"does not begin with postgresql://; {_DSN_EXAMPLE}")
    if "#" in dsn:
        raise ValueError(f"contains a #; {_ENCODE}")
    try:
        parts = urlsplit(dsn)
    except ValueError:
        raise ValueError(f"has no valid host; {_ENCODE}") from None
    _refuse_stray_at(dsn, parts.netloc)
    for host_and_port in parts.netloc.rpartition("@")[2].split(","):
        _, colon, port = host_and_port.rpartition("]")[2].partition(":")
        if colon and not (port.isascii() and port.isdigit() and 0 < int(port) < 65_536):
            raise ValueError(f"has a port that is not a number from 1 to 65535; {_ENCODE}")


def mask_address(address: str) -> str:
    """Replace the password of a checked URL or DSN by `***`; scheme, user, host, port and path stay.

    Query values whose names sound secret (password, token, signature …) are replaced too.
    """
    parts = urlsplit(address)
    login, at, hosts = parts.netloc.rpartition("@")
    user, colon, _ = login.partition(":")
    shown = f"{parts.scheme}://{user}{colon}{MASK if colon else ''}{at}{hosts}{parts.path}"
    if not parts.query:
        return shown
    pairs = [
        (name, MASK if any(word in name.lower() for word in _SECRET_WORDS) else value)
        for name, value in parse_qsl(parts.query, keep_blank_values=True)
    ]
    return f"{shown}?{urlencode(pairs, safe='*/', quote_via=quote)}"


def _refuse_invisible(address: str, example: str) -> None:
    if any(character.isspace() or not character.isprintable() for character in address):
        raise ValueError(f"contains a blank, a line break or an invisible character; {example}")


def _refuse_stray_at(address: str, netloc: str) -> None:
    if address.count("@") > 1:
        raise ValueError(f"contains more than one @; {_ENCODE}")
    if "@" in address and "@" not in netloc:
        raise ValueError(f"has an @ behind the first / or ?; {_ENCODE}")
