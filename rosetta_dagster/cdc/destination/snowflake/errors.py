"""Decides which Rosetta error stands for each error of Snowflake and of its connector: transient or terminal.

Messages are written from codes and from our own names. Snowflake's text of a data error quotes the value, so it is left out.
"""

import re
from collections.abc import Iterator
from contextlib import contextmanager
from dataclasses import dataclass

from snowflake.connector.errors import Error

from rosetta_dagster.cdc.errors import ConfigurationError, DestinationRejected, DestinationUnavailable, RosettaError

#: The key is not the user's, the account is written in another form, or a clock is wrong: Snowflake says only the first.
JWT_INVALID = 390144

#: Codes from 394300 on name the reason that 390144 leaves out.
KEY_REFUSED = frozenset({JWT_INVALID, *range(394300, 394308)})

#: What the row has wrong, with what to do.
_WRONG_ROW = {
    390102: "Unlock the user: ALTER USER … SET MINS_TO_UNLOCK = 0.",
    390202: "Allow the method in AUTHENTICATION_METHODS of the user's authentication policy, as KEYPAIR.",
    390432: "Allow the address of this machine in the network policy of the account or the user.",
    390100: "Correct the user.",
    390101: "Correct the user.",
    390189: "Grant the role to the user, or correct the role.",
    390186: "Grant the role to the user, or correct the role.",
    390201: "Correct the database or the warehouse, or grant USAGE on it to the role.",
    390420: "Allow the address of this machine in the network policy of the account or the user.",
    390422: "Allow the address of this machine in the network policy of the account or the user.",
    390403: "Correct the account: it is named as in its address, before .snowflakecomputing.com.",
    290403: "Correct the account: it is named as in its address, before .snowflakecomputing.com.",
    290404: "Correct the account: it is named as in its address, before .snowflakecomputing.com.",
    606: "Set a warehouse in the row, and grant USAGE on it to the role.",
    90105: "Correct the database of the row, and grant USAGE on it to the role.",
    90106: "Correct the database of the row, and grant USAGE on it to the role.",
}

#: What passes with time.
_TRANSIENT = frozenset(
    {
        603,  # internal: `Processing aborted by error 300010`
        604,  # canceled
        625,  # too many statements wait for the same table
        630,  # statement timeout
        638,  # timed out while queued for the warehouse
        639,
        90073,  # the warehouse cannot be resumed: the resource monitor has no credits left until its interval ends
        390111, 390112, 390113, 390114, 390115,  # the session is gone
        390195,
        250001, 250002, 250003, 250005, 251001, 251011, 251012,  # connection and network
        253001, 253002, 253003, 253004, 253005, 253006, 253007,  # files to and from a stage
        91003, 91016,  # the stage's storage does not answer
        200001, 300001, 300002, 300010,  # internal
    }
)  # fmt: skip

#: SQLSTATE classes of statements and values that Snowflake refuses. Only these are about one table.
_REFUSED_STATES = ("22", "23", "42", "0A")

#: Codes of the same errors, compilation and data: a statement that is polled for loses its SQLSTATE.
_REFUSED_CODES = (range(900, 4000), range(100000, 101000))

#: Codes of a login. The connector gives each of them SQLSTATE 08001, as to a network that is down.
_LOGIN_CODES = range(390000, 400000)

#: Codes below are the connector's own: a request failed, or its answer did not come. The server's begin with 600.
_CONNECTORS_OWN = 100

#: SQLSTATE classes that pass with time: connection, transaction rollback (locks, deadlocks), no resources, canceled.
_TRANSIENT_STATES = ("08", "40", "53", "57014", "55P03")

_POLICIES = "Compare the user in DESC USER, and its authentication and network policies, with this connection."

_LOCKED = re.compile(r"lock|conflict|deadlock|was aborted because", re.IGNORECASE)

#: A table is locked for longer than LOCK_TIMEOUT, or too many statements wait for it: the text has the word `waiters` then.
_LOCKED_TABLE = 625

#: The connector got no token from an identity provider or a cloud, with the code of a network that is down.
_NO_CREDENTIALS = re.compile(
    r"OAuth flow failed: Identity Provider responded with error: (?!temporarily_unavailable|server_error)"
    r"|Workload Identity Federation attestation failed"
)

_REMEDIES = {
    3001: "Grant the privilege to the role of this connection.",
    2003: "Create what is missing, or grant a privilege on it to the role of this connection.",
    2043: "Create what is missing, or grant a privilege on it to the role of this connection.",
    100072: "Drop the NOT NULL at Snowflake, or correct the rows at the source.",
    100078: "Drop the length of the column at Snowflake.",
    100090: "Two keys of the source are one at Snowflake: look at the collation and the type of the key's columns.",
}

#: Codes of an object that is missing, or that the role may not see.
MISSING = frozenset({2003, 2043})

#: SQL errors whose text holds names and SQL of ours, and no value of a row.
_TELLS_NAMES = frozenset({1003, 1757, 2003, 2043, 3001, 606, 904, 90105, 90106})


class TooManyWaiters(DestinationUnavailable):
    """More statements wait for a table than Snowflake allows. The statement may be repeated at once."""


@dataclass(frozen=True, slots=True, kw_only=True)
class Translation:
    """Whose errors are translated."""

    #: The account in a message, as `destination dw (rosetta@myorg-dw/ANALYTICS)`.
    who: str
    #: As Snowflake would show the key in DESC USER.
    fingerprint: str = ""
    #: What to do when Snowflake refuses the log-in, unless its code says more; empty: compare policies.
    refused: str = ""


@contextmanager
def translated(translation: Translation, place: str = "") -> Iterator[None]:
    """Turn the connector's errors into ours. A refusal names the place, such as `table public.orders`."""
    try:
        yield
    except Error as error:
        raise translate(error, translation, place) from None
    except OSError as error:
        # Before its version 5 the connector lets errors of its HTTP client through. Their text may hold a request's URL.
        who = translation.who[:1].upper() + translation.who[1:]
        raise DestinationUnavailable(
            f"{who} cannot be reached: {type(error).__name__}.", "Check host, port and network."
        ) from None


def translate(error: Error, translation: Translation, place: str = "") -> RosettaError:
    """Return the Rosetta error for an error of the connector."""
    number, text = error.errno or -1, _first_line(error)
    who = translation.who[:1].upper() + translation.who[1:]
    if number in KEY_REFUSED:
        return _refused_key(who, text, number, translation)
    if number in _WRONG_ROW or (number in _LOGIN_CODES and number not in _TRANSIENT) or _NO_CREDENTIALS.search(text):
        remedy = _WRONG_ROW.get(number) or translation.refused or _POLICIES
        return ConfigurationError(f"{who} refuses the connection: {text} ({number}).", remedy)
    return _of_statement(number, error.sqlstate or "", text, who, f" at {place}" if place else "")


def _of_statement(number: int, state: str, text: str, who: str, at: str) -> RosettaError:
    if number == _LOCKED_TABLE and "waiters" in text:
        return TooManyWaiters(f"{who} cannot go on{at}: {text} ({number}).", "The run restarts by itself.")
    if _is_transient(number, state, text):
        return DestinationUnavailable(f"{who} cannot go on: {text} ({number}).", "The run restarts by itself.")
    if number == -1:
        return DestinationUnavailable(f"{who} cannot be reached: {text}.", "Check host, port and network.")
    said = f"{text} ({number})" if number in _TELLS_NAMES else f"error {number}, SQLSTATE {state or 'none'}"
    if not _is_refused(number, state):
        return DestinationUnavailable(f"{who} cannot go on{at}: {said}.", "The run restarts by itself.")
    return DestinationRejected(
        f"{who} refuses{at}: {said}.", _REMEDIES.get(number, "Look up the code in Snowflake's manual.")
    )


def _is_transient(number: int, state: str, text: str) -> bool:
    if number in _TRANSIENT or 0 < number < _CONNECTORS_OWN or state.startswith(_TRANSIENT_STATES):
        return True
    # A lock timeout has the same code as any failed statement.
    return (
        not _quotes_values(number)
        and not state.startswith("42")
        and _LOCKED.search(text) is not None
        and number not in _TELLS_NAMES
    )


def _is_refused(number: int, state: str) -> bool:
    return state.startswith(_REFUSED_STATES) or any(number in codes for codes in _REFUSED_CODES)


def _quotes_values(number: int) -> bool:
    return 100000 < number < 101000


def _refused_key(who: str, text: str, number: int, translation: Translation) -> ConfigurationError:
    return ConfigurationError(
        f"{who} refuses the key: {text} ({number}).",
        f"Compare the key's fingerprint {translation.fingerprint} with RSA_PUBLIC_KEY_FP in DESC USER; write the user as "
        "LOGIN_NAME there, which may differ from NAME; write the account as organization-account, without the region; and "
        "set this machine's clock, since a token has to arrive within 60 seconds of its issue.",
    )


def _first_line(error: Error) -> str:
    """Return the server's message without the codes that the connector adds."""
    lines = str(error.msg or error).strip().splitlines() or ["no reason given"]
    # The first of two lines is only `SQL compilation error:`.
    text = " ".join(lines[:2]) if lines[0].endswith("error:") else lines[0]
    text = re.sub(r"^(\d{6} \([0-9A-Z]{5}\): |\d{6}: )+", "", text)
    return re.sub(r"\s*\(request_id=[0-9a-f-]+\)", "", text).strip().rstrip(".") or "no reason given"
