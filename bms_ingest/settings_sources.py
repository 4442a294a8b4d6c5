"""Gathers what was written: a TOML file, `BMS_INGEST_*` variables over it, and files that hold secrets.

Nothing is judged here but whether it can be read and whether the names exist; the models judge the values.
"""

from __future__ import annotations

import tomllib
from collections.abc import Mapping
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

from pydantic_settings import BaseSettings, EnvSettingsSource

from bms_ingest.settings_tree import (
    ANY_NAME,
    CONFIG_VARIABLE,
    ENVIRONMENT_PREFIX,
    NESTING,
    Setting,
    SettingPath,
    both,
    closest,
    did_you_mean,
    variable,
    walk,
)

LARGEST_SECRET_BYTES = 65_536


@dataclass
class Gathered:
    """The values as nested dictionaries, and a sentence for each mistake found on the way."""

    values: dict[str, Any] = field(default_factory=dict)
    mistakes: list[str] = field(default_factory=list)
    excused: set[SettingPath] = field(default_factory=set)
    """Settings that a sentence has been written about: that they are missing as well is no news."""


class _EnvironmentSource(EnvSettingsSource):
    """pydantic-settings' reading of environment variables, from a mapping that we are given."""

    def __init__(self, model: type[BaseSettings], environment: Mapping[str, str]) -> None:
        self._environment = environment
        super().__init__(
            model, case_sensitive=False, env_prefix=ENVIRONMENT_PREFIX, env_nested_delimiter=NESTING
        )

    def _load_env_vars(self) -> Mapping[str, str | None]:
        return {name.lower(): value for name, value in self._environment.items()}


def gather(model: type[BaseSettings], config: Path | None, environment: Mapping[str, str]) -> Gathered:
    """Read the file, put the environment over it, and read the files that hold secrets.

    An empty variable counts as not set, as container tools pass variables on that way.
    """
    gathered = Gathered()
    settings = list(walk(model))
    given = {name: value for name, value in environment.items() if value}
    named = given.get(CONFIG_VARIABLE)
    origin = "" if config is not None else f"{CONFIG_VARIABLE}: "
    path = config if config is not None else Path(named) if named else None
    if path is not None:
        gathered.values = _read_toml(path, origin, gathered.mistakes)
        for name in [name for name in gathered.values if name not in model.model_fields]:
            del gathered.values[name]
            gathered.mistakes.append(f"`{name}` is not a setting; {did_you_mean(name, model.model_fields)}")
    known = _known_variables(settings, given, gathered.mistakes)
    above = _EnvironmentSource(model, known)()
    secrets = [setting.path for setting in settings if setting.is_secret]
    for secret in secrets:
        _forget_what_is_overridden(secret, gathered.values, above)
    _lay_over(gathered.values, above)
    for secret in secrets:
        _read_secret(secret, gathered)
    return gathered


def _read_toml(path: Path, origin: str, mistakes: list[str]) -> dict[str, Any]:
    try:
        return tomllib.loads(path.read_bytes().decode())
    except OSError as error:
        mistakes.append(
            f"{origin}the configuration file {path} cannot be read ({error.strerror}); "
            "write the path of a TOML file that this user may read"
        )
    except UnicodeDecodeError as error:
        line = path.read_bytes()[: error.start].count(b"\n") + 1
        mistakes.append(f"{origin}{path} is not UTF-8 text (at line {line}); save it as UTF-8")
    except tomllib.TOMLDecodeError as error:
        mistakes.append(f"{origin}{path} is not TOML: {error}; mend that place")
    return {}


def _known_variables(
    settings: list[Setting], environment: Mapping[str, str], mistakes: list[str]
) -> dict[str, str]:
    """Return our variables that name a setting, and complain about the others."""
    names = [variable(setting.path) for setting in settings]
    known = {}
    for name, value in sorted(environment.items()):
        upper = name.upper()
        if not upper.startswith(ENVIRONMENT_PREFIX) or upper == CONFIG_VARIABLE:
            continue
        if any(_matches(upper, setting.path) for setting in settings):
            known[name] = value
        elif example := _variable_below(upper, settings):
            mistakes.append(f"{name} names a group of settings; write one of its settings, such as {example}")
        else:
            short = {each.removeprefix(ENVIRONMENT_PREFIX): each for each in [*names, CONFIG_VARIABLE]}
            close = closest(upper.removeprefix(ENVIRONMENT_PREFIX), short)
            advice = f"did you mean {short[close]}?" if close else "remove it"
            mistakes.append(f"{name} is not a setting; {advice}")
    return known


def _variable_below(name: str, settings: list[Setting]) -> str | None:
    """Return the first variable of the group that a name stands for; None when it stands for none."""
    for setting in settings:
        for depth in range(1, len(setting.path)):
            if _matches(name, setting.path[:depth]):
                return NESTING.join((name, *(part.upper() for part in setting.path[depth:])))
    return None


def _matches(name: str, path: SettingPath) -> bool:
    parts = name.removeprefix(ENVIRONMENT_PREFIX).split(NESTING)
    return len(parts) == len(path) and all(
        (wanted == ANY_NAME and part) or part == wanted.upper()
        for part, wanted in zip(parts, path, strict=True)
    )


def _lay_over(values: dict[str, Any], above: Mapping[str, Any]) -> None:
    for key, value in above.items():
        below = values.get(key)
        if isinstance(below, dict) and isinstance(value, dict):
            _lay_over(below, value)
        else:
            values[key] = value


def _forget_what_is_overridden(path: SettingPath, values: dict[str, Any], above: Mapping[str, Any]) -> None:
    """Drop a secret of the file, in either form, when the environment gives it in either form."""
    names = (path[-1], f"{path[-1]}_file")
    below_group, above_group = _group(values, path), _group(above, path)
    if any(name in above_group for name in names):
        for name in names:
            below_group.pop(name, None)


def _group(values: Mapping[str, Any], path: SettingPath) -> dict[str, Any]:
    """Return the table that holds a setting, or an empty one."""
    group: Any = values
    for part in path[:-1]:
        group = group.get(part) if isinstance(group, Mapping) else None
    return group if isinstance(group, dict) else {}


def _read_secret(path: SettingPath, gathered: Gathered) -> None:
    """Replace the twin `*_file` of a secret by what the file holds; the twin itself stays, to be shown."""
    twin = (*path[:-1], f"{path[-1]}_file")
    group = _group(gathered.values, path)
    if group.get(twin[-1]) is None:
        return
    if group.get(path[-1]) is not None:
        gathered.mistakes.append(f"{both(path)} and {both(twin)} are both given; remove one of them")
        return
    if not isinstance(group[twin[-1]], str):
        return
    # the file's name is never shown: somebody may have written the secret itself there
    try:
        with Path(group[twin[-1]]).open("rb") as file:
            content = file.read(LARGEST_SECRET_BYTES + 1)
        if len(content) > LARGEST_SECRET_BYTES:
            raise ValueError(f"holds more than {LARGEST_SECRET_BYTES} bytes")
        secret = content.decode().removesuffix("\n").removesuffix("\r")
        if not secret:
            raise ValueError("is empty")
    except (OSError, ValueError) as error:
        why = error.strerror or "no such place" if isinstance(error, OSError) else str(error)
        if isinstance(error, UnicodeDecodeError):
            why = "is not UTF-8 text"
        gathered.mistakes.append(
            f"{both(twin)} names a file that cannot be used ({why}); "
            "write the path of a file with the secret in it, which this user may read"
        )
        gathered.excused.add(path)
        return
    group[path[-1]] = secret
