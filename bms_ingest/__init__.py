"""bms-ingest: MQTT telemetry of backup-power sites, as trusted PostgreSQL rows."""

__version__ = "0.1.0"
