"""What is in a PUBLISH packet, as far as we need it. Pure.

paho's own decoder refuses what the standard allows and brokers pass on, such as U+FEFF in a user property or,
with some brokers, a topic that is not UTF-8. It ends the connection over it, the broker sends the message
again over the next one, and so one message would stop the stream for good.
"""

from __future__ import annotations

from typing import NamedTuple


class MalformedPublishError(ValueError):
    """The packet is shorter than what it says it holds."""


class Publish(NamedTuple):
    """One PUBLISH; properties are skipped unread."""

    topic: str
    """Bytes that are not UTF-8 are written as escapes, such as `\\xff`."""
    payload: bytes
    qos: int
    retain: bool
    packet_id: int
    """0 at QoS 0."""


def parse_publish(first_byte: int, body: bytes | bytearray, *, properties: bool) -> Publish:
    """Take a PUBLISH apart.

    Args:
        first_byte: type and flags.
        body: what follows the length.
        properties: whether the packet has them: MQTT 5.

    Raises:
        MalformedPublishError: lengths within the packet do not fit it.
    """
    qos = first_byte >> 1 & 0x03
    topic_end = 2 + int.from_bytes(body[:2], "big")
    at = topic_end
    packet_id = 0
    if qos:
        packet_id = int.from_bytes(body[at : at + 2], "big")
        at += 2
    if properties:
        at = _behind_properties(body, at)
    if len(body) < max(at, 2):
        raise MalformedPublishError(
            f"a PUBLISH of {len(body)} bytes says that it has {at} before its payload"
        )
    return Publish(
        body[2:topic_end].decode("utf-8", "backslashreplace"),
        bytes(memoryview(body)[at:]),
        qos,
        bool(first_byte & 0x01),
        packet_id,
    )


def _behind_properties(body: bytes | bytearray, at: int) -> int:
    length = 0
    for digit, byte in enumerate(body[at : at + 4], start=1):
        length |= (byte & 0x7F) << 7 * (digit - 1)
        if not byte & 0x80:
            return at + digit + length
    raise MalformedPublishError("the length of the properties of a PUBLISH has no end")
