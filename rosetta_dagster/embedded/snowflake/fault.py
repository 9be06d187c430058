"""What the emulator can be told to do wrong, as values: the tests write them, the emulator's process plays them."""

from dataclasses import asdict, dataclass
from enum import StrEnum
from typing import Any, Self


class FaultKind(StrEnum):
    """Each meets one request, before the statement runs unless it says otherwise."""

    #: 390112: the session's token has expired. The connector renews it by itself and asks again; the transaction lives on.
    SESSION_EXPIRED = "session_expired"
    #: 390114: the session is over, with its transaction, and only a new login helps.
    SESSION_GONE = "session_gone"
    #: 000606: no warehouse runs.
    WAREHOUSE_SUSPENDED = "warehouse_suspended"
    #: 000625: another transaction holds the table's lock, and too many wait for it.
    LOCKED = "locked"
    #: HTTP 503, for every request that is not the control's own, or for statements only when `matching` is given.
    UNAVAILABLE = "unavailable"
    #: The statement runs to its end, and then the connection breaks; so it does whenever the same request is repeated.
    ANSWER_LOST = "answer_lost"
    #: The statement runs, and HTTP 503 takes the place of its answer; who asks again gets the answer of that one run.
    ANSWER_DELAYED = "answer_delayed"
    #: The statement waits for `seconds` before it runs. It ends sooner when it is cancelled or its timeout passes.
    STALL = "stall"


@dataclass(frozen=True, kw_only=True)
class Fault:
    """One thing that goes wrong, for the next `count` requests that it fits."""

    kind: FaultKind
    #: Part of a statement's text, as a regular expression in any case; every statement when empty.
    matching: str = ""
    count: int = 1
    #: How long a `STALL` takes.
    seconds: float = 0.0

    def __post_init__(self) -> None:
        if self.count < 1 or self.seconds < 0:
            raise ValueError(f"A fault happens once or more, and takes no negative time: {self}.")

    def to_json(self) -> dict[str, Any]:
        return asdict(self)

    @classmethod
    def from_json(cls, content: dict[str, Any]) -> Self:
        return cls(**{**content, "kind": FaultKind(content["kind"])})
