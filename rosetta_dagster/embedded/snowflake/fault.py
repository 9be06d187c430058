"""Faults that the emulator can inject, as values: the tests write them and the emulator's process injects them."""

from dataclasses import asdict, dataclass
from enum import StrEnum
from typing import Any, Self


class FaultKind(StrEnum):
    """Each affects one request, before the statement runs unless stated otherwise."""

    #: 390112: the session's token has expired. The connector renews it and repeats the request; the transaction stays open.
    SESSION_EXPIRED = "session_expired"
    #: 390114: the session and its transaction have ended. The connector has to log in again.
    SESSION_GONE = "session_gone"
    #: 000606: no warehouse is running.
    WAREHOUSE_SUSPENDED = "warehouse_suspended"
    #: 000625: another transaction has held the table's lock for longer than LOCK_TIMEOUT.
    LOCKED = "locked"
    #: 000625: more statements wait for the table than Snowflake allows.
    TOO_MANY_WAITERS = "too_many_waiters"
    #: 000603 with SQLSTATE XX000: Snowflake itself failed.
    INTERNAL_ERROR = "internal_error"
    #: 091003 with SQLSTATE 22000: the storage of a stage does not answer.
    STAGE_UNREACHABLE = "stage_unreachable"
    #: HTTP 503 for every request except those of the control; with `matching`, for statements only.
    UNAVAILABLE = "unavailable"
    #: The statement runs to its end, then the connection breaks, also each time that the request is repeated.
    ANSWER_LOST = "answer_lost"
    #: The statement runs, and HTTP 503 replaces its answer. A repeated request gets the answer of that run.
    ANSWER_DELAYED = "answer_delayed"
    #: The statement waits for `seconds` before it runs, unless it is cancelled or times out first.
    STALL = "stall"


@dataclass(frozen=True, kw_only=True)
class Fault:
    """One fault, for the next `count` requests that match it."""

    kind: FaultKind
    #: A case-insensitive regular expression that is searched in the statement. Empty: every statement.
    matching: str = ""
    count: int = 1
    #: Duration of a `STALL`.
    seconds: float = 0.0

    def __post_init__(self) -> None:
        if self.count < 1 or self.seconds < 0:
            raise ValueError(f"A fault happens once or more, and takes no negative time: {self}.")

    def to_json(self) -> dict[str, Any]:
        return asdict(self)

    @classmethod
    def from_json(cls, content: dict[str, Any]) -> Self:
        return cls(**{**content, "kind": FaultKind(content["kind"])})
