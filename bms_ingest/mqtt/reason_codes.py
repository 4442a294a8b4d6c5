"""What the broker's codes in CONNACK, SUBACK and DISCONNECT mean for us; pure.

Codes are MQTT 5 reason codes (section 2.4 of the standard); the return codes of MQTT 3.1.1 are translated to
them before they get here.
"""

from __future__ import annotations

from bms_ingest.errors import BrokerError, BrokerRefused, BrokerUnavailable, ProtocolUnsupported

FAILURE = 0x80
"""Reason codes from here on are failures."""

PROTOCOL_ERROR = 0x82
UNSUPPORTED_PROTOCOL_VERSION = 0x84
KEEP_ALIVE_TIMEOUT = 0x8D
SESSION_TAKEN_OVER = 0x8E

_PASSES = frozenset({0x88, 0x89, 0x8B, 0x97, 0x9F})
"""CONNACK failures that end without anybody doing anything: unavailable, busy, shutting down, quota, rate."""

_WORDS = {
    0x04: "disconnected with will message",
    0x80: "unspecified error",
    0x81: "malformed packet",
    0x82: "protocol error",
    0x83: "implementation specific error",
    0x84: "unsupported protocol version",
    0x85: "client identifier not valid",
    0x86: "bad user name or password",
    0x87: "not authorized",
    0x88: "server unavailable",
    0x89: "server busy",
    0x8A: "banned",
    0x8B: "server shutting down",
    0x8C: "bad authentication method",
    0x8D: "keep alive timeout",
    0x8E: "session taken over",
    0x8F: "topic filter invalid",
    0x90: "topic name invalid",
    0x93: "receive maximum exceeded",
    0x94: "topic alias invalid",
    0x95: "packet too large",
    0x96: "message rate too high",
    0x97: "quota exceeded",
    0x98: "administrative action",
    0x99: "payload format invalid",
    0x9A: "retain not supported",
    0x9B: "QoS not supported",
    0x9C: "use another server",
    0x9D: "server moved",
    0x9E: "shared subscriptions not supported",
    0x9F: "connection rate exceeded",
    0xA0: "maximum connect time",
    0xA1: "subscription identifiers not supported",
    0xA2: "wildcard subscriptions not supported",
}

_CONNECT_ADVICE = {
    0x85: "set another mqtt.client_id; letters, digits and - are safe everywhere",
    0x86: "check the user and the password in mqtt.url or mqtt.password_file",
    0x87: "check the user and the password, or let the broker admit this user and client id",
    0x8A: "the broker's administrator must lift the ban",
    0x8C: "the broker wants a kind of login that is not user and password",
    0x9C: "write the other server's address into mqtt.url",
    0x9D: "write the new address into mqtt.url",
}

_SUBSCRIBE_ADVICE = {
    0x80: "let the broker's access list grant it to our user",
    0x87: "let the broker's access list grant it to our user",
    0x8F: "check mqtt.telemetry_topic and mqtt.share_group",
    0x9E: "unset mqtt.share_group, or use a broker that has shared subscriptions",
    0xA2: "use a broker that allows wildcards in subscriptions",
}


def words(code: int) -> str:
    """Name a reason code as the standard does, with its number."""
    return f"{_WORDS.get(code, 'unknown reason')} (0x{code:02x})"


def connect_error(code: int, protocol: str) -> BrokerError:
    """Return the error of a CONNACK with a failure code.

    Args:
        code: 0x80 or above.
        protocol: the MQTT version that was offered, "5" or "3.1.1".
    """
    if code == UNSUPPORTED_PROTOCOL_VERSION:
        return ProtocolUnsupported(f"the broker does not speak MQTT {protocol}; set mqtt.protocol to auto")
    text = f"the broker refused the connection: {words(code)}"
    if code in _PASSES:
        return BrokerUnavailable(text)
    return BrokerRefused(_with_advice(text, _CONNECT_ADVICE.get(code)))


def subscribe_error(code: int, topic_filter: str) -> BrokerRefused:
    """Return the error of a SUBACK with a failure code (0x80 or above)."""
    text = f"the broker refused the subscription to {topic_filter!r}: {words(code)}"
    return BrokerRefused(_with_advice(text, _SUBSCRIBE_ADVICE.get(code)))


def disconnect_reason(code: int, client_id: str) -> str:
    """Say in a sentence why the broker sent DISCONNECT; only MQTT 5 brokers do."""
    text = f"the broker ended the connection: {words(code)}"
    if code == SESSION_TAKEN_OVER:
        return _with_advice(
            text,
            f"another client connected with our client id {client_id!r}; give each its own mqtt.client_id",
        )
    return text


def _with_advice(text: str, advice: str | None) -> str:
    return text if advice is None else f"{text}; {advice}"
