"""Decides what an operator does about each SQLSTATE, and which of them pass with time. Pure.

https://www.postgresql.org/docs/current/errcodes-appendix.html
"""

from collections.abc import Mapping
from typing import Final

#: SQLSTATE classes and codes that pass with time.
TRANSIENT: Final = (
    "08",  # connection
    "25P03", "25P04",  # a timeout ended the transaction
    "40",  # deadlock, serialization
    "53",  # too many connections, disk or memory full
    "55006",  # object in use
    "55P03",  # lock not available
    "57P",  # shutdown, crash, starting up, idle for too long
    "57014",  # canceled, by a timeout or an administrator
    "58",  # system error of the server's machine
    "72",  # snapshot too old
)  # fmt: skip

#: Of those classes, what a person has to fix.
NOT_TRANSIENT: Final = (
    "08P01",  # the peer refuses the protocol
    "53400",  # a configured limit
)

#: Classes whose messages PostgreSQL itself writes from names. Any other may quote a value of a row: data errors, and what
#: functions, foreign data wrappers and extensions raise.
_WRITTEN_FROM_NAMES: Final = frozenset([
    "00", "01", "02", "03", "08", "0A", "0B", "0F", "0L", "0P", "0Z", "20", "21", "24", "25", "26", "27", "28", "2B", "2D",
    "34", "3B", "3D", "3F", "40", "42", "44", "53", "54", "55", "57", "58", "72", "F0", "XX",
])  # fmt: skip

#: Functions of the server that raise 22023 about a table or a setting, not about a value of a row.
_ABOUT_NAMES: Final = frozenset({"check_publication_add_relation", "parse_and_validate_value", "set_config_with_handle"})

#: Raised by PL/pgSQL's RAISE, whatever the SQLSTATE.
_RAISE: Final = "exec_stmt_raise"

BYPASS_POOLER: Final = "Set host and port to the PostgreSQL server itself."

_RESTARTS: Final = "The run restarts by itself."

_CANNOT_HOLD: Final = "Give the column of the destination the type of the source's, or a wider one, or resync the table."
_OF_A_FUNCTION: Final = "One of the table's triggers, generated columns or functions fails on these rows: correct it."
_REPORT: Final = "Report it, with the server's log of this moment."
_FREE_DISK: Final = "Free space on the server's disk that the message names, or enlarge it."
_DEFINED: Final = "Create it there, or correct the row; names are case-sensitive."
_CORRUPT: Final = "Have the server's administrator check its storage and restore a backup; the table is resynced afterwards."


def _timeout(setting: str) -> str:
    return f"Rosetta's sessions set {setting} to 0: look for what sets it again, such as a pooler. {_RESTARTS}"


#: What to do about errors that a person has to fix: by SQLSTATE, else by class.
REMEDIES: Final[Mapping[str, str]] = {
    "08P01": f"If a connection pooler or a proxy stands before the server, it is what refuses: {BYPASS_POOLER}",
    "0A": "This server does not offer that. If a view, rule or policy depends on the column, drop it, restart or resync the "
    "table, and create it again; otherwise compare the server's version, and what stands before it, with what is required.",
    "0L": "Grant the privilege by a role that may.",
    "0P": "Create the role, or correct the user name.",
    "21": "Drop duplicates of the table's key at the destination, or resync the table.",
    "22": _CANNOT_HOLD,
    "22001": "The column of the destination is too short: run ALTER TABLE … ALTER COLUMN … TYPE there, or resync the table.",
    "22003": "The number does not fit into the column of the destination: give it the source's type, or resync the table.",
    "22004": _OF_A_FUNCTION,
    "22012": _OF_A_FUNCTION,
    "22021": "The value is not valid in the server's encoding. Correct it at the source, where a database with the encoding "
    "SQL_ASCII takes any byte.",
    "22023": _OF_A_FUNCTION,
    "22P05": "The destination's encoding lacks the character: use a database with the encoding UTF8.",
    "22P02": "Give the column of the destination the type of the source's; an enum needs the source's labels (ALTER TYPE … "
    "ADD VALUE).",
    "2200M": "The value is no XML document: give the column of the destination the type text, or correct the row.",
    "2200N": "The value is no XML content: give the column of the destination the type text, or correct the row.",
    "23": "Drop the constraint at the destination, or correct the rows that violate it.",
    "23502": "Drop the NOT NULL at the destination, or correct the rows at the source.",
    "23503": "Drop the foreign key at the destination: tables are written one after the other.",
    "23505": "Drop the extra unique index at the destination, or the row that stands in the way.",
    "23514": "Drop the CHECK constraint at the destination, or create the partition that the row belongs to.",
    "25": f"If a connection pooler stands before the server, it may share sessions among its clients. {BYPASS_POOLER}",
    "25006": "The server refuses to write although the session asks for it: set host and port to the primary, or end the "
    "server's read-only mode. Managed servers enter it when their disk is full.",
    "26": f"A connection pooler may share sessions among its clients. {BYPASS_POOLER}",
    "28": "Correct the row, or allow the user and the address in the server's pg_hba.conf.",
    "28P01": "Correct the user name or the password.",
    "2B": "Drop what depends on it, or let the same role own both.",
    "2F": _OF_A_FUNCTION,
    "38": _OF_A_FUNCTION,
    "39": _OF_A_FUNCTION,
    "3D": "Create the database, or correct the row.",
    "3F": f"The schema is missing. {_DEFINED}",
    "42": "Compare the definition of the table at the source and at the destination, and resync the table.",
    "42501": "Grant the privilege to the user of this connection.",
    "42601": f"If a connection pooler or another product stands before the server, it is what refuses: {BYPASS_POOLER} "
    f"Otherwise: {_REPORT}",
    "42602": "Correct the name.",
    "42622": "Shorten the name.",
    "42701": "Drop or rename the column of that name at the destination, or resync the table.",
    "42703": "Add the column again, or resync the table.",
    "42704": f"A type, role, slot or publication is missing. {_DEFINED} A type (enum, domain, composite, extension) has to "
    "exist at the destination before its tables are copied.",
    "42710": "Drop or rename what has that name, or give the pipeline another one.",
    "42723": "Drop or rename the function of that name.",
    "42804": _CANNOT_HOLD,
    "42809": "It is another kind of object: name a table in pipeline_tables.",
    "42830": "Drop the foreign key at the destination.",
    "42846": _CANNOT_HOLD,
    "42883": "A function or operator is missing: create the extension that the type belongs to, in a schema of the role's "
    "search_path.",
    "42939": "Choose another name: this one is reserved.",
    "42P01": f"The table is missing. {_DEFINED}",
    "42P04": "Choose another name for the database.",
    "42P05": f"A connection pooler may share sessions among its clients. {BYPASS_POOLER}",
    "42P06": "The schema exists already: restart the pipeline.",
    "42P07": "A table of that name exists already: drop or rename it, or give the table another target.",
    "42P10": "Create a unique index on the key's columns at the destination, or resync the table.",
    "42P16": "Compare the definition of the table at the source and at the destination.",
    "42P17": _OF_A_FUNCTION,
    "42P22": "Give the column of the destination a collation.",
    "428C9": "Let the destination's column accept values: GENERATED BY DEFAULT instead of ALWAYS, no generated expression.",
    "44": "Drop the WITH CHECK OPTION of the view, or name the table as the target.",
    "53400": "Raise the limit that the message names (temp_file_limit, for one) for the role: ALTER ROLE … SET ….",
    "54": "The table is beyond a limit of the server. Take columns out of it, or take it out of the pipeline.",
    "54001": "Raise max_stack_depth at the server.",
    "54011": "A table has at most 1600 columns, dropped ones included, and Rosetta's staging table needs three more: copy "
    "fewer columns, or resync the table when columns were dropped.",
    "55": "Bring it into the state that the message asks for.",
    "55P02": "Change the setting in the server's configuration, and restart the server.",
    "55P04": "Restart the pipeline: a new label of an enum is usable once its transaction has ended.",
    "F0": "Correct the server's configuration file.",
    "HV": "The table is a foreign table, or reads one: name a table of the server's own.",
    "P0": _OF_A_FUNCTION,
    "XX": f"The server failed within itself. {_REPORT}",
    "XX001": _CORRUPT,
    "XX002": "Run REINDEX on the index.",
}

#: What to do about errors that pass with time, where it is more than waiting.
TRANSIENT_REMEDIES: Final[Mapping[str, str]] = {
    "25P03": _timeout("idle_in_transaction_session_timeout"),
    "25P04": _timeout("transaction_timeout"),
    "53": f"The server is short of resources. {_RESTARTS}",
    "53100": f"{_FREE_DISK} {_RESTARTS}",
    "53200": f"Give the server more memory, or lower work_mem and maintenance_work_mem. {_RESTARTS}",
    "53300": "Raise max_connections, or the CONNECTION LIMIT of the role or database, or end idle sessions. " + _RESTARTS,
    "55P03": f"Another session holds a lock on the table: look for it in pg_locks. {_RESTARTS}",
    "57014": "An administrator, or a statement_timeout set by something between, canceled the statement: the session itself "
    f"sets the timeout to 0. {_RESTARTS}",
    "57P05": _timeout("idle_session_timeout"),
    "58030": f"Look at the server's disk and its log. {_RESTARTS}",
    "58P01": f"A file of the server is missing: look at its disk and its log. {_RESTARTS}",
    "72": f"Raise old_snapshot_threshold at the server. {_RESTARTS}",
}


def is_transient(sqlstate: str) -> bool:
    """Whether the error passes with time."""
    return sqlstate.startswith(TRANSIENT) and not sqlstate.startswith(NOT_TRANSIENT)


def may_quote_values(sqlstate: str, *, source_function: str | None, context: str | None) -> bool:
    """Whether the server's message may hold a value of a row.

    Within COPY, types of extensions raise any SQLSTATE about the value that they read.
    """
    if source_function == _RAISE or (context or "").startswith("COPY "):
        return True
    if sqlstate == "22023" and source_function in _ABOUT_NAMES:
        return False
    return sqlstate[:2] not in _WRITTEN_FROM_NAMES


def remedy_of(sqlstate: str, source_function: str | None = None) -> str:
    """Return what to do about an error that a person has to fix."""
    if source_function == "check_publication_add_relation":
        return "Only permanent tables can be published: run ALTER TABLE … SET LOGGED, or take it out of pipeline_tables."
    if sqlstate == "22023" and source_function in _ABOUT_NAMES:
        return "Correct the setting that the message names, of the role or the database."
    return _remedy_of(REMEDIES, sqlstate) or f"Look at the server's log for SQLSTATE {sqlstate}, which names the statement."


def transient_remedy_of(sqlstate: str) -> str:
    """Return what to do about an error that passes with time."""
    return _remedy_of(TRANSIENT_REMEDIES, sqlstate) or _RESTARTS


def _remedy_of(remedies: Mapping[str, str], sqlstate: str) -> str | None:
    return remedies.get(sqlstate) or remedies.get(sqlstate[:2])
