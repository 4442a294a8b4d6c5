"""Every metric the program exports; one instance a process, on a registry of its own.

No label holds a topic or a site: a thousand sites would be a thousand series of each.
"""

from __future__ import annotations

from prometheus_client import CollectorRegistry, Counter, Gauge, Histogram, disable_created_metrics

from bms_ingest.models import Reason

SECONDS = (0.005, 0.01, 0.025, 0.05, 0.1, 0.25, 0.5, 1, 2.5, 5, 10, 30, 60, 300, 3600)
SEVERITIES = ("info", "warning", "error", "critical")
ROWS = (1, 10, 100, 500, 1_000, 2_500, 5_000, 10_000, 50_000)


class Metrics:
    """Counters, gauges and histograms named `bms_ingest_*`."""

    def __init__(self, registry: CollectorRegistry | None = None) -> None:
        # one more series a counter, which nobody asks for
        disable_created_metrics()  # type: ignore[no-untyped-call]
        self.registry = registry or CollectorRegistry()

        def counter(name: str, text: str, *labels: str) -> Counter:
            return Counter(f"bms_ingest_{name}", text, labels, registry=self.registry)

        def gauge(name: str, text: str, *labels: str) -> Gauge:
            return Gauge(f"bms_ingest_{name}", text, labels, registry=self.registry)

        def histogram(name: str, text: str, buckets: tuple[float, ...]) -> Histogram:
            return Histogram(f"bms_ingest_{name}", text, buckets=buckets, registry=self.registry)

        self.messages_received = counter(
            "messages_received", "Messages the broker handed over; QoS 0 cannot be protected", "qos"
        )
        self.messages_acknowledged = counter("messages_acknowledged", "PUBACKs sent")
        self.readings_received = counter(
            "readings_received",
            "Readings and rejected payloads taken in: stored + duplicate + quarantined + pending",
        )
        self.readings_stored = counter("readings_stored", "Readings that became rows")
        self.readings_duplicate = counter(
            "readings_duplicate", "Readings that were rows already, with equal values"
        )
        self.readings_quarantined = counter(
            "readings_quarantined", "Readings and payloads kept in quarantine", "reason"
        )
        self.readings_pending = gauge("readings_pending", "Readings taken in and not yet settled")
        self.unknown_fields = counter(
            "unknown_fields", "Payload fields that were ignored because nobody knows them"
        )
        self.batches = counter("batches", "Batches closed, by what closed them", "trigger")
        self.batch_rows = histogram("batch_rows", "Readings and rejections in a batch", ROWS)
        self.write_seconds = histogram(
            "write_seconds", "One batch, from begin to commit, retries included", SECONDS
        )
        self.write_failures = counter(
            "write_failures", "Attempts to write a batch that failed and were repeated", "error"
        )
        self.commit_lag_seconds = histogram(
            "commit_lag_seconds", "From received to committed, oldest message of each batch", SECONDS
        )
        self.observer_failures = counter(
            "observer_failures", "Batches an observer could not handle and was passed over for", "observer"
        )
        self.oldest_unacked_seconds = gauge(
            "oldest_unacked_seconds", "Age of the oldest message not acknowledged"
        )
        self.mqtt_connected = gauge("mqtt_connected", "1 while subscribed at the broker")
        self.mqtt_reconnects = counter("mqtt_reconnects", "Connections to the broker after the first")
        self.mqtt_sessions_lost = counter(
            "mqtt_sessions_lost", "Reconnects at which the broker no longer had our session and its queue"
        )
        self.alerts_open = gauge("alerts_open", "Alerts active or acknowledged", "severity")
        self.partition_horizon_days = gauge(
            "partition_horizon_days", "Days for which partitions exist ahead of now"
        )
        self.rollup_lag_seconds = gauge(
            "rollup_lag_seconds", "Age of the oldest change no rollup has taken up"
        )
        self.sites_online = gauge("sites_online", "Sites seen within three of their expected intervals")
        self.task_failures = counter(
            "task_failures", "Crashes of a part of the daemon, which was started again", "task"
        )

        for qos in ("0", "1", "2"):
            self.messages_received.labels(qos)
        for reason in Reason:
            self.readings_quarantined.labels(reason)
        for trigger in ("rows", "bytes", "wait", "drain"):
            self.batches.labels(trigger)
        for severity in SEVERITIES:
            self.alerts_open.labels(severity)
