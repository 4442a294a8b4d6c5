"""What can be set, walked out of the settings' models: every name in both spellings. Pure."""

from __future__ import annotations

import difflib
from collections.abc import Iterable, Iterator
from dataclasses import dataclass
from typing import get_args, get_origin

from pydantic import BaseModel, SecretStr
from pydantic.fields import FieldInfo

ENVIRONMENT_PREFIX = "BMS_INGEST_"
NESTING = "__"
CONFIG_VARIABLE = "BMS_INGEST_CONFIG"
ANY_NAME = "*"

SettingPath = tuple[str, ...]


@dataclass(frozen=True, slots=True)
class Setting:
    """One value that can be set; `path` holds `*` where a dictionary takes names of its own."""

    path: SettingPath
    field: FieldInfo

    @property
    def is_secret(self) -> bool:
        """Whether the value must never be shown."""
        return holds(self.field, SecretStr)


def walk(model: type[BaseModel], prefix: SettingPath = ()) -> Iterator[Setting]:
    """Yield every setting below `model`, in the order of declaration."""
    for name, field in model.model_fields.items():
        path = (*prefix, name)
        group = group_of(field)
        if group is None:
            yield Setting(path, field)
        elif get_origin(field.annotation) is dict:
            yield from walk(group, (*path, ANY_NAME))
        else:
            yield from walk(group, path)


def group_of(field: FieldInfo) -> type[BaseModel] | None:
    """Return the model below this field, or below each name of a dictionary; None for a plain value."""
    annotation = field.annotation
    if get_origin(annotation) is dict:
        annotation = get_args(annotation)[1]
    return annotation if isinstance(annotation, type) and issubclass(annotation, BaseModel) else None


def holds(field: FieldInfo, kind: type) -> bool:
    """Tell whether the field's type is `kind`, or `kind` or None."""
    return field.annotation is kind or kind in get_args(field.annotation)


def dotted(path: Iterable[object]) -> str:
    """Spell a setting as in the file: `mqtt.url`."""
    return ".".join(str(part) for part in path)


def variable(path: Iterable[object]) -> str:
    """Spell a setting as in the environment: BMS_INGEST_MQTT__URL."""
    return ENVIRONMENT_PREFIX + NESTING.join(str(part).upper() for part in path)


def both(path: Iterable[object]) -> str:
    """Spell a setting both ways, for a message."""
    parts = tuple(path)
    return f"`{dotted(parts)}` / {variable(parts)}"


def closest(name: str, known: Iterable[str]) -> str | None:
    """Return the known name that is most like this one, or None when none is."""
    found = difflib.get_close_matches(name, list(known), n=1)
    return found[0] if found else None


def did_you_mean(name: str, known: Iterable[str]) -> str:
    """Return what to write instead of an unknown name."""
    found = closest(name, known)
    return f"did you mean {found}?" if found else "remove it"
