"""Every error this program raises on purpose; library errors become these at the border."""

from __future__ import annotations


class BmsIngestError(Exception):
    """Base of all errors of this package."""


class SettingsError(BmsIngestError):
    """A setting is missing or wrong; the message says which, why, and what to write. Exit code 2."""


class MigrationError(BmsIngestError):
    """The schema cannot be brought to this version: an edited or unknown migration, or a failing one."""


class BrokerError(BmsIngestError):
    """Base of everything the MQTT side reports."""


class BrokerUnavailable(BrokerError):
    """No connection: refused, unreachable, timed out, lost. Passes by itself; try again."""


class BrokerRefused(BrokerError):
    """The broker answered and said no (credentials, client id, ACL): somebody must act; keep trying."""


class ProtocolUnsupported(BrokerError):
    """The broker does not speak the MQTT version we offered; an older one may do."""


class StoreError(BmsIngestError):
    """Base of everything the database reports; `sqlstate` is None when the failure had none.

    See https://www.postgresql.org/docs/current/errcodes-appendix.html for the codes.
    """

    def __init__(self, message: str, *, sqlstate: str | None = None) -> None:
        super().__init__(message)
        self.sqlstate = sqlstate


class StoreUnavailable(StoreError):
    """Passes by itself (connection, deadlock, resources, restart): keep the data and try again."""


class StoreRefused(StoreError):
    """A person must act (credentials, privileges, missing table, full disk): keep the data, try slowly."""


class PartitionMissing(StoreError):
    """No partition holds this reading's month: create it and try again."""


class BadRow(StoreError):
    """At least one row of the batch can never be stored as it is (SQLSTATE classes 22 and 23)."""
