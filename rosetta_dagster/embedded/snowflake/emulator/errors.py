"""Snowflake's errors, and the translation of errors of DuckDB and fakesnow to them."""

import re

import duckdb
from snowflake.connector.errors import Error as ConnectorError

#: The emulator cannot do it; Snowflake may.
UNSUPPORTED = 9999

#: An object that a statement names does not exist.
MISSING = "002003"


class SnowflakeError(Exception):
    """A statement or a login failed; holds Snowflake's code."""

    def __init__(self, code: int, message: str, sqlstate: str) -> None:
        super().__init__(f"{code:06d} ({sqlstate}): {message}")
        self.code = f"{code:06d}"
        self.message = message
        self.sqlstate = sqlstate


def missing(kind: str, name: str) -> SnowflakeError:
    """An object does not exist or is not visible to the role. Snowflake does not distinguish them."""
    state = "42S02" if kind == "Object" else "02000"
    return SnowflakeError(2003, f"SQL compilation error:\n{kind} '{name}' does not exist or not authorized.", state)


def exists(name: str) -> SnowflakeError:
    return SnowflakeError(2002, f"SQL compilation error:\nObject '{name}' already exists.", "42710")


def unusable() -> SnowflakeError:
    """A USE of an object that does not exist."""
    return SnowflakeError(2043, "SQL compilation error:\nObject does not exist, or operation cannot be performed.", "02000")


def no_warehouse() -> SnowflakeError:
    return SnowflakeError(
        606,
        "No active warehouse selected in the current session. Select an active warehouse with the 'use warehouse' command.",
        "57P03",
    )


def locked(table: str) -> SnowflakeError:
    return SnowflakeError(
        625,
        f"Statement has locked table '{table}' in another transaction and this lock has not yet been released.\n"
        "Your statement was aborted.",
        "57014",
    )


def too_many_wait() -> SnowflakeError:
    return SnowflakeError(
        625, "Statement was aborted because the number of waiters for this lock exceeds the 20 statements limit.", "57014"
    )


def internal() -> SnowflakeError:
    return SnowflakeError(
        603, "SQL execution internal error:\nProcessing aborted by error 300010:391167117; incident 4711.", "XX000"
    )


def stage_unreachable() -> SnowflakeError:
    return SnowflakeError(91003, "Failure using stage area. Cause: [Server Busy. Please retry]", "22000")


def timed_out(seconds: float) -> SnowflakeError:
    return SnowflakeError(
        630, f"Statement reached its statement or warehouse timeout of {seconds:g} second(s) and was canceled.", "57014"
    )


def cancelled() -> SnowflakeError:
    return SnowflakeError(604, "SQL execution canceled", "57014")


def unsupported(what: str) -> SnowflakeError:
    return SnowflakeError(UNSUPPORTED, f"The emulator cannot do this: {what}", "0A000")


#: DuckDB's and Snowflake's words for a missing object. The first match counts.
_MISSING = (
    (re.compile(r'because schema "([^"]+)" does not exist'), "Schema"),
    (re.compile(r'Catalog "([^"]+)" does not exist'), "Database"),
    (re.compile(r'Schema with name "?([^"! ]+)"? does not exist'), "Schema"),
    (re.compile(r'(?:Table|View) with name "?([^"! ]+)"? does not exist'), "Object"),
)
_NO_COLUMN = re.compile(r'(?:Referenced (?:update )?column|column with name|column named) "?(?P<name>[^"! ]+)"?')


def translated(error: Exception) -> SnowflakeError:
    """Return the error that Snowflake would raise."""
    if isinstance(error, SnowflakeError):
        return error
    origin = error.__cause__ if isinstance(error.__cause__, duckdb.Error) else error
    if isinstance(origin, duckdb.Error):
        return _of_duckdb(origin)
    if isinstance(error, ConnectorError):
        # Without the code: the connector adds it again.
        message = re.sub(r"^\d{6} \(\w{5}\): ", "", str(error.msg))
        return SnowflakeError(error.errno or UNSUPPORTED, message, error.sqlstate or "99999")
    return unsupported(f"{type(error).__name__} {error}")


#: DuckDB's class, a part of its message, and Snowflake's code, state and message (None: DuckDB's message).
_OF_DUCKDB: tuple[tuple[type[duckdb.Error], str, int, str, str | None], ...] = (
    (duckdb.TransactionException, "onflict", 625, "57014", "Statement was aborted: another transaction changed its rows."),
    (duckdb.InterruptException, "", 604, "57014", "SQL execution canceled"),
    (duckdb.ConstraintException, "NOT NULL", 100072, "22000", "NULL result in a non-nullable column"),
    (duckdb.ParserException, "", 1003, "42000", None),
    (duckdb.OutOfRangeException, "", 100039, "22003", None),
    (duckdb.Error, "Malformed JSON", 100069, "22P02", "Error parsing JSON"),
    (duckdb.ConversionException, "out of range", 100039, "22003", None),
    (duckdb.ConversionException, "Could not cast value", 100039, "22003", None),
    (duckdb.ConversionException, "", 100038, "22018", None),
    (duckdb.Error, "more than once", 100090, "42P18", "Duplicate row detected during DML action"),
    (duckdb.Error, "", 100000, "22000", None),
)


def _of_duckdb(error: duckdb.Error) -> SnowflakeError:
    text = str(error)
    if isinstance(error, duckdb.CatalogException | duckdb.BinderException):
        return _of_compilation(text)
    fits = (row for row in _OF_DUCKDB if isinstance(error, row[0]) and row[1] in text)
    _, _, code, state, message = next(fits)
    return SnowflakeError(code, message or text, state)


def _of_compilation(text: str) -> SnowflakeError:
    if "No catalog + schema named" in text:
        return unusable()
    if "already exists" in text:
        name = re.search(r"name \"?([^\"! ]+)", text)
        return exists(name[1] if name else "")
    for pattern, kind in _MISSING:
        if found := pattern.search(text):
            return missing(kind, found[1])
    if found := _NO_COLUMN.search(text):
        return SnowflakeError(904, f"SQL compilation error:\ninvalid identifier '{found['name']}'", "42000")
    return SnowflakeError(2043, f"SQL compilation error:\n{text}", "02000")
