"""Everything an operator can set, read from a TOML file and over it from `BMS_INGEST_*` variables."""

from __future__ import annotations

import os
from collections.abc import Mapping
from datetime import timedelta
from functools import cached_property
from pathlib import Path
from typing import Annotated, Any, Literal, Self

from pydantic import (
    AfterValidator,
    BaseModel,
    ConfigDict,
    Field,
    SecretStr,
    ValidationError,
    ValidationInfo,
    field_validator,
    model_validator,
)
from pydantic_core import PydanticCustomError
from pydantic_settings import BaseSettings, PydanticBaseSettingsSource, SettingsConfigDict

from bms_ingest.addresses import ADDRESS, BrokerAddress, check_dsn, parse_broker_url
from bms_ingest.errors import SettingsError
from bms_ingest.settings_limits import fill_limits
from bms_ingest.settings_report import masked, sentences
from bms_ingest.settings_sources import gather
from bms_ingest.settings_tree import both
from bms_ingest.settings_types import (
    KeepAlive,
    ReadableFile,
    Seconds,
    TopicTemplateText,
    check_address,
    check_plain_text,
    check_share_group,
)


class Section(BaseModel):
    """Base of the nested groups: unknown keys are mistakes, not extensions."""

    model_config = ConfigDict(extra="forbid", frozen=True, validate_default=True, hide_input_in_errors=True)

    @field_validator("*", mode="before")
    @classmethod
    def _refuse_booleans(cls, given: object) -> object:
        """No setting is one, and pydantic would take `true` for the number 1."""
        if isinstance(given, bool):
            raise PydanticCustomError("boolean", "no setting is true or false")
        return given


class DatabaseSettings(Section):
    """PostgreSQL."""

    dsn: Annotated[SecretStr, ADDRESS, check_address(check_dsn)] = Field(
        description="postgresql://user:password@host:5432/database"
    )
    dsn_file: Path | None = Field(None, description="file that holds the DSN, instead of `dsn`")
    connect_timeout: Seconds = timedelta(seconds=10)
    statement_timeout: Seconds = timedelta(seconds=30)
    lock_timeout: Seconds = timedelta(seconds=5)
    write_timeout: Seconds = Field(
        timedelta(seconds=60), description="longest one batch may take before its connection is given up"
    )


class MqttSettings(Section):
    """The broker and our session with it."""

    url: Annotated[SecretStr, ADDRESS, check_address(parse_broker_url)] = Field(
        description="mqtt://user:password@host:1883, or mqtts://, ws://, wss://"
    )
    url_file: Path | None = Field(None, description="file that holds the URL, instead of `url`")
    password: SecretStr | None = Field(
        None, description="goes before the one in the URL, which fills it in when it is not given"
    )
    password_file: Path | None = Field(
        None, description="file that holds the password, instead of `password`"
    )
    client_id: Annotated[str, AfterValidator(check_plain_text)] = Field(
        "bms-ingest", min_length=1, max_length=128, description="fixed for each replica, and its own"
    )
    share_group: Annotated[str, AfterValidator(check_share_group)] | None = Field(
        None, description="consume as $share/<group>/…, together with other daemons"
    )
    telemetry_topic: TopicTemplateText = "bms/sites/{site_id}/telemetry"
    status_topic: TopicTemplateText = "bms/sites/{site_id}/status"
    protocol: Literal["auto", "5", "3.1.1"] = "auto"
    receive_maximum: int = Field(10_000, ge=20, le=32_000, description="messages in flight, MQTT 5 only")
    session_expiry: Seconds = Field(
        timedelta(days=7), description="how long the broker keeps our queue while we are away, MQTT 5 only"
    )
    keepalive: KeepAlive = timedelta(seconds=30)
    connect_timeout: Seconds = timedelta(seconds=10)
    max_payload_bytes: int = Field(
        1_048_576, ge=1024, description="a larger message goes to quarantine unread"
    )
    read_buffer_bytes: int = Field(
        16_777_216,
        ge=1_048_576,
        description="reading from the broker pauses while this much waits for the writer",
    )
    tls_ca_file: ReadableFile | None = Field(None, description="PEM of the authority that signed the broker")
    tls_cert_file: ReadableFile | None = Field(None, description="PEM of our own certificate")
    tls_key_file: ReadableFile | None = Field(None, description="PEM of our own key")

    @field_validator("password")
    @classmethod
    def _take_password_of_url(cls, password: SecretStr | None, info: ValidationInfo) -> SecretStr | None:
        if password is None and "url" in info.data:
            in_url = parse_broker_url(info.data["url"].get_secret_value()).password
            return None if in_url is None else SecretStr(in_url)
        return password

    @model_validator(mode="after")
    def _check_topics_differ(self) -> Self:
        if self.telemetry_topic == self.status_topic:
            raise ValueError(
                f"{both(('mqtt', 'status_topic'))} is the same as {both(('mqtt', 'telemetry_topic'))}; "
                "write the topic on which gateways publish online and offline"
            )
        return self

    @model_validator(mode="after")
    def _check_tls(self) -> Self:
        names = ("tls_ca_file", "tls_cert_file", "tls_key_file")
        given = [name for name in names if getattr(self, name) is not None]
        if given and self.scheme not in ("mqtts", "wss"):
            raise ValueError(
                f"{both(('mqtt', given[0]))} is given, but {both(('mqtt', 'url'))} is {self.scheme}://, "
                "which is not encrypted; write mqtts:// or wss:// there, or remove the TLS files"
            )
        if self.tls_key_file is not None and self.tls_cert_file is None:
            raise ValueError(
                f"{both(('mqtt', 'tls_key_file'))} is given without {both(('mqtt', 'tls_cert_file'))}; "
                "write the path of the certificate there"
            )
        return self

    @cached_property
    def _address(self) -> BrokerAddress:
        return parse_broker_url(self.url.get_secret_value())

    @property
    def scheme(self) -> str:
        """mqtt, mqtts, ws or wss."""
        return self._address.scheme

    @property
    def host(self) -> str:
        """Host name or address, an IPv6 one without brackets."""
        return self._address.host

    @property
    def port(self) -> int:
        """TCP port: the URL's, else 1883, 8883, 80 or 443 by scheme."""
        return self._address.port

    @property
    def username(self) -> str | None:
        """User name in the URL, percent-decoded."""
        return self._address.username

    @property
    def websocket_path(self) -> str:
        """Path and query of the web socket, "/mqtt" by default; empty for mqtt:// and mqtts://."""
        return self._address.websocket_path

    @property
    def uses_tls(self) -> bool:
        """Whether the scheme is an encrypted one."""
        return self.scheme in ("mqtts", "wss")

    @property
    def uses_websocket(self) -> bool:
        """Whether MQTT runs over a web socket."""
        return self.scheme in ("ws", "wss")


class BatchSettings(Section):
    """When a batch is closed and written."""

    max_rows: int = Field(5_000, ge=1, le=50_000)
    max_wait: Seconds = timedelta(milliseconds=50)
    max_bytes: int = Field(4_194_304, ge=65_536)


class Bounds(Section):
    """Lowest and highest value a metric can physically have, both included."""

    low: float = Field(allow_inf_nan=False, ge=-3.4e38)
    high: float = Field(allow_inf_nan=False, le=3.4e38)

    @model_validator(mode="after")
    def _check_order(self) -> Self:
        if self.low > self.high:
            raise ValueError(f"has low {self.low:g} above high {self.high:g}; write them the other way round")
        return self


class HttpSettings(Section):
    """The server of /metrics, /healthz and /readyz."""

    host: str = Field("127.0.0.1", min_length=1)
    port: int = Field(9108, ge=0, le=65_535, description="0 takes a free one and logs it")


class RetentionSettings(Section):
    """How long data is kept; a reading older than `raw` is refused at the door."""

    raw: Seconds = timedelta(days=90)


class PartitionSettings(Section):
    """Monthly partitions of telemetry_readings."""

    months_ahead: int = Field(3, ge=1, le=24)
    check_interval: Seconds = timedelta(hours=1)


class LogSettings(Section):
    """Where and how the program speaks: always standard error."""

    level: Literal["debug", "info", "warning", "error"] = "info"
    format: Literal["auto", "console", "json"] = Field(
        "auto", description="auto: console on a terminal, else JSON"
    )


class ShutdownSettings(Section):
    """What SIGTERM does."""

    drain_timeout: Seconds = Field(
        timedelta(seconds=20),
        description="to store and acknowledge what was received; then it stays with the broker",
    )


class Settings(Section, BaseSettings):
    """The whole configuration; made by `load_settings`, and blind to the environment otherwise."""

    model_config = SettingsConfigDict(
        extra="forbid", frozen=True, validate_default=True, hide_input_in_errors=True
    )

    database: DatabaseSettings
    mqtt: MqttSettings
    batch: BatchSettings = BatchSettings()
    limits: dict[str, Bounds] = Field(
        default_factory=dict, description="physical range of each metric; what is not given keeps its default"
    )
    http: HttpSettings = HttpSettings()
    retention: RetentionSettings = RetentionSettings()
    partitions: PartitionSettings = PartitionSettings()
    log: LogSettings = LogSettings()
    shutdown: ShutdownSettings = ShutdownSettings()
    max_clock_ahead: Seconds = Field(
        timedelta(minutes=10), description="a reading further in the future is refused"
    )

    @classmethod
    def settings_customise_sources(
        cls,
        settings_cls: type[BaseSettings],
        init_settings: PydanticBaseSettingsSource,
        env_settings: PydanticBaseSettingsSource,
        dotenv_settings: PydanticBaseSettingsSource,
        file_secret_settings: PydanticBaseSettingsSource,
    ) -> tuple[PydanticBaseSettingsSource, ...]:
        """Leave only the arguments: `load_settings` gathers the other sources."""
        return (init_settings,)

    @field_validator("limits", mode="before")
    @classmethod
    def _fill_limits(cls, given: object) -> object:
        return fill_limits(given)

    @model_validator(mode="after")
    def _check_batch_fits_window(self) -> Self:
        if self.batch.max_rows > self.mqtt.receive_maximum:
            raise ValueError(
                f"{both(('batch', 'max_rows'))} is {self.batch.max_rows}, more than "
                f"{both(('mqtt', 'receive_maximum'))} ({self.mqtt.receive_maximum}), and the broker sends "
                "no more than that before a batch is acknowledged; "
                f"write at most {self.mqtt.receive_maximum}, or raise the other"
            )
        return self


def load_settings(config: Path | None = None, environment: Mapping[str, str] | None = None) -> Settings:
    """Read the configuration: a TOML file, `BMS_INGEST_*` variables over it, and files that hold secrets.

    Args:
        config: path of the file; None means the one BMS_INGEST_CONFIG names, or no file.
        environment: variables to read; None means the process's own.

    Raises:
        SettingsError: one sentence for each mistake, each on a line of its own.
    """
    gathered = gather(Settings, config, os.environ if environment is None else environment)
    values = {"database": {}, "mqtt": {}, **gathered.values}
    mistakes = gathered.mistakes
    try:
        settings = Settings(**values)
    except ValidationError as error:
        # not `from error`: its text would hold the values that were given, secrets among them
        mistakes = [*mistakes, *sentences(error, Settings, gathered.excused)]
    if mistakes:
        raise SettingsError("\n".join(mistakes))
    return settings


def shown(settings: Settings) -> dict[str, Any]:
    """Return the settings as JSON-able nested dictionaries, with secrets masked, for `config show`."""
    return masked(settings)
