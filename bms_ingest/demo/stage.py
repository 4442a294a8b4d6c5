"""The processes of the demo: PostgreSQL, a broker and the real daemon, in a directory that is thrown away."""

from __future__ import annotations

import contextlib
import os
import shlex
import shutil
import signal
import subprocess
import sys
import tempfile
from pathlib import Path

from bms_ingest.demo.embedded import (
    BrokerKind,
    EmbeddedBroker,
    EmbeddedPostgres,
    EmbeddedServerError,
    free_port,
    unprivileged,
)
from bms_ingest.demo.reach import reachable_by_others
from bms_ingest.errors import BmsIngestError

DAEMON_STOP_SECONDS = 25.0
MIGRATE_SECONDS = 60.0
_TAIL_LINES = 15


class StageError(BmsIngestError):
    """A process of the demo did not start or died; `log_tail` holds its last words."""

    def __init__(self, message: str, log_tail: str = "") -> None:
        super().__init__(message)
        self.log_tail = log_tail


def make_state_directory() -> Path:
    """Make a fresh directory under the system's temporary one.

    For root it must be a place that everybody can pass through, because PostgreSQL runs as somebody else.

    Raises:
        StageError: there is no such place.
    """
    for place in dict.fromkeys((tempfile.gettempdir(), "/tmp", "/var/tmp")):
        path = Path(place)
        if os.access(path, os.W_OK | os.X_OK) and (not unprivileged() or reachable_by_others(path)):
            return Path(tempfile.mkdtemp(prefix="bms-ingest-demo-", dir=path))
    raise StageError(
        "there is no temporary directory that can be used; set TMPDIR to one that everybody may enter"
    )


def repository_mosquitto_conf() -> Path | None:
    """Path of the `mosquitto.conf` at the top of a checkout; None in an installed wheel."""
    path = Path(__file__).resolve().parents[2] / "mosquitto.conf"
    return path if path.is_file() else None


class Stage:
    """Starts the processes one by one and ends all of them; its methods block.

    `close` may be called at any time, from another thread too, and more than once.
    """

    def __init__(self, directory: Path, broker: BrokerKind | None) -> None:
        self.directory = directory
        self.http_port = free_port()
        self._wanted_broker = broker
        self._postgres: EmbeddedPostgres | None = None
        self._broker: EmbeddedBroker | None = None
        self._migration: subprocess.Popen[bytes] | None = None
        self._daemon: subprocess.Popen[bytes] | None = None
        self.daemon_log = directory / "daemon.log"

    @property
    def dsn(self) -> str:
        """Of the demo's database; there is no password in it."""
        return self._started_postgres.dsn()

    @property
    def broker_url(self) -> str:
        """Of the demo's broker; there is no password in it."""
        return self._started_broker.url

    @property
    def broker_kind(self) -> BrokerKind:
        """Which broker was started."""
        return self._started_broker.kind

    def start_postgres(self) -> None:
        """Make a new database cluster and start it.

        Raises:
            EmbeddedServerError: it did not come up.
        """
        self._postgres = EmbeddedPostgres(self.directory / "postgres")
        self._postgres.start()

    def start_broker(self) -> None:
        """Start the broker.

        Raises:
            EmbeddedServerError: it is not installed or did not come up.
        """
        self._broker = EmbeddedBroker(
            self.directory / "broker",
            kind=self._wanted_broker,
            configuration=repository_mosquitto_conf(),
            open_to_all=True,
        )
        self._broker.start()

    def migrate(self) -> None:
        """Run `bms-ingest migrate`.

        Raises:
            StageError: it failed.
        """
        log = self.directory / "migrate.log"
        self._migration = self._spawn("migrate", log)
        try:
            code = self._migration.wait(MIGRATE_SECONDS)
        except subprocess.TimeoutExpired:
            _end(self._migration, signal.SIGKILL, 5.0)
            raise StageError(
                f"bms-ingest migrate took longer than {MIGRATE_SECONDS:.0f} s", _tail(log)
            ) from None
        if code != 0:
            raise StageError(f"bms-ingest migrate ended with exit code {code}", _tail(log))

    def start_daemon(self) -> None:
        """Start `bms-ingest run`; it is ready when its /readyz says so."""
        self._daemon = self._spawn("run", self.daemon_log)

    def stop_daemon(self) -> None:
        """Ask the daemon to drain and wait for its end.

        Raises:
            StageError: it did not end in time, or not with exit code 0.
        """
        if self._daemon is None:
            return
        code = _end(self._daemon, signal.SIGTERM, DAEMON_STOP_SECONDS)
        self._daemon = None
        if code != 0:
            raise StageError(
                f"the daemon ended with exit code {code} when asked to stop", _tail(self.daemon_log)
            )

    def check(self) -> None:
        """See that everything that was started still runs.

        Raises:
            StageError: it does not; says which.
        """
        if self._daemon is not None and self._daemon.poll() is not None:
            raise StageError(
                f"the daemon ended with exit code {self._daemon.returncode}", _tail(self.daemon_log)
            )
        if self._postgres is not None and not self._postgres.running:
            raise StageError("PostgreSQL died", _tail(self.directory / "postgres" / "postgres.log"))
        if self._broker is not None and not self._broker.running:
            raise StageError("the broker died", _tail(self.directory / "broker" / "broker.log"))

    def close(self, *, at_once: bool = False) -> None:
        """End every process; with `at_once` as hard as it takes."""
        if self._migration is not None:
            _end(self._migration, signal.SIGKILL, 5.0)
        if self._daemon is not None:
            _end(self._daemon, signal.SIGKILL if at_once else signal.SIGTERM, DAEMON_STOP_SECONDS)
        for server in (self._broker, self._postgres):
            if server is not None:
                (server.kill if at_once else server.stop)()

    def remove(self) -> None:
        """Delete the state directory."""
        shutil.rmtree(self.directory, ignore_errors=True)

    def closer_looks(self) -> list[tuple[str, str]]:
        """Commands for a curious person: what each shows, and the command."""
        psql = self._started_postgres.psql()
        variables = f"BMS_INGEST_DATABASE__DSN={self.dsn} BMS_INGEST_MQTT__URL={self.broker_url}"
        program = f"{variables} {shlex.join([sys.executable, '-m', 'bms_ingest'])}"
        looks = [
            ("metrics", f"curl -s http://127.0.0.1:{self.http_port}/metrics"),
            ("readiness", f"curl -s http://127.0.0.1:{self.http_port}/readyz"),
            ("quarantine", f"{program} quarantine list"),
            ("daemon's log", f"tail -f {self.daemon_log}"),
        ]
        if psql is not None:
            looks.insert(0, ("database", shlex.join([psql, self.dsn])))
        return looks

    @property
    def _started_postgres(self) -> EmbeddedPostgres:
        if self._postgres is None:
            raise EmbeddedServerError("postgres is not running; call start_postgres() first")
        return self._postgres

    @property
    def _started_broker(self) -> EmbeddedBroker:
        if self._broker is None:
            raise EmbeddedServerError("the broker is not running; call start_broker() first")
        return self._broker

    def _spawn(self, command: str, log: Path) -> subprocess.Popen[bytes]:
        # Nothing of the caller's own configuration: it may point at a real database.
        environment = {
            name: value for name, value in os.environ.items() if not name.startswith("BMS_INGEST_")
        }
        environment |= {
            "BMS_INGEST_DATABASE__DSN": self.dsn,
            "BMS_INGEST_MQTT__URL": self.broker_url,
            "BMS_INGEST_HTTP__PORT": str(self.http_port),
            "BMS_INGEST_LOG__FORMAT": "json",
        }
        with log.open("ab") as output:
            return subprocess.Popen(
                [sys.executable, "-m", "bms_ingest", command],
                stdin=subprocess.DEVNULL,
                stdout=output,
                stderr=subprocess.STDOUT,
                env=environment,
                # A session of its own: Ctrl-C on our terminal is ours to handle.
                start_new_session=True,
            )


def _end(process: subprocess.Popen[bytes], sign: signal.Signals, timeout_seconds: float) -> int:
    """Signal a process if it lives, wait, and kill it when it takes too long; return its exit code."""
    if process.poll() is None:
        with contextlib.suppress(ProcessLookupError):
            process.send_signal(sign)
        try:
            process.wait(timeout_seconds)
        except subprocess.TimeoutExpired:
            process.kill()
            process.wait()
    return process.returncode


def _tail(log: Path) -> str:
    if not log.exists():
        return ""
    return "\n".join(log.read_text(errors="replace").splitlines()[-_TAIL_LINES:])
