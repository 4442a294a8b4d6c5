"""Reason codes become the error that says whether somebody must act, and what to do."""

from __future__ import annotations

import pytest

from bms_ingest.errors import BrokerRefused, BrokerUnavailable, ProtocolUnsupported
from bms_ingest.mqtt.reason_codes import connect_error, disconnect_reason, subscribe_error, words


@pytest.mark.parametrize("code", [0x85, 0x86, 0x87, 0x8A, 0x8C, 0x90, 0x95, 0x9A, 0x9B, 0x9C, 0x9D])
def test_answers_that_somebody_must_act_on_are_refusals(code: int) -> None:
    assert type(connect_error(code, "5")) is BrokerRefused


@pytest.mark.parametrize("code", [0x88, 0x89, 0x8B, 0x97, 0x9F])
def test_answers_that_pass_by_themselves_are_outages(code: int) -> None:
    assert type(connect_error(code, "5")) is BrokerUnavailable


def test_unknown_version_is_told_apart() -> None:
    error = connect_error(0x84, "5")
    assert type(error) is ProtocolUnsupported
    assert "MQTT 5" in str(error)


@pytest.mark.parametrize("code", range(0x80, 0x100))
def test_every_failure_code_becomes_a_sentence_with_its_number(code: int) -> None:
    assert connect_error(code, "5") is not None
    for text in (words(code), str(subscribe_error(code, "a/#")), disconnect_reason(code, "me")):
        assert f"0x{code:02x}" in text


def test_refused_subscription_says_which_and_what_to_do() -> None:
    text = str(subscribe_error(0x87, "bms/sites/+/telemetry"))
    assert "bms/sites/+/telemetry" in text
    assert "access list" in text


def test_only_a_takeover_speaks_of_another_client() -> None:
    assert "'me'" in disconnect_reason(0x8E, "me")
    assert "another client" in disconnect_reason(0x8E, "me")
    assert "another client" not in disconnect_reason(0x8B, "me")
