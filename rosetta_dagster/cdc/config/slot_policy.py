"""Names what may be done about a replication slot that retains too much WAL."""

from enum import StrEnum


class SlotPolicy(StrEnum):
    """What is done about a replication slot that retains too much WAL."""

    #: The check fails.
    ALERT = "ALERT"
    PAUSE = "PAUSE"
    DROP_SLOT = "DROP_SLOT"


class SlotAction(StrEnum):
    """What was done about a replication slot that retained too much WAL."""

    PAUSED = "PAUSED"
    DROPPED = "DROPPED"
