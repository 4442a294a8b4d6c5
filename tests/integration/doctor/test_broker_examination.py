"""A real broker in every state in which an operator may find it, beside a session that must not notice."""

from __future__ import annotations

import asyncio
from collections.abc import Iterator
from contextlib import contextmanager
from datetime import timedelta
from pathlib import Path
from typing import Any

import pytest
from pydantic import SecretStr

from bms_ingest.demo.embedded import EmbeddedBroker, free_port, mosquitto_path
from bms_ingest.doctor.broker import WINDOW_MESSAGES, BrokerExamination, judge_session, judge_window
from bms_ingest.doctor.result import Result, Status
from bms_ingest.errors import BrokerUnavailable
from bms_ingest.mqtt.broker import MqttBroker
from bms_ingest.mqtt.probe import BrokerProbe
from bms_ingest.settings import MqttSettings
from tests.fixtures.brokers import Publisher
from tests.integration.doctor.conftest import examined

FILTER = "bms/sites/+/telemetry"
TOPIC = "bms/sites/7/telemetry"
WELL = dict.fromkeys(("broker", "protocol", "subscription", "qos 0", "session", "in flight"), Status.OK)

needs_mosquitto = pytest.mark.skipif(mosquitto_path() is None, reason="mosquitto is not installed")


def settings_of(url: str, **changes: Any) -> MqttSettings:
    return MqttSettings(url=SecretStr(url), **changes)


def examination(
    settings: MqttSettings,
    *,
    connect_timeout: float = 30,
    topic: str = FILTER,
    share_group: str | None = None,
) -> BrokerExamination:
    probe = BrokerProbe(
        settings, receive_maximum=WINDOW_MESSAGES, connect_timeout=timedelta(seconds=connect_timeout)
    )
    return BrokerExamination(
        probe,
        telemetry_filter=topic,
        share_group=share_group,
        private_topic="bms/doctor",
        batch_rows=5_000,
        receive_maximum=10_000,
        configured_protocol=settings.protocol,
    )


def statuses(results: dict[str, Result]) -> dict[str, Status]:
    return {check: result.status for check, result in results.items()}


@contextmanager
def mosquitto_with(directory: Path, *lines: str) -> Iterator[EmbeddedBroker]:
    directory.mkdir(exist_ok=True)
    configuration = directory / "given.conf"
    configuration.write_text("\n".join(lines) + "\n")
    broker = EmbeddedBroker(directory / "broker", kind="mosquitto", configuration=configuration)
    broker.start()
    try:
        yield broker
    finally:
        broker.stop()


async def test_mosquitto_is_well(mosquitto: EmbeddedBroker) -> None:
    results = await examined(examination(settings_of(mosquitto.url)))
    assert statuses(results) == WELL


async def test_a_share_group_of_its_own_is_granted(mosquitto: EmbeddedBroker) -> None:
    results = await examined(examination(settings_of(mosquitto.url), share_group="fleet-doctor"))
    assert statuses(results) == WELL
    assert results["subscription"].found.startswith("$share/fleet-doctor/")


async def test_a_broker_that_takes_shared_subscriptions_for_plain_ones_is_noticed(
    nats: EmbeddedBroker,
) -> None:
    results = await examined(examination(settings_of(nats.url), share_group="fleet-doctor"))
    assert results["in flight"].status is Status.WARN
    assert "unset mqtt.share_group" in str(results["in flight"].advice)


async def test_a_broker_of_mqtt_3_1_1_only_is_a_warning(nats: EmbeddedBroker) -> None:
    results = await examined(examination(settings_of(nats.url)))
    assert statuses(results) == {**WELL, "protocol": Status.WARN}
    assert "does not speak MQTT 5" in results["protocol"].found


async def test_a_broker_that_is_down() -> None:
    results = await examined(examination(settings_of(f"mqtt://127.0.0.1:{free_port()}")))
    assert results["broker"].status is Status.FAIL
    assert "start the broker" in str(results["broker"].advice)
    assert {result.status for check, result in results.items() if check != "broker"} == {Status.SKIP}


async def test_a_broker_that_never_answers_is_given_up(black_hole: int) -> None:
    results = await examined(examination(settings_of(f"mqtt://127.0.0.1:{black_hole}"), connect_timeout=0.2))
    assert results["broker"].status is Status.FAIL
    assert "did not answer within 0.2 s" in results["broker"].found


@needs_mosquitto
async def test_a_wrong_password_is_named_and_not_shown(tmp_path: Path) -> None:
    with mosquitto_with(tmp_path, "allow_anonymous false") as broker:
        url = broker.url.replace("mqtt://", "mqtt://gateway:wrong-one@")
        results = await examined(examination(settings_of(url)))
    assert results["broker"].status is Status.FAIL
    assert "password" in str(results["broker"].advice)
    assert "wrong-one" not in str(results)


@needs_mosquitto
async def test_an_access_list_without_our_private_topic_is_a_warning(tmp_path: Path) -> None:
    access = tmp_path / "access.txt"
    access.write_text("topic read bms/sites/#\n")
    access.chmod(0o644)
    with mosquitto_with(tmp_path, f"acl_file {access}") as broker:
        results = await examined(examination(settings_of(broker.url)))
    assert statuses(results) == {**WELL, "in flight": Status.WARN}
    assert "nothing that was published to bms/doctor/" in results["in flight"].found


@needs_mosquitto
async def test_a_low_limit_of_the_broker_on_mqtt_3_1_1_is_a_warning_with_its_number(tmp_path: Path) -> None:
    with mosquitto_with(tmp_path, "max_inflight_messages 33") as broker:
        results = await examined(examination(settings_of(broker.url, protocol="3.1.1")))
    assert statuses(results) == {**WELL, "protocol": Status.WARN, "in flight": Status.WARN}
    assert results["in flight"].found.startswith("the broker sends at most 33 messages")
    assert "max_inflight_messages" in str(results["in flight"].advice)


async def test_a_refused_subscription_fails_and_the_session_is_tried_all_the_same(
    mosquitto: EmbeddedBroker,
) -> None:
    results = await examined(examination(settings_of(mosquitto.url), topic="bms/#/telemetry"))
    assert results["subscription"].status is Status.FAIL
    assert results["qos 0"].status is Status.SKIP
    assert results["in flight"].status is Status.OK


@pytest.mark.parametrize("protocol", ["5", "3.1.1"])
@pytest.mark.parametrize(("qos", "status"), [(0, Status.WARN), (1, Status.OK)])
async def test_publishers_at_qos_0_are_heard(
    mosquitto: EmbeddedBroker, protocol: str, qos: int, status: Status
) -> None:
    async with Publisher(mosquitto.url) as publisher:
        # Retained from long ago, at a QoS that says nothing about today.
        await publisher.publish(TOPIC, b"{}", 0, retain=True)
        settings = settings_of(mosquitto.url, protocol=protocol)
        examining = asyncio.create_task(examined(examination(settings)))
        while not examining.done():
            await publisher.publish(TOPIC, b"{}", qos)
            await asyncio.wait((examining,), timeout=0.02)
        heard = (await examining)["qos 0"]
    assert heard.status is status
    assert "messages" in heard.found
    assert "no telemetry" not in heard.found


@pytest.mark.parametrize("protocol", ["5", "3.1.1"])
async def test_what_an_earlier_doctor_left_does_not_mislead(mosquitto: EmbeddedBroker, protocol: str) -> None:
    settings = settings_of(mosquitto.url, protocol=protocol)
    left = BrokerProbe(settings, receive_maximum=WINDOW_MESSAGES, connect_timeout=timedelta(seconds=30))
    session = await left.connect()
    await session.subscribe("bms/doctor/left")
    await session.close()
    await left.publish(protocol, "bms/doctor/left", [b"old"] * 300)
    results = await examined(examination(settings))
    assert results["session"].status is Status.OK
    assert results["in flight"].status is Status.OK


@pytest.mark.parametrize("protocol", ["5", "3.1.1"])
async def test_nothing_stays_behind_at_the_broker(mosquitto: EmbeddedBroker, protocol: str) -> None:
    settings = settings_of(mosquitto.url, protocol=protocol)
    await examined(examination(settings))
    for suffix in ("doctor", "doctor-listen", "doctor-publish"):
        again = await MqttBroker(
            settings_of(mosquitto.url, protocol=protocol, client_id=f"bms-ingest-{suffix}")
        ).connect(1)
        assert not again.session_present
        await again.close()


async def test_a_running_daemon_keeps_its_connection_and_every_message(mosquitto: EmbeddedBroker) -> None:
    daemon = await MqttBroker(settings_of(mosquitto.url)).connect(1)
    await daemon.subscribe(f"$share/fleet/{FILTER}")
    sent = 0
    received: list[bytes] = []
    async with Publisher(mosquitto.url) as publisher:
        examining = asyncio.create_task(
            examined(examination(settings_of(mosquitto.url), share_group="fleet-doctor"))
        )
        while not examining.done() or len(received) < sent:
            if not examining.done():
                await publisher.publish(TOPIC, str(sent).encode())
                sent += 1
            async with asyncio.timeout(30):
                deliveries = await daemon.receive()
            daemon.acknowledge(deliveries)
            received += [delivery.payload for delivery in deliveries]
    results = await examining
    assert statuses(results) == WELL
    assert sent > 100
    assert received == [str(number).encode() for number in range(sent)]
    await daemon.close()


async def test_a_deadline_in_the_middle_leaves_nothing_behind(mosquitto: EmbeddedBroker) -> None:
    settings = settings_of(mosquitto.url)
    begun = asyncio.Event()
    examining = asyncio.create_task(examination(settings).run(lambda result: begun.set()))
    await begun.wait()
    examining.cancel()
    with pytest.raises(asyncio.CancelledError):
        await examining
    again = await MqttBroker(settings_of(mosquitto.url, client_id="bms-ingest-doctor")).connect(1)
    assert not again.session_present
    await again.close()


async def test_the_probe_tells_a_lost_broker_in_our_words(mosquitto: EmbeddedBroker) -> None:
    probe = BrokerProbe(
        settings_of(mosquitto.url), receive_maximum=WINDOW_MESSAGES, connect_timeout=timedelta(seconds=5)
    )
    listening = asyncio.create_task(probe.listen("5", FILTER, 60))
    log = mosquitto.directory / "broker.log"
    while b"bms-ingest-doctor-listen" not in log.read_bytes():
        await asyncio.sleep(0.01)
    mosquitto.kill()
    with pytest.raises(BrokerUnavailable):
        await listening


def test_a_forgotten_session_loses_messages() -> None:
    assert judge_session(session_present=False).status is Status.FAIL


def test_a_receive_maximum_that_is_not_honoured_bounds_nothing() -> None:
    result = judge_window(
        WINDOW_MESSAGES + 1, "5", topic="t", shared=False, batch_rows=5_000, receive_maximum=10_000
    )
    assert result.status is Status.FAIL
