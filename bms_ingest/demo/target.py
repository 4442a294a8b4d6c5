"""The broker that a simulation publishes to, taken from a URL or from the program's own settings."""

from __future__ import annotations

import ssl
from dataclasses import dataclass

from bms_ingest.addresses import BrokerAddress, parse_broker_url
from bms_ingest.demo.stream import STATUS_TOPIC, TELEMETRY_TOPIC
from bms_ingest.errors import SettingsError
from bms_ingest.settings import MqttSettings


@dataclass(frozen=True)
class Target:
    """Where to connect and what the topics are called."""

    address: BrokerAddress
    tls: ssl.SSLContext | None = None
    """None: the system's certificate authorities, where the address is an encrypted one."""
    telemetry_topic: str = TELEMETRY_TOPIC
    status_topic: str = STATUS_TOPIC

    @property
    def shown(self) -> str:
        """Scheme, host and port, for people; never a user or a password."""
        host = f"[{self.address.host}]" if ":" in self.address.host else self.address.host
        return f"{self.address.scheme}://{host}:{self.address.port}"


def target_from_url(url: str) -> Target:
    """Take a broker's URL and the default topics.

    Raises:
        ValueError: what is wrong and what to write, without any part of the URL.
    """
    return Target(parse_broker_url(url))


def target_from_settings(settings: MqttSettings) -> Target:
    """Take the daemon's own broker, with its credentials, certificates and topics.

    Raises:
        SettingsError: a certificate cannot be used.
    """
    address = BrokerAddress(
        scheme=settings.scheme,
        host=settings.host,
        port=settings.port,
        username=settings.username,
        password=None if settings.password is None else settings.password.get_secret_value(),
        websocket_path=settings.websocket_path,
    )
    context = None
    if settings.uses_tls:
        try:
            context = ssl.create_default_context(cafile=settings.tls_ca_file)
            if settings.tls_cert_file is not None:
                context.load_cert_chain(settings.tls_cert_file, settings.tls_key_file)
        except (OSError, ssl.SSLError) as error:
            raise SettingsError(
                f"the TLS files cannot be used ({error}); write paths of PEM files"
            ) from error
    return Target(address, context, settings.telemetry_topic, settings.status_topic)
