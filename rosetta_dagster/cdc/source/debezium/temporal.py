"""Decides how Debezium's dates, times and intervals become PostgreSQL's text form (ISO, UTC, IntervalStyle postgres).

Debezium counts days and microseconds from 1970 in the Gregorian calendar, BC included, and prints years as ISO 8601
does: year 0 is 1 BC. Python's types cover the years 1 to 9999; other years are shifted by whole cycles of 400 years.

One loss cannot be detected: the timestamp 294247-01-09 19:50:25.2 is the number that Debezium sends for infinity.
"""

import re
from datetime import date, datetime, timedelta
from typing import Final

_EPOCH_ORDINAL: Final = date(1970, 1, 1).toordinal()
_EPOCH: Final = datetime.fromordinal(_EPOCH_ORDINAL)
_DAY: Final = 86_400_000_000
_CYCLE_DAYS: Final = 146_097
_CYCLE_YEARS: Final = 400

#: What Debezium sends for the two infinities: outside of the range of PostgreSQL's dates.
_INFINITE_DATES: Final = {-2_147_472_692: b"infinity", -2_147_472_691: b"-infinity"}
_INFINITE_TIMESTAMPS: Final = {9_223_372_036_825_200_000: b"infinity", -9_223_372_036_832_400_000: b"-infinity"}

#: PostgreSQL's first day and its first microsecond, 4714-11-24 BC.
_FIRST_DAY: Final = -2_440_588
_FIRST_MICROSECOND: Final = _FIRST_DAY * _DAY
#: Beyond this, in January 294247, Debezium's 64 bits overflow and the value is lost.
_LAST_MICROSECOND: Final = 2**63 - 2

_ZERO_INTERVAL: Final = "P0Y0M0DT0H0M0S"
_INTERVAL: Final = re.compile(r"P(-?\d+)Y(-?\d+)M(-?\d+)DT(-?\d+)H(-?\d+)M(-?\d+)(?:\.(\d+))?S", re.ASCII)


def date_text(days: int) -> bytes:
    """Return a date from its days since 1970. Raise `ValueError` when PostgreSQL has no such date."""
    try:
        return date.fromordinal(_EPOCH_ORDINAL + days).isoformat().encode()
    except (ValueError, OverflowError):
        return _INFINITE_DATES.get(days) or "{}{}".format(*_far_date(days)).encode()


def timestamp_text(microseconds: int) -> bytes:
    """Return a timestamp from its microseconds since 1970. Raise `ValueError` when Debezium has lost the value."""
    try:
        text = (_EPOCH + timedelta(microseconds=microseconds)).isoformat(" ")
    except OverflowError:
        return _INFINITE_TIMESTAMPS.get(microseconds) or _far_timestamp(microseconds)
    return (text.rstrip("0") if "." in text else text).encode()


def timestamptz_text(text: str) -> bytes:
    """Return a timestamp with time zone from ISO 8601 in UTC, such as `2024-05-01T10:00:00.250000Z`."""
    if text[0] in "+-0" or text[-1] != "Z":
        return _far_timestamptz(text)
    return f"{text[:10]} {_trimmed(text[11:-1])}+00".encode()


def time_text(microseconds: int) -> bytes:
    """Return a time of day from its microseconds since midnight; 24:00:00 is valid."""
    seconds, fraction = divmod(microseconds, 1_000_000)
    minutes, seconds = divmod(seconds, 60)
    clock = f"{minutes // 60:02}:{minutes % 60:02}:{seconds:02}"
    return _trimmed(f"{clock}.{fraction:06}").encode()


def interval_text(text: str) -> bytes:
    """Return an interval from Debezium's form `P1Y2M-3DT4H5M6.789S`. Raise `ValueError` for other forms and for zero.

    Debezium also prints the infinite intervals of PostgreSQL 17 as zero.
    """
    found = _INTERVAL.fullmatch(text)
    if found is None or text == _ZERO_INTERVAL:
        raise ValueError("not a finite interval")
    units = zip(found.groups()[:3], ("year", "mon", "day"), strict=True)
    parts = [f"{int(count)} {unit}{'' if count == '1' else 's'}" for count, unit in units if count != "0"]
    clock = _interval_clock(*found.groups()[3:])
    if clock:
        parts.append(clock)
    return " ".join(_with_signs(parts)).encode()


def _interval_clock(hours: str, minutes: str, seconds: str, fraction: str | None) -> str:
    """Return hours, minutes and seconds; empty when they are zero."""
    sign = "-" if "-" in hours + minutes + seconds else ""
    # Debezium truncates a binary fraction to nanoseconds: .97 comes as .969999999.
    microseconds = round(int(f"{fraction or '':0<9.9}") / 1000)
    clock = _trimmed(f"{abs(int(hours)):02}:{abs(int(minutes)):02}:{abs(int(seconds)):02}.{microseconds:06}")
    return "" if clock == "00:00:00" else sign + clock


def _with_signs(parts: list[str]) -> list[str]:
    """Put a plus sign before a positive part that follows a negative one, as PostgreSQL does."""
    return [
        f"+{part}" if before[:1] == "-" and part[0] != "-" else part
        for before, part in zip(["", *parts], parts, strict=False)
    ]


def _trimmed(clock: str) -> str:
    """Return the clock without trailing zeros of its fraction."""
    return clock.rstrip("0").rstrip(".") if "." in clock else clock


def _far_timestamp(microseconds: int) -> bytes:
    if not _FIRST_MICROSECOND <= microseconds <= _LAST_MICROSECOND:
        raise ValueError("out of range")
    days, rest = divmod(microseconds, _DAY)
    day, era = _far_date(days)
    return f"{day} {time_text(rest).decode()}{era}".encode()


def _far_date(days: int) -> tuple[str, str]:
    """Return a date of any year, and the suffix of its era."""
    if days < _FIRST_DAY:
        raise ValueError("out of range")
    cycles = (days + _EPOCH_ORDINAL - 1) // _CYCLE_DAYS
    near = date.fromordinal(_EPOCH_ORDINAL + days - (cycles - 1) * _CYCLE_DAYS)
    year, era = _year(near.year + (cycles - 1) * _CYCLE_YEARS)
    return f"{year}-{near.month:02}-{near.day:02}", era


def _far_timestamptz(text: str) -> bytes:
    """Return an infinity, or a timestamp whose year has other than four digits or begins with zero."""
    if text in ("infinity", "-infinity"):
        return text.encode()
    day, found, clock = text.rpartition("T")
    if not found or text[-1] != "Z":
        raise ValueError("not in UTC")
    year, month, day_of_month = day.rsplit("-", 2)
    number, era = _year(int(year))
    return f"{number}-{month}-{day_of_month} {_trimmed(clock[:-1])}+00{era}".encode()


def _year(year: int) -> tuple[str, str]:
    return (f"{year:04}", "") if year > 0 else (f"{1 - year:04}", " BC")
