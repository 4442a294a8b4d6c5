"""`bms-ingest demo`: the whole program on made-up sites, for a look."""

from __future__ import annotations

import sys
from datetime import timedelta
from typing import Annotated, Literal

import typer
from rich.console import Console

from bms_ingest.cli.arguments import duration as parse
from bms_ingest.cli.invocation import work


def demo(
    duration: Annotated[
        timedelta,
        typer.Option(parser=parse, metavar="DURATION", help="How long, such as 30s or 5min."),
    ] = "30s",  # type: ignore[assignment]
    sites: Annotated[int, typer.Option(min=1, max=2000, help="How many sites publish.")] = 50,
    broker: Annotated[
        Literal["auto", "mosquitto", "nats"],
        typer.Option(
            help="auto takes mosquitto where it is installed, else the NATS server of the demo extra."
        ),
    ] = "auto",
    faults: Annotated[
        float, typer.Option(min=0.0, max=1.0, help="Share of readings that go wrong on purpose, 0 to 1.")
    ] = 0.02,
    seed: Annotated[int, typer.Option(help="Another number, other weather and other faults.")] = 1,
    keep: Annotated[
        bool, typer.Option("--keep", help="Keep the state directory with logs and data.")
    ] = False,
) -> None:
    """See the whole program at work: no database, no broker and no settings are needed.

    Starts PostgreSQL and an MQTT broker in a temporary directory, runs the real daemon on them, plays some
    days of a fleet of sites in fast motion and then live, injects faults, and holds the daemon's ledger
    against what was published and what is in the tables. Ends after the duration or on Ctrl-C (a second
    one ends it at once), and leaves nothing behind. Exit code 0 means that the books balance.

    \b
    Example:
      bms-ingest demo --duration 1min --sites 100
    """
    from bms_ingest.demo.show import Options, run_demo

    options = Options(
        duration=duration,
        sites=sites,
        broker=None if broker == "auto" else broker,
        fault_rate=faults,
        seed=seed,
        keep=keep,
    )
    raise typer.Exit(work(run_demo(options, Console(file=sys.stdout))))
