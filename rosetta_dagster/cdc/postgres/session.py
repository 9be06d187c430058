"""Decides the settings of every session, so that no setting of a role, a database or a server changes a value or ends a run.

The settings are sent as one message after connecting. The startup packet could carry them too, but a pooler refuses
parameters that it does not know.

Not set: planner settings, since they change no result; `lc_messages`, since only a superuser may change it and errors are
recognized by their SQLSTATE; `default_text_search_config`, since values in text form do not depend on it and triggers of the
operator's own may; `session_replication_role`, which is the destination's business.
"""

from collections.abc import Collection, Iterable
from dataclasses import dataclass
from typing import Final


@dataclass(frozen=True, slots=True)
class Setting:
    """One setting of a session."""

    name: str
    value: str
    #: What goes wrong under another value.
    reason: str
    #: SQL that is true where the setting is sent; none: everywhere.
    condition: str = ""

    def as_sql(self) -> str:
        """Return the statement that sets it, for this session only."""
        if not self.condition:
            return f"SET {self.name} = '{self.value}'"
        return f"SELECT pg_catalog.set_config('{self.name}', '{self.value}', false) WHERE {self.condition}"


def _if_known(name: str) -> str:
    """Older servers do not have the setting."""
    return f"pg_catalog.current_setting('{name}', true) IS NOT NULL"


_TIMEOUT: Final = "Copies, merges and exported snapshots take as long as they take."

#: First the timeouts: they limit the statements that follow.
SESSION_SETTINGS: Final = (
    Setting("statement_timeout", "0", _TIMEOUT),
    Setting("lock_timeout", "0", "Another session's lock is waited for; the watched connection decides for how long."),
    Setting("idle_in_transaction_session_timeout", "0", "A snapshot is held open by a session that is idle in it."),
    Setting("idle_session_timeout", "0", "A quiet stream leaves sessions idle.", _if_known("idle_session_timeout")),
    Setting("transaction_timeout", "0", _TIMEOUT, _if_known("transaction_timeout")),
    Setting("exit_on_error", "off", "A refused statement is rolled back to a savepoint and done another way."),
    Setting("client_encoding", "UTF8", "Names and values are exchanged in UTF-8."),
    Setting("client_min_messages", "warning", "Notices are not read."),
    Setting("DateStyle", "ISO", "Text form of dates and timestamps."),
    Setting("IntervalStyle", "postgres", "Text form of intervals; also decides the signs of an interval that is read."),
    Setting("TimeZone", "UTC", "Text form of timestamptz; meaning of a timestamp without an offset."),
    Setting("bytea_output", "hex", "Text form of bytea."),
    Setting("extra_float_digits", "1", "Text form of real and double precision: the shortest that is exact."),
    Setting("lc_monetary", "C", "Text form and meaning of money."),
    Setting("xmloption", "content", "A fragment of XML is refused as a document."),
    Setting("xmlbinary", "base64", "Text form of bytea within XML."),
    Setting("array_nulls", "on", "Otherwise NULL within an array is read as the text 'NULL'."),
    Setting("quote_all_identifiers", "off", "Names that the catalog prints are compared as text."),
    Setting("search_path", "", "The catalog prints names outside of the path in full."),
    Setting("standard_conforming_strings", "on", "A backslash within a literal is a backslash."),
    Setting("escape_string_warning", "off", "A warning for each literal with a backslash."),
    Setting("backslash_quote", "safe_encoding", "How a quote within an escape string is read."),
    Setting("transform_null_equals", "off", "`x = NULL` is never true."),
    Setting("row_security", "off", "A policy that hides rows is an error, not a result with fewer rows."),
    Setting("check_function_bodies", "on", "A migration's functions are checked when they are made."),
    Setting("default_transaction_read_only", "off", "Every session writes, a source's to its publication."),
    Setting("default_transaction_isolation", "read committed", "Serializable sessions fail each other."),
    Setting("default_transaction_deferrable", "off", "A deferrable transaction waits before it begins."),
    Setting(
        "synchronous_commit",
        "on",
        "What is confirmed to the source must survive a crash of the destination. `remote_apply` promises more, and stays.",
        "pg_catalog.current_setting('synchronous_commit') IN ('off', 'local', 'remote_write')",
    ),
)

#: Of a session that streams changes.
WALSENDER_SETTINGS: Final = (
    Setting(
        "wal_sender_timeout",
        "60s",
        "The server ends a stream whose reader is busy for longer; 0 keeps one whose reader is gone. A longer one stays.",
        "pg_catalog.current_setting('wal_sender_timeout')::pg_catalog.interval < '60s'",
    ),
)

#: A driver that opens its walsender itself has them in the startup packet. It sends `client_encoding` on its own.
STARTUP_SETTINGS: Final = (
    *(setting for setting in SESSION_SETTINGS if setting.name != "client_encoding"),
    *WALSENDER_SETTINGS,
)

#: A database of the operator's own decides where names are looked up: the configuration database may have its tables in
#: any schema, and a destination's triggers and the operators of its extensions are found by the role's path.
OWN_SEARCH_PATH: Final = frozenset({"search_path"})


def session_sql(settings: Iterable[Setting] = SESSION_SETTINGS, *, without: Collection[str] = ()) -> str:
    """Return the statements that give a session its settings, but for those of these names."""
    return "; ".join(setting.as_sql() for setting in settings if setting.name not in without)


def startup_options(settings: Iterable[Setting]) -> str:
    """Return the settings as `options` of a startup packet; their conditions are the caller's to check."""
    return " ".join(f"-c {setting.name}={_escaped(setting.value)}" for setting in settings)


def _escaped(value: str) -> str:
    """The server splits options at spaces without a backslash."""
    return value.replace(" ", "\\ ")
