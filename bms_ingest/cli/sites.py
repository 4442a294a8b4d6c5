"""`bms-ingest sites`: what sends, and what may."""

from __future__ import annotations

from datetime import timedelta
from typing import Annotated, Any

import typer

from bms_ingest.cli.arguments import duration, plain_text
from bms_ingest.cli.invocation import SETTINGS_EPILOG, JsonOption, opened_database, settings_of, work
from bms_ingest.cli.output import print_json, print_table, visible
from bms_ingest.db.sites import AddedSite, NewSite, PendingSite, SiteRow, Sites
from bms_ingest.mqtt.topics import TopicTemplate
from bms_ingest.settings import Settings

LARGEST_ID = 2_147_483_647

app = typer.Typer(no_args_is_help=True, help="Sites: what sends readings, and what may.")


@app.command(epilog=SETTINGS_EPILOG)
def add(
    context: typer.Context,
    organization: Annotated[
        str,
        typer.Option(
            parser=plain_text,
            metavar="NAME|SLUG",
            help="Whose site it is; made when there is none of that name.",
        ),
    ],
    name: Annotated[str, typer.Option(parser=plain_text, metavar="NAME", help="What people call the site.")],
    site_id: Annotated[
        int | None,
        typer.Option(
            "--id",
            min=1,
            max=LARGEST_ID,
            help="The id that its gateway already publishes under; the next free one otherwise.",
        ),
    ] = None,
    latitude: Annotated[
        float | None, typer.Option(min=-90, max=90, help="Degrees, north is positive.")
    ] = None,
    longitude: Annotated[
        float | None, typer.Option(min=-180, max=180, help="Degrees, east is positive.")
    ] = None,
    nominal_voltage: Annotated[
        float | None,
        typer.Option(min=1, max=100_000, help="Voltage of the battery, V; 500 when not given."),
    ] = None,
    expected_interval: Annotated[
        timedelta | None,
        typer.Option(
            parser=duration, metavar="DURATION", help="How often it sends, such as 30s; 5 min when not given."
        ),
    ] = None,
    as_json: JsonOption = False,
) -> None:
    """Register a site, so that its readings are stored, and print the topic that its gateway publishes to.

    \b
    Examples:
      bms-ingest sites add --organization "Acme Towers" --name "Tower 7"
      bms-ingest sites add --organization acme-towers --name "Tower 8" --id 4711 --expected-interval 1min
    """
    settings = settings_of(context)
    new = NewSite(
        organization=organization,
        name=name,
        id=site_id,
        latitude=latitude,
        longitude=longitude,
        nominal_voltage=nominal_voltage,
        expected_interval=expected_interval,
    )
    added = work(_add(settings, new))
    topic = _topic(settings, added.site.id)
    if as_json:
        print_json({**_document(settings, added.site), "organization_is_new": added.organization_is_new})
        return
    if added.organization_is_new:
        typer.echo(f"added organization {added.site.organization}")
    typer.echo(f"added site {added.site.id} of {added.site.organization}")
    typer.echo(f"its gateway publishes to {topic}")


@app.command("list", epilog=SETTINGS_EPILOG)
def list_sites(
    context: typer.Context,
    organization: Annotated[
        str | None, typer.Option(metavar="NAME|SLUG", help="Only the sites of this organization.")
    ] = None,
    as_json: JsonOption = False,
) -> None:
    """List the registered sites, by id.

    \b
    Examples:
      bms-ingest sites list
      bms-ingest sites list --organization acme-towers --json
    """
    settings = settings_of(context)
    found = work(_registered(settings, organization))
    if as_json:
        print_json([_document(settings, site) for site in found])
        return
    print_table(
        ("id", "organization", "name", "status", "sends every", "last seen (UTC)"),
        (
            (site.id, site.organization, site.name, site.status, site.expected_interval, site.last_seen_at)
            for site in found
        ),
        empty="there are no sites; add one with: bms-ingest sites add --organization NAME --name NAME"
        if organization is None
        else f"no organization of that name has sites: {visible(organization)}",
        right=("id",),
    )


@app.command(epilog=SETTINGS_EPILOG)
def pending(context: typer.Context, as_json: JsonOption = False) -> None:
    """List the sites that send and that nobody registered; their readings go to quarantine.

    Register one with bms-ingest sites add --id ID: what it sends from then on is stored, and what is in
    quarantine stays there, because this version cannot replay it. An id that you do not expect is a gateway
    with a wrong configuration, or somebody who should not be able to publish.

    \b
    Example:
      bms-ingest sites pending
    """
    found = work(_pending(settings_of(context)))
    if as_json:
        print_json(
            [
                {
                    "id": site.id,
                    "first_seen_at": site.first_seen_at,
                    "last_seen_at": site.last_seen_at,
                    "entries": site.entries,
                    "occurrences": site.occurrences,
                    "topic": site.topic,
                    "sample": site.sample.decode(errors="replace"),
                }
                for site in found
            ]
        )
        return
    print_table(
        ("id", "first seen (UTC)", "last seen (UTC)", "entries", "newest payload begins"),
        (
            (
                site.id,
                site.first_seen_at,
                site.last_seen_at,
                site.entries,
                site.sample.decode(errors="replace"),
            )
            for site in found
        ),
        empty="no unregistered site sends",
        right=("id", "entries"),
    )


def _topic(settings: Settings, site_id: int) -> str:
    return TopicTemplate(settings.mqtt.telemetry_topic).topic(site_id)


def _document(settings: Settings, site: SiteRow) -> dict[str, Any]:
    return {
        "id": site.id,
        "organization": site.organization,
        "name": site.name,
        "status": site.status,
        "latitude": site.latitude,
        "longitude": site.longitude,
        "nominal_voltage": site.nominal_voltage,
        "expected_interval_seconds": site.expected_interval.total_seconds(),
        "last_seen_at": site.last_seen_at,
        "topic": _topic(settings, site.id),
    }


async def _add(settings: Settings, new: NewSite) -> AddedSite:
    async with opened_database(settings) as database:
        return await Sites(database).add(new)


async def _registered(settings: Settings, organization: str | None) -> list[SiteRow]:
    async with opened_database(settings) as database:
        return await Sites(database).registered(organization)


async def _pending(settings: Settings) -> list[PendingSite]:
    async with opened_database(settings) as database:
        return await Sites(database).pending()
