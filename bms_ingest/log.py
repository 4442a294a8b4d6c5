"""What the program says while it works: structlog and stdlib logging on one road to standard error.

The event is a stable snake_case slug, facts are keys. On a terminal a line is made for eyes, otherwise it is
one JSON document, so that journald and log shippers need no parser. Whatever looks like a secret is masked on
the way out; the first line of defence is that nobody logs one.
"""

from __future__ import annotations

import logging
import re
import sys
import time
from collections.abc import Callable, Mapping
from datetime import timedelta
from typing import Any, TextIO

import structlog
from structlog.stdlib import ProcessorFormatter
from structlog.typing import EventDict, Processor, WrappedLogger

from bms_ingest.settings import LogSettings

MASK = "***"

# Libraries whose own info lines say what our events already say.
QUIET_LOGGERS = ("asyncio", "uvicorn", "mqtt", "paho", "asyncpg", "httpcore", "httpx")

_SECRET_KEY = re.compile(
    r"(^|_)(password|passwd|passphrase|dsn|token|secret|credentials?|authorization|api_?key)$", re.IGNORECASE
)
# Up to the last @ of the word: a password with an unescaped @ or / in it must not leak its tail.
_URL_PASSWORD = re.compile(r"(?P<start>://[^\s:/@]*:)\S+@")
# `password=…`, `PGPASSWORD=…` and `"password": …`, but not the sentence "wrong password: see the manual".
_ASSIGNED_PASSWORD = re.compile(
    r"(?P<start>\w*(?:password|passwd|passphrase|token|secret|api_?key)(?:\s*=\s*|[\"']\s*:\s*))"
    r"(?:'[^']*'|\"[^\"]*\"|[^\s,;&'\"]+)",
    re.IGNORECASE,
)


def configure(settings: LogSettings) -> None:
    """Set up logging for the whole process; a second call replaces the first.

    structlog and stdlib logging (uvicorn, aiomqtt, asyncpg) end in the same renderer, on standard error.
    """
    console = settings.format == "console" or (settings.format == "auto" and sys.stderr.isatty())
    level = logging.getLevelNamesMapping()[settings.level.upper()]
    shared: list[Processor] = [
        structlog.contextvars.merge_contextvars,
        structlog.stdlib.add_log_level,
        structlog.stdlib.add_logger_name,
        structlog.processors.TimeStamper(fmt="iso", utc=True),
        structlog.stdlib.ExtraAdder(),
    ]
    structlog.configure(
        processors=[
            structlog.stdlib.filter_by_level,
            *shared,
            structlog.stdlib.PositionalArgumentsFormatter(),
            structlog.processors.StackInfoRenderer(),
            ProcessorFormatter.wrap_for_formatter,
        ],
        logger_factory=structlog.stdlib.LoggerFactory(),
        wrapper_class=structlog.stdlib.BoundLogger,
        cache_logger_on_first_use=False,
    )
    handler = _StandardError()
    handler.setFormatter(
        ProcessorFormatter(
            foreign_pre_chain=shared,
            # Tracebacks become text before masking: an exception's message may quote a DSN.
            processors=[
                ProcessorFormatter.remove_processors_meta,
                structlog.processors.format_exc_info,
                mask_secrets,
                *_renderer(console),
            ],
        )
    )
    root = logging.getLogger()
    for old in [one for one in root.handlers if isinstance(one, _StandardError)]:
        root.removeHandler(old)
    root.addHandler(handler)
    root.setLevel(level)
    logging.captureWarnings(capture=True)
    for name in QUIET_LOGGERS:
        logging.getLogger(name).setLevel(max(level, logging.WARNING) if level > logging.DEBUG else level)


def get_logger(name: str) -> structlog.stdlib.BoundLogger:
    """Return the logger of a module; `name` is its `__name__`."""
    logger: structlog.stdlib.BoundLogger = structlog.stdlib.get_logger(name)
    return logger


def mask_secrets(_logger: WrappedLogger, _method: str, event: EventDict) -> EventDict:
    """Replace passwords in URLs and the values of keys that are named like secrets, at any depth."""
    return {key: _masked(key, value) for key, value in event.items()}


def mask_text(text: str) -> str:
    """Replace passwords in URLs and after `password=` in a text."""
    if "://" in text:
        text = _URL_PASSWORD.sub(rf"\g<start>{MASK}@", text)
    return _ASSIGNED_PASSWORD.sub(rf"\g<start>{MASK}", text)


class RateLimited:
    """Says the same event at most once an interval, and then how many times it was held back.

    One per place that may complain in a loop; used from one thread.

    Args:
        logger: where it speaks.
        interval: shortest time between two lines of one event.
        clock: monotonic seconds; a test may give its own.
    """

    def __init__(
        self,
        logger: structlog.stdlib.BoundLogger,
        interval: timedelta,
        *,
        clock: Callable[[], float] = time.monotonic,
    ) -> None:
        self._logger = logger
        self._interval_seconds = interval.total_seconds()
        self._clock = clock
        self._next: dict[str, float] = {}
        self._suppressed: dict[str, int] = {}

    def warning(self, event: str, **facts: object) -> None:
        """Say it at level warning, or count it."""
        self._say(self._logger.warning, event, facts)

    def error(self, event: str, **facts: object) -> None:
        """Say it at level error, or count it."""
        self._say(self._logger.error, event, facts)

    def _say(self, speak: Callable[..., Any], event: str, facts: Mapping[str, object]) -> None:
        now = self._clock()
        if now < self._next.get(event, now):
            self._suppressed[event] = self._suppressed.get(event, 0) + 1
            return
        self._next[event] = now + self._interval_seconds
        suppressed = self._suppressed.pop(event, 0)
        speak(event, **facts, **({"suppressed": suppressed} if suppressed else {}))


class _StandardError(logging.StreamHandler[TextIO]):
    """Writes to whatever `sys.stderr` is at that moment."""

    def __init__(self) -> None:
        logging.Handler.__init__(self)

    @property
    def stream(self) -> TextIO:
        return sys.stderr

    @stream.setter
    def stream(self, _value: TextIO) -> None:
        raise AttributeError("the stream is always sys.stderr")


def _renderer(console: bool) -> list[Processor]:
    if console:
        return [structlog.dev.ConsoleRenderer(colors=sys.stderr.isatty())]
    return [
        structlog.processors.JSONRenderer(ensure_ascii=False, default=str),
    ]


def _masked(key: object, value: object) -> object:
    if isinstance(key, str) and _SECRET_KEY.search(key):
        return None if value is None else MASK
    if isinstance(value, str):
        return mask_text(value)
    if isinstance(value, Mapping):
        return {inner: _masked(inner, one) for inner, one in value.items()}
    if isinstance(value, list | tuple | set | frozenset):
        return [_masked(None, one) for one in value]
    if isinstance(value, BaseException):
        return mask_text(f"{type(value).__name__}: {value}" if str(value) else type(value).__name__)
    return value
