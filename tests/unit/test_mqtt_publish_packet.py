"""A PUBLISH is taken apart whatever its topic and its properties are."""

from __future__ import annotations

import pytest
from hypothesis import given
from hypothesis import strategies as st

from bms_ingest.mqtt.publish_packet import MalformedPublishError, Publish, parse_publish


@given(
    topic=st.text(max_size=20).filter(lambda text: text.isprintable()),
    payload=st.binary(max_size=20),
    qos=st.sampled_from([0, 1]),
    retain=st.booleans(),
    packet_id=st.integers(1, 65_535),
    properties=st.one_of(st.none(), st.binary(max_size=300)),
)
def test_what_was_put_together_is_taken_apart(
    topic: str, payload: bytes, qos: int, retain: bool, packet_id: int, properties: bytes | None
) -> None:
    name = topic.encode()
    body = len(name).to_bytes(2, "big") + name
    if qos:
        body += packet_id.to_bytes(2, "big")
    if properties is not None:
        size = len(properties)
        body += bytes([size] if size < 128 else [size & 0x7F | 0x80, size >> 7]) + properties
    parsed = parse_publish(
        0x30 | qos << 1 | retain, bytearray(body + payload), properties=properties is not None
    )
    assert parsed == Publish(topic, payload, qos, retain, packet_id if qos else 0)


def test_topic_that_is_not_utf_8_is_written_with_escapes() -> None:
    assert parse_publish(0x30, b"\x00\x03a/\xffx", properties=False).topic == "a/\\xff"


@pytest.mark.parametrize(
    "body",
    [b"", b"\x00", b"\x00\x05abc", b"\x00\x01a\x00", b"\x00\x01a\x00\x01\x05abc", b"\x00\x01a\x00\x01\xff"],
)
def test_packet_that_is_shorter_than_it_says_is_malformed(body: bytes) -> None:
    with pytest.raises(MalformedPublishError):
        parse_publish(0x32, body, properties=True)
