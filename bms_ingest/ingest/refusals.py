"""Why the decoder refuses something, said in a sentence that PostgreSQL can store. Pure."""

from __future__ import annotations

import json

from bms_ingest.models import Reason

LONGEST_VALUE_CHARACTERS = 80
LONGEST_INTEGER_BITS = 256


class RefusalError(Exception):
    """One reading, or a whole payload, cannot be stored; `detail` is one sentence for a person."""

    def __init__(self, reason: Reason, detail: str) -> None:
        super().__init__(detail)
        self.reason = reason
        self.detail = detail


def describe(value: object) -> str:
    """Write a value of a payload as it looks in JSON, cut to about 80 characters."""
    if isinstance(value, dict):
        return "an object"
    if isinstance(value, list):
        return "an array"
    if isinstance(value, str):
        whole = len(value) <= LONGEST_VALUE_CHARACTERS
        quoted = json.dumps(value[:LONGEST_VALUE_CHARACTERS], ensure_ascii=False)
        return quoted if whole else f"{quoted}… ({len(value)} characters)"
    if isinstance(value, int) and value.bit_length() > LONGEST_INTEGER_BITS:
        # Python refuses to print thousands of digits
        return f"a whole number of about {value.bit_length() * 30_103 // 100_000 + 1} digits"
    return json.dumps(value)


def storable(text: str) -> str:
    """Return text that a `text` column takes: no NUL and no lone surrogate."""
    return text.replace("\0", "\ufffd").encode("utf-8", "replace").decode("utf-8")
