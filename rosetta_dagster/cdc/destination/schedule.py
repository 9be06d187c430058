"""Decides when waiting changes are due by a schedule."""

from dataclasses import dataclass
from datetime import datetime
from zoneinfo import ZoneInfo, ZoneInfoNotFoundError

from croniter import croniter


@dataclass(frozen=True, slots=True)
class FlushSchedule:
    """The times of a cron expression in a time zone."""

    cron: str
    time_zone: str = "UTC"

    @property
    def problem(self) -> str | None:
        """What is wrong with it, as a clause; None when it can be used."""
        if len(self.cron.split()) != 5 or not croniter.is_valid(self.cron):
            return "flush_schedule has to be a cron expression of five fields, as 0 6-20 * * MON-FRI"
        try:
            ZoneInfo(self.time_zone)
        except (ZoneInfoNotFoundError, ValueError):
            return "flush_time_zone has to be a name of the time zone database, as Europe/Zurich"
        return None

    def next_after(self, moment: float) -> float:
        """Return when it is due next, in seconds of the epoch.

        >>> FlushSchedule("0 6 * * *").next_after(0.0)
        21600.0
        """
        start = datetime.fromtimestamp(moment, ZoneInfo(self.time_zone))
        return float(croniter(self.cron, start).get_next(float))

    def per_day(self, moment: float) -> int:
        """Return how often it is due in the week after a moment, by the day.

        >>> FlushSchedule("*/30 * * * *").per_day(0.0)
        48
        """
        count, at = 0, moment
        while (at := self.next_after(at)) <= moment + 7 * 86400:
            count += 1
        return count // 7
