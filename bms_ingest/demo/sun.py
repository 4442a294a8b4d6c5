"""Where the sun stands and what it gives on a clear day."""

from __future__ import annotations

import math
from datetime import datetime

_EPOCH_DAY_SECONDS = 86_400


def sine_of_elevation(moment: datetime, latitude: float, longitude: float) -> float:
    """Return the sine of the sun's elevation over the horizon, -1..1; negative at night.

    NOAA Global Monitoring Laboratory, "General Solar Position Calculations"
    (https://gml.noaa.gov/grad/solcalc/solareqns.PDF), without refraction. Latitude and longitude in degrees,
    north and east positive; `moment` in UTC.
    """
    hours = moment.hour + moment.minute / 60.0 + moment.second / 3600.0
    year = 2.0 * math.pi / 365.0 * (moment.timetuple().tm_yday - 1 + (hours - 12.0) / 24.0)
    equation_of_time_minutes = 229.18 * (
        0.000075
        + 0.001868 * math.cos(year)
        - 0.032077 * math.sin(year)
        - 0.014615 * math.cos(2 * year)
        - 0.040849 * math.sin(2 * year)
    )
    declination = (
        0.006918
        - 0.399912 * math.cos(year)
        + 0.070257 * math.sin(year)
        - 0.006758 * math.cos(2 * year)
        + 0.000907 * math.sin(2 * year)
        - 0.002697 * math.cos(3 * year)
        + 0.00148 * math.sin(3 * year)
    )
    true_solar_minutes = hours * 60.0 + equation_of_time_minutes + 4.0 * longitude
    hour_angle = math.radians(true_solar_minutes / 4.0 - 180.0)
    angle = math.radians(latitude)
    return math.sin(angle) * math.sin(declination) + math.cos(angle) * math.cos(declination) * math.cos(
        hour_angle
    )


def clear_sky_irradiance(sine: float) -> float:
    """Return the global irradiance on level ground under a clear sky in W/m²; 0 below the horizon.

    Haurwitz (1945), "Insolation in Relation to Cloudiness and Cloud Density", with the coefficients of
    Reno, Hansen and Stein, SAND2012-2389. Needs nothing but the sine of the sun's elevation.
    """
    if sine <= 0.0:
        return 0.0
    return 1098.0 * sine * math.exp(-0.057 / sine)


def solar_hour(moment: datetime, longitude: float) -> float:
    """Return the local mean solar time in hours, 0 up to 24."""
    seconds = moment.timestamp() % _EPOCH_DAY_SECONDS
    return (seconds / 3600.0 + longitude / 15.0) % 24.0
