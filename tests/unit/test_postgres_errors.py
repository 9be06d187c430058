"""What a PostgreSQL error means to an operator: it passes with time, or a person fixes it, and the remedy fits."""

from collections.abc import Iterator

import psycopg
import pytest
from psycopg import errors

from rosetta_dagster.cdc.config.pipeline import PostgresConnection
from rosetta_dagster.cdc.errors import ConfigurationError, DestinationRejected, DestinationUnavailable, RosettaError
from rosetta_dagster.cdc.postgres.errors import Translation, translate
from rosetta_dagster.cdc.postgres.remedies import may_quote_values
from rosetta_dagster.cdc.postgres.session import SESSION_SETTINGS, session_sql, startup_options

TRANSLATION = Translation(who="destination d", unavailable=DestinationUnavailable, rejected=DestinationRejected)


def every_sqlstate() -> Iterator[str]:
    """Those that psycopg knows, which are PostgreSQL's."""
    states = (getattr(each, "sqlstate", None) for each in vars(errors).values() if isinstance(each, type))
    return (state for state in states if isinstance(state, str))


def refused(text: str) -> RosettaError:
    return translate(psycopg.OperationalError(text), TRANSLATION)


@pytest.mark.parametrize("sqlstate", sorted(set(every_sqlstate())))
def test_every_sqlstate_has_a_remedy_that_is_more_than_a_manual(sqlstate: str) -> None:
    error = translate(errors.lookup(sqlstate)(), TRANSLATION)
    assert sqlstate in error.message
    assert error.remedy.endswith(".")
    assert "Look up the SQLSTATE" not in error.remedy
    # What comes of no data names no type of a column.
    assert ("type of the source's" in error.remedy) <= (sqlstate[:2] in ("22", "42"))


def test_an_sqlstate_that_nobody_knows_leads_to_the_servers_log() -> None:
    class Own(psycopg.DatabaseError):
        sqlstate = "ABC12"

    error = translate(Own(), TRANSLATION)
    assert isinstance(error, DestinationRejected)
    assert "server's log" in error.remedy
    assert "ABC12" in error.remedy


@pytest.mark.parametrize(
    ("sqlstate", "setting"),
    [
        ("25P03", "idle_in_transaction_session_timeout"),
        ("25P04", "transaction_timeout"),
        ("57014", "statement_timeout"),
        ("57P05", "idle_session_timeout"),
        ("53100", "disk"),
        ("53300", "max_connections"),
        ("55P03", "pg_locks"),
    ],
)
def test_what_passes_with_time_names_what_an_operator_can_change(sqlstate: str, setting: str) -> None:
    error = translate(errors.lookup(sqlstate)(), TRANSLATION)
    assert isinstance(error, DestinationUnavailable)
    assert setting in error.remedy


@pytest.mark.parametrize("sqlstate", ["53400", "25006", "08P01", "26000", "42P05"])
def test_what_does_not_pass_with_time_ends_the_run(sqlstate: str) -> None:
    assert isinstance(translate(errors.lookup(sqlstate)(), TRANSLATION), DestinationRejected)


@pytest.mark.parametrize(
    ("text", "kind", "told"),
    [
        ("FATAL:  unsupported startup parameter: replication", ConfigurationError, "pooler"),
        ("FATAL:  sorry, too many clients already", DestinationUnavailable, "max_connections"),
        ('FATAL:  too many connections for role "a"', DestinationUnavailable, "CONNECTION LIMIT"),
        ("FATAL:  the database system is starting up", DestinationUnavailable, "starting or stopping"),
        ("FATAL:  query_wait_timeout", DestinationUnavailable, "pool_size"),
        ('authentication method requirement "scram-sha-256" failed: server requested a cleartext password',
         ConfigurationError, "require_auth"),
        ('FATAL:  database "a" is not currently accepting connections', ConfigurationError, "ALLOW_CONNECTIONS"),
        ('root certificate file "/x" does not exist', ConfigurationError, "certificates"),
        ("connection refused", DestinationUnavailable, "Check host, port and network"),
    ],
)  # fmt: skip
def test_a_refused_connection_has_the_remedy_of_its_cause(text: str, kind: type[RosettaError], told: str) -> None:
    error = refused(text)
    assert kind is type(error)
    assert told in error.remedy


@pytest.mark.parametrize(
    ("sqlstate", "source_function", "context", "is_quoting"),
    [
        ("22P02", "pg_strtoint32_safe", None, True),
        ("23514", "ExecConstraints", None, True),
        ("P0001", "exec_stmt_raise", None, True),
        # RAISE … USING ERRCODE, an extension's own input function, a class of somebody's own, a foreign server.
        ("42P01", "exec_stmt_raise", "PL/pgSQL function f() line 3 at RAISE", True),
        ("42601", "hstore_in", 'COPY t, line 1, column h: "a=>"', True),
        ("U0001", None, None, True),
        ("HV000", None, None, True),
        ("22023", "regexp_matches", None, True),
        ("22023", "check_publication_add_relation", None, False),
        ("42P01", "parserOpenTable", None, False),
        ("53100", "mdextend", None, False),
    ],
)
def test_a_message_that_may_quote_a_value_is_left_out(
    sqlstate: str, source_function: str | None, context: str | None, is_quoting: bool
) -> None:
    assert is_quoting == may_quote_values(sqlstate, source_function=source_function, context=context)


def test_every_setting_has_a_reason_and_occurs_once() -> None:
    assert all(setting.reason.endswith(".") for setting in SESSION_SETTINGS)
    names = [setting.name.lower() for setting in SESSION_SETTINGS]
    assert len(names) == len(set(names))
    assert "search_path" not in session_sql(without={"search_path"})
    assert r"default_transaction_isolation=read\ committed" in startup_options(SESSION_SETTINGS)


@pytest.mark.parametrize(
    ("password", "require_auth", "expected"),
    [
        ("secret", None, "require_auth=scram-sha-256 "),
        (None, None, "require_auth=scram-sha-256,gss,sspi,none "),
        ("secret", "scram-sha-256,md5", "require_auth=scram-sha-256,md5 "),
    ],
)
def test_a_password_is_sent_by_scram_only_unless_the_row_says_otherwise(
    password: str | None, require_auth: str | None, expected: str
) -> None:
    row = {"host": "h", "database": "d", "username": "u", "password": password, "require_auth": require_auth}
    assert expected in PostgresConnection.model_validate(row).conninfo() + " "
