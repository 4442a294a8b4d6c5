"""`bms-ingest simulate`: a fleet of made-up sites for any broker."""

from __future__ import annotations

import os
import sys
from collections.abc import Mapping
from datetime import timedelta
from pathlib import Path
from typing import TYPE_CHECKING, Annotated

import typer
from rich.console import Console

from bms_ingest.cli.arguments import duration as parse
from bms_ingest.cli.invocation import Invocation, work
from bms_ingest.errors import SettingsError
from bms_ingest.settings import Settings, load_settings

if TYPE_CHECKING:
    from bms_ingest.demo.faults import FaultPlan
    from bms_ingest.demo.target import Target

_DEFAULT_HISTORY = timedelta(days=1)
_LONGEST_DEFAULT_HISTORY = timedelta(days=80)
"""Below the raw retention of 90 days, before which a daemon refuses readings."""
_UNUSED_DSN = "postgresql://unused@localhost/unused"


def simulate(
    context: typer.Context,
    url: Annotated[
        str | None,
        typer.Option(
            help="Broker, such as mqtt://host:1883; the one in the settings when not given. A password is "
            "better kept in BMS_INGEST_MQTT__URL: others can see the arguments of a process."
        ),
    ] = None,
    sites: Annotated[int, typer.Option(min=1, max=100_000, help="How many sites publish.")] = 10,
    first_site: Annotated[int, typer.Option(min=1, help="Id of the first site; the others follow it.")] = 1,
    interval: Annotated[
        timedelta, typer.Option(parser=parse, metavar="DURATION", help="Time between two readings of a site.")
    ] = "5min",  # type: ignore[assignment]
    speed_up: Annotated[
        float,
        typer.Option(
            min=1.0, help="How much faster than the clock time passes until it has caught up with now."
        ),
    ] = 1.0,
    history: Annotated[
        timedelta | None,
        typer.Option(
            parser=parse,
            metavar="DURATION",
            help="How far back to begin; by default as far as the speed-up gets through in the duration.",
        ),
    ] = None,
    live_interval: Annotated[
        timedelta | None,
        typer.Option(
            parser=parse,
            metavar="DURATION",
            help="Time between two readings once it has caught up, if another.",
        ),
    ] = None,
    duration: Annotated[
        timedelta | None,
        typer.Option(parser=parse, metavar="DURATION", help="How long; until Ctrl-C when not given."),
    ] = None,
    rate: Annotated[float | None, typer.Option(min=0.01, help="Most messages a second.")] = None,
    faults: Annotated[
        float,
        typer.Option(min=0.0, max=1.0, help="Share of readings that go wrong, over all kinds of faults."),
    ] = 0.0,
    fault: Annotated[
        list[str] | None,
        typer.Option(
            metavar="KIND=SHARE", help="Share of one kind of fault, such as garbage=0.1; repeatable."
        ),
    ] = None,
    seed: Annotated[int, typer.Option(help="The same number gives the same sites and the same faults.")] = 1,
) -> None:
    """Publish plausible readings of made-up sites to any broker, at QoS 1, with faults if you like.

    Sun, clouds, load, battery and grid failures follow the date and the place of each site. The daemon
    stores readings of sites that it knows, so register them first; the others end in quarantine. Ctrl-C
    waits for what is on its way and prints a summary; a second one ends it at once.

    \b
    Examples:
      bms-ingest simulate --url mqtt://localhost --sites 5 --interval 10s
      bms-ingest simulate --url mqtt://localhost --sites 100 --speed-up 3600 --duration 1min --faults 0.02
    """
    from bms_ingest.demo.fleet import make_fleet
    from bms_ingest.demo.simulate import run_simulation
    from bms_ingest.demo.simulation import Plan, Simulation

    target = _target(url, context.obj)
    if history is None:
        history = _fitting_history(speed_up, duration)
    plan = Plan(
        history=history,
        speed_up=speed_up,
        interval=interval,
        live_interval=live_interval,
        faults=_fault_plan(faults, fault or []),
        seed=seed,
        rate=rate,
    )
    fleet = make_fleet(range(first_site, first_site + sites), seed=seed)
    console = Console(file=sys.stdout)
    console.print(
        f"{sites} sites, ids {first_site} to {first_site + sites - 1}, to {target.shown}", highlight=False
    )

    async def publish() -> int:
        return await run_simulation(Simulation(fleet, target, plan), duration, console)

    raise typer.Exit(work(publish()))


def _fitting_history(speed_up: float, duration: timedelta | None) -> timedelta:
    if speed_up <= 1.0:
        return timedelta(0)
    if duration is None:
        return _DEFAULT_HISTORY
    return min(_LONGEST_DEFAULT_HISTORY, duration * speed_up)


def _fault_plan(total: float, single: list[str]) -> FaultPlan:
    from bms_ingest.demo.faults import Fault, FaultPlan

    own = {}
    for text in single:
        kind, _, share = text.partition("=")
        try:
            own[Fault(kind)] = float(share)
        except ValueError:
            raise typer.BadParameter(
                f"{text!r} is not KIND=SHARE; write a share from 0 to 1 behind one of {', '.join(Fault)}",
                param_hint="--fault",
            ) from None
    try:
        return FaultPlan.even(total, own)
    except ValueError as error:
        raise typer.BadParameter(f"{error}; write smaller shares", param_hint="--fault") from None


def _target(url: str | None, invocation: Invocation) -> Target:
    from bms_ingest.demo.target import target_from_settings, target_from_url

    if url is None:
        return target_from_settings(_settings(invocation.config).mqtt)
    try:
        return target_from_url(url)
    except ValueError as error:
        raise typer.BadParameter(f"the URL {error}", param_hint="--url") from None


def _settings(config: Path | None) -> Settings:
    """Load the settings; a database is not needed here, so its absence is no mistake.

    Raises:
        SettingsError: there are settings, and one is wrong.
        BadParameter: there are none.
    """
    try:
        return load_settings(config)
    except SettingsError as error:
        if config is None and not _names_a_broker(os.environ):
            raise typer.BadParameter(
                "no broker is named; write --url mqtt://host:1883, or set BMS_INGEST_MQTT__URL",
                param_hint="--url",
            ) from None
        try:
            return load_settings(config, {**os.environ, "BMS_INGEST_DATABASE__DSN": _UNUSED_DSN})
        except SettingsError:
            raise error from None


def _names_a_broker(environment: Mapping[str, str]) -> bool:
    return any(environment.get(f"BMS_INGEST_MQTT__URL{suffix}") for suffix in ("", "_FILE"))
