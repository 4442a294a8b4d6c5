"""Says what is wrong with a setting, in one sentence, and shows the settings without their secrets. Pure."""

from __future__ import annotations

from collections.abc import Mapping
from datetime import timedelta
from pathlib import Path
from typing import Any, Literal, get_args, get_origin

from pydantic import BaseModel, SecretStr, ValidationError
from pydantic.fields import FieldInfo
from pydantic_core import ErrorDetails

from bms_ingest.addresses import ADDRESS, MASK, mask_address
from bms_ingest.durations import format_duration
from bms_ingest.settings_tree import SettingPath, both, did_you_mean, dotted, group_of, holds, variable

LONGEST_SHOWN_CHARACTERS = 80


def sentences(error: ValidationError, model: type[BaseModel], excused: set[SettingPath]) -> list[str]:
    """Return one sentence a mistake: which setting, why, and what to write. No secret's value is in them."""
    return [
        _sentence(details, model)
        for details in error.errors(include_url=False)
        if not (details["type"] == "missing" and details["loc"] in excused)
    ]


def _sentence(details: ErrorDetails, model: type[BaseModel]) -> str:
    path = details["loc"]
    kind = details["type"]
    if kind == "value_error":
        reason = str(details["ctx"]["error"])
        return reason if reason.startswith("`") else f"{both(path)} {reason}"
    group, field = _find(model, path)
    if kind == "extra_forbidden":
        prefix = path[:-1]
        known = [dotted((*prefix, name)) for name in group.model_fields]
        return f"`{dotted(path)}` is not a setting; {did_you_mean(dotted(path), known)}"
    if field is None or group_of(field) is not None:
        example = dotted(path)
        return f"`{example}` is not a group; write a table [{example}] with its settings below"
    if kind == "missing":
        return f"{both(path)} is missing; write {_wanted(field)}{_twin(group, path)}"
    found = _found(details["input"], field)
    return f"{both(path)} {found}; write {_wanted(field)}"


def _find(model: type[BaseModel], path: tuple[Any, ...]) -> tuple[type[BaseModel], FieldInfo | None]:
    """Return the group that a path ends in, and the field it names there, if there is one."""
    field = model.model_fields.get(str(path[0]))
    below = None if field is None else group_of(field)
    taken = 2 if field is not None and get_origin(field.annotation) is dict else 1
    if below is None or len(path) <= taken:
        return model, field
    return _find(below, path[taken:])


def _found(value: object, field: FieldInfo) -> str:
    if holds(field, SecretStr):
        return "is not text"
    if isinstance(value, (dict, list)):
        return "is a table or a list"
    if isinstance(value, bool):
        return f"is {str(value).lower()}"
    shown = format_duration(value) if isinstance(value, timedelta) else repr(value)
    if len(shown) > LONGEST_SHOWN_CHARACTERS:
        shown = shown[:LONGEST_SHOWN_CHARACTERS] + "…"
    return f"is {shown}"


def _twin(group: type[BaseModel], path: tuple[Any, ...]) -> str:
    name = f"{path[-1]}_file"
    if name not in group.model_fields:
        return ""
    twin = (*path[:-1], name)
    return f", or name a file that holds it in `{dotted(twin)}` / {variable(twin)}"


def _wanted(field: FieldInfo) -> str:
    """Describe what may be written, from the field's type, its bounds and its default."""
    annotation = field.annotation
    if get_origin(annotation) is Literal:
        return "one of " + ", ".join(f'"{choice}"' for choice in get_args(annotation))
    if holds(field, SecretStr):
        return field.description or "text"
    if holds(field, timedelta):
        return f'a duration{_bounds(field)}, such as "{_example(field)}"'
    if holds(field, int):
        return f"a whole number{_bounds(field)}, such as {_example(field)}"
    if holds(field, float):
        return f"a number{_bounds(field)}"
    if holds(field, Path):
        return "the path of a file"
    bounds = _bounds(field)
    return f"text{bounds} characters" if bounds else "text"


def _example(field: FieldInfo) -> object:
    default = field.get_default(call_default_factory=True, validated_data={})
    return format_duration(default) if isinstance(default, timedelta) else default


def _bounds(field: FieldInfo) -> str:
    words = {
        "gt": "more than",
        "ge": "at least",
        "lt": "less than",
        "le": "at most",
        "min_length": "at least",
        "max_length": "at most",
    }
    found = []
    for item in field.metadata:
        for name, word in words.items():
            bound = getattr(item, name, None)
            if bound is not None:
                shown = format_duration(bound) if isinstance(bound, timedelta) else bound
                found.append(f"{word} {shown}")
    return f" of {' and '.join(found)}" if found else ""


def masked(model: BaseModel) -> dict[str, Any]:
    """Return all settings as JSON-able values: durations and paths as text, secrets masked."""
    return {name: _shown(getattr(model, name), field) for name, field in type(model).model_fields.items()}


def _shown(value: object, field: FieldInfo) -> Any:
    if isinstance(value, BaseModel):
        return masked(value)
    if isinstance(value, Mapping):
        return {str(key): _shown(below, field) for key, below in value.items()}
    if isinstance(value, SecretStr):
        return mask_address(value.get_secret_value()) if ADDRESS in field.metadata else MASK
    if isinstance(value, timedelta):
        return format_duration(value)
    return str(value) if isinstance(value, Path) else value
