"""Everything an operator can set, read from a TOML file and over it from `BMS_INGEST_*` variables."""

from __future__ import annotations

from datetime import timedelta
from pathlib import Path
from typing import Annotated, Literal

from pydantic import BaseModel, ConfigDict, Field, SecretStr

Seconds = Annotated[timedelta, Field(gt=timedelta(0))]


class Section(BaseModel):
    """Base of the nested groups: unknown keys are mistakes, not extensions."""

    model_config = ConfigDict(extra="forbid", frozen=True, validate_default=True)


class DatabaseSettings(Section):
    """PostgreSQL."""

    dsn: SecretStr = Field(description="postgresql://user:password@host:5432/database")
    dsn_file: Path | None = Field(None, description="file that holds the DSN, instead of `dsn`")
    connect_timeout: Seconds = timedelta(seconds=10)
    statement_timeout: Seconds = timedelta(seconds=30)
    lock_timeout: Seconds = timedelta(seconds=5)
    write_timeout: Seconds = Field(
        timedelta(seconds=60), description="longest one batch may take before its connection is given up"
    )


class MqttSettings(Section):
    """The broker and our session with it."""

    url: SecretStr = Field(description="mqtt://user:password@host:1883, or mqtts://, ws://, wss://")
    url_file: Path | None = None
    password: SecretStr | None = Field(None, description="instead of the one in the URL")
    password_file: Path | None = None
    client_id: str = Field("bms-ingest", min_length=1, max_length=128)
    share_group: str | None = Field(None, description="consume as $share/<group>/…, together with other daemons")
    telemetry_topic: str = "bms/sites/{site_id}/telemetry"
    status_topic: str = "bms/sites/{site_id}/status"
    protocol: Literal["auto", "5", "3.1.1"] = "auto"
    receive_maximum: int = Field(10_000, ge=20, le=32_000, description="messages in flight, MQTT 5 only")
    session_expiry: Seconds = Field(
        timedelta(days=7), description="how long the broker keeps our queue while we are away, MQTT 5 only"
    )
    keepalive: Seconds = timedelta(seconds=30)
    connect_timeout: Seconds = timedelta(seconds=10)
    max_payload_bytes: int = Field(1_048_576, ge=1024, description="a larger message goes to quarantine unread")
    read_buffer_bytes: int = Field(
        33_554_432, ge=1_048_576, description="reading from the broker pauses while this much waits for the writer"
    )
    tls_ca_file: Path | None = None
    tls_cert_file: Path | None = None
    tls_key_file: Path | None = None


class BatchSettings(Section):
    """When a batch is closed and written."""

    max_rows: int = Field(5_000, ge=1, le=50_000)
    max_wait: Seconds = timedelta(milliseconds=50)
    max_bytes: int = Field(16_777_216, ge=65_536)


class Bounds(Section):
    """Lowest and highest value a metric can physically have, both included."""

    low: float = Field(allow_inf_nan=False, ge=-3.4e38)
    high: float = Field(allow_inf_nan=False, le=3.4e38)


class HttpSettings(Section):
    """The server of /metrics, /healthz and /readyz."""

    host: str = "127.0.0.1"
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
    format: Literal["auto", "console", "json"] = Field("auto", description="auto: console on a terminal, else JSON")


class ShutdownSettings(Section):
    """What SIGTERM does."""

    drain_timeout: Seconds = Field(
        timedelta(seconds=20), description="to store and acknowledge what was received; then it stays with the broker"
    )


class Settings(Section):
    """The whole configuration; made by `load_settings`."""

    database: DatabaseSettings
    mqtt: MqttSettings
    batch: BatchSettings = BatchSettings()
    limits: dict[str, Bounds] = Field(default_factory=dict, description="physical range of each metric")
    http: HttpSettings = HttpSettings()
    retention: RetentionSettings = RetentionSettings()
    partitions: PartitionSettings = PartitionSettings()
    log: LogSettings = LogSettings()
    shutdown: ShutdownSettings = ShutdownSettings()
    max_clock_ahead: Seconds = Field(timedelta(minutes=10), description="a reading further in the future is refused")
