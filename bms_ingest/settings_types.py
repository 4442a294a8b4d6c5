"""The types of single settings and what each of them refuses; a refusal says what to write instead."""

from __future__ import annotations

from collections.abc import Callable
from datetime import timedelta
from pathlib import Path
from typing import Annotated

from pydantic import AfterValidator, BeforeValidator, Field, SecretStr

from bms_ingest.durations import parse_duration

SITE_ID_PLACE = "{site_id}"
LONGEST_DURATION = timedelta(days=36_525)


def check_topic_template(template: str) -> str:
    """Return the template if `{site_id}` is exactly one whole level of it and nothing is a wildcard.

    Raises:
        ValueError: what is wrong and what to write.
    """
    example = "write for example bms/sites/{site_id}/telemetry"
    levels = template.split("/")
    if levels.count(SITE_ID_PLACE) != 1 or template.count(SITE_ID_PLACE) != 1:
        raise ValueError(f"must hold {SITE_ID_PLACE} exactly once, as a whole level; {example}")
    if any(sign in template.replace(SITE_ID_PLACE, "") for sign in "+#{}\0"):
        raise ValueError(f"must not hold + # {{ }} or NUL; {example}")
    if template.startswith("$"):
        raise ValueError(
            f"must not begin with $, which brokers keep for themselves [MQTT-4.7.2-1]; {example}"
        )
    if len(template.encode()) > 60_000:
        raise ValueError(f"is longer than a topic can be; {example}")
    return template


def check_address(check: Callable[[str], object]) -> AfterValidator:
    """Make a validator of a secret out of a check of its text; the check's error must not hold the text."""

    def checked(address: SecretStr) -> SecretStr:
        check(address.get_secret_value())
        return address

    return AfterValidator(checked)


def check_readable(path: Path) -> Path:
    """Return the path if this process can open it.

    Raises:
        ValueError: what is wrong and what to write.
    """
    try:
        path.open("rb").close()
    except (OSError, ValueError) as error:
        why = getattr(error, "strerror", None) or "no such place"
        raise ValueError(f"is {path}, which cannot be read ({why}); write the path of a PEM file") from None
    return path


def check_plain_text(text: str) -> str:
    """Return the text if every character of it can be seen.

    Raises:
        ValueError: what is wrong and what to write.
    """
    if not text.isprintable():
        raise ValueError("holds an invisible character or a line break; write plain text")
    return text


def check_share_group(group: str) -> str:
    """Return the group if it can stand in `$share/<group>/…` [MQTT-4.8.2-1, MQTT-4.8.2-2].

    Raises:
        ValueError: what is wrong and what to write.
    """
    if not group or not group.isprintable() or any(sign in group for sign in "/+#"):
        raise ValueError("must be plain text without / + #; write a word such as bms-ingest")
    return group


Seconds = Annotated[timedelta, Field(gt=timedelta(0), le=LONGEST_DURATION), BeforeValidator(parse_duration)]
KeepAlive = Annotated[
    timedelta, Field(ge=timedelta(seconds=1), le=timedelta(seconds=65_535)), BeforeValidator(parse_duration)
]
"""Two bytes of seconds [MQTT-3.1.2.10]."""
ReadableFile = Annotated[Path, AfterValidator(check_readable)]
TopicTemplateText = Annotated[str, AfterValidator(check_topic_template)]
