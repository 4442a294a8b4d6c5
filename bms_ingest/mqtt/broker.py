"""Makes sessions with the broker of the settings, on the newest MQTT version that both sides speak."""

from __future__ import annotations

import ssl
import time

import structlog

from bms_ingest.errors import BrokerError, BrokerRefused, ProtocolUnsupported
from bms_ingest.mqtt.aiomqtt_session import AiomqttSession, ClosedWithoutAnswer, open_session
from bms_ingest.settings import MqttSettings

log = structlog.get_logger(__name__)

RETRY_NEWEST_SECONDS = 600.0
"""How long a broker that refused MQTT 5 is not asked again; an upgraded one is noticed after that."""


class MqttBroker:
    """Implements `Broker` for any broker that speaks MQTT 5 or 3.1.1.

    With `protocol` "auto", MQTT 5 is offered first. A broker that refuses it, or closes the connection
    instead of answering, is offered 3.1.1 at once. A refusal in so many words is remembered for ten minutes
    or until a connect fails, as a restart for an upgrade makes it; a closed connection is not remembered,
    because a broker that is just restarting closes it too.

    Args:
        settings: address, credentials and limits; TLS files are read at every connect, so that renewed
            certificates count.
    """

    def __init__(self, settings: MqttSettings) -> None:
        self._settings = settings
        self._newest_refused_until_seconds = 0.0

    async def connect(self, generation: int) -> AiomqttSession:
        """Open a connection to our persistent session.

        Raises:
            BrokerUnavailable: refused, unreachable, timed out.
            BrokerRefused: the broker answered with a failure code, its certificate is not trusted, or ours
                cannot be read.
            ProtocolUnsupported: the broker does not speak the version that the settings ask for.
        """
        tls = tls_context(self._settings) if self._settings.uses_tls else None
        if self._settings.protocol != "auto":
            return await open_session(self._settings, self._settings.protocol, generation, tls)
        refused = time.monotonic() < self._newest_refused_until_seconds
        if not refused:
            try:
                return await open_session(self._settings, "5", generation, tls)
            except ProtocolUnsupported:
                refused = True
                self._newest_refused_until_seconds = time.monotonic() + RETRY_NEWEST_SECONDS
            except ClosedWithoutAnswer as error:
                log.info("mqtt_older_protocol_tried", reason=str(error))
        try:
            return await open_session(self._settings, "3.1.1", generation, tls)
        except BrokerError:
            self._newest_refused_until_seconds = 0.0
            raise


def tls_context(settings: MqttSettings) -> ssl.SSLContext:
    """Trust the given authority, or the system's; verify the host name; show our certificate if given.

    Raises:
        BrokerRefused: a file cannot be read, or is not a certificate or its key.
    """
    try:
        context = ssl.create_default_context(cafile=settings.tls_ca_file)
        if settings.tls_cert_file is not None:
            context.load_cert_chain(settings.tls_cert_file, settings.tls_key_file)
    except OSError as error:
        raise BrokerRefused(
            f"cannot use the files of mqtt.tls_ca_file, tls_cert_file and tls_key_file: {error}"
        ) from error
    return context
