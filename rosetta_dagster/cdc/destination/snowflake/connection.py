"""Connects to Snowflake and runs one statement at a time."""

import time
from collections.abc import Callable, Iterator, Sequence
from contextlib import ExitStack, contextmanager, suppress
from pathlib import Path
from typing import Any, Self, TypeVar

import snowflake.connector
from snowflake.connector.errors import Error

from rosetta_dagster.cdc.destination.snowflake.config import SnowflakeDestinationConfig
from rosetta_dagster.cdc.destination.snowflake.errors import (
    KEY_REFUSED,
    MISSING,
    TooManyWaiters,
    Translation,
    translated,
)
from rosetta_dagster.cdc.destination.snowflake.login import LogIn
from rosetta_dagster.cdc.errors import ConfigurationError, DestinationUnavailable

#: Seconds that a statement waits for a table that another transaction writes. Snowflake ends a transaction whose client
#: is gone after five minutes when it stands in the way of another one.
LOCK_TIMEOUT = 240

#: Seconds until a login, or a connection that is not answered, is given up.
LOGIN_TIMEOUT = 60
CONNECT_TIMEOUT = 15

#: Seconds between attempts while too many statements wait for a table: a merge holds it for seconds, seldom for longer.
_PAUSES = (0.5, 1.0, 2.0, 4.0, 8.0, 16.0)

_T = TypeVar("_T")


class Session:
    """One connection to Snowflake, in autocommit mode outside of `transaction`.

    Threads may share it: their statements are of one session, and of its transaction, if one is open. The thread that opens
    a transaction waits for the others before it ends it.

    Every error is a `RosettaError`. The connector repeats a request under the same identifier, which Snowflake runs once.
    When no answer comes, the watermark shows after a restart whether the transaction was committed.
    """

    def __init__(self, connect: Callable[[], Any], translation: Translation, is_unwanted: Callable[[], bool] = bool) -> None:
        self._connect = connect
        self._connection = connect()
        self._translation = translation
        self._is_unwanted = is_unwanted
        self._in_transaction = False

    def __enter__(self) -> Self:
        return self

    def __exit__(self, *_: object) -> None:
        self.close()

    def execute(self, statement: str, parameters: Sequence[Any] = (), *, place: str = "") -> list[tuple[Any, ...]]:
        """Run a statement and return its rows. With parameters, each `?` stands for one.

        Outside of a transaction it is repeated when too many statements wait for its table.
        """
        if self._in_transaction:
            return self._run(statement, parameters, place)[0]
        return _patiently(lambda: self._run(statement, parameters, place)[0])

    def describe(self, statement: str) -> list[dict[str, Any]]:
        """Run a DESC or SHOW, which needs no warehouse. Return its rows by column; none when the object is missing."""
        self._verify_wanted()
        with translated(self._translation), self._connection.cursor() as cursor:
            try:
                cursor.execute(statement)
            except Error as error:
                if error.errno in MISSING:
                    return []
                raise
            names = [column[0] for column in cursor.description]
            return [dict(zip(names, row, strict=True)) for row in cursor.fetchall()]

    def change(self, statement: str, parameters: Sequence[Any] = (), *, place: str = "") -> int:
        """Run a statement that writes rows and return their number."""
        return self._run(statement, parameters, place)[1]

    def put(self, file: Path, stage_path: str) -> None:
        """Upload a file. It replaces one of the same name."""
        self.execute(f"PUT 'file://{file}' @{stage_path} AUTO_COMPRESS=FALSE OVERWRITE=TRUE PARALLEL=4")

    @contextmanager
    def transaction(self) -> Iterator[None]:
        """Run the block in a transaction that commits at its end."""
        self.execute("BEGIN")
        self._in_transaction = True
        try:
            with ExitStack() as unless_done:
                unless_done.callback(self._roll_back)
                yield
                unless_done.pop_all()
            self.execute("COMMIT")
        finally:
            self._in_transaction = False

    def transact(self, work: Callable[[], object]) -> None:
        """Run the work in a transaction, and all of it again when too many statements wait for one of its tables."""

        def whole() -> None:
            with self.transaction():
                work()

        _patiently(whole)

    def _roll_back(self) -> None:
        # When the connection is gone as well, Snowflake rolls back by itself.
        with suppress(Error, OSError):
            self._connection.cursor().execute("ROLLBACK")

    def renew(self) -> None:
        """Continue over another connection. It sees everything that was committed before."""
        self.close()
        self._connection = self._connect()

    def close(self) -> None:
        with suppress(Error, OSError):
            self._connection.close()

    def _run(self, statement: str, parameters: Sequence[Any], place: str) -> tuple[list[tuple[Any, ...]], int]:
        self._verify_wanted()
        with translated(self._translation, place), self._connection.cursor() as cursor:
            cursor.execute(statement, *([tuple(parameters)] if parameters else []))
            return cursor.fetchall(), cursor.rowcount or 0

    def _verify_wanted(self) -> None:
        """Raise `DestinationUnavailable` once the run was asked to stop: the connector waits for an answer without end."""
        if self._is_unwanted():
            raise DestinationUnavailable(
                f"{self._translation.who}: the run was asked to stop.", "It goes on with the next run."
            )


def _patiently(work: Callable[[], _T]) -> _T:
    """Return the work's result. Repeat it after pauses while too many statements wait for a table."""
    for pause in _PAUSES:
        with suppress(TooManyWaiters):
            return work()
        time.sleep(pause)
    return work()


def connect(
    config: SnowflakeDestinationConfig, log_in: LogIn, *, who: str, tag: str, is_unwanted: Callable[[], bool] = bool
) -> Session:
    """Open a session. Raise `ConfigurationError` for a wrong row or key, `DestinationUnavailable` when nobody answers."""
    translation = Translation(who=f"{who} ({config.describe()})", fingerprint=log_in.fingerprint, refused=log_in.remedy)
    arguments = {**_address(config), **log_in.arguments, **_settings(config, tag)}
    return Session(lambda: _opened(arguments, translation), translation, is_unwanted)


def _opened(arguments: dict[str, Any], translation: Translation) -> Any:
    with translated(translation), _argument_errors(translation):
        try:
            return snowflake.connector.connect(**arguments)
        except Error as error:
            if error.errno not in KEY_REFUSED:
                raise
            # A token that was held up on its way is refused like a wrong key. Another try issues another token.
            return snowflake.connector.connect(**arguments)


@contextmanager
def _argument_errors(translation: Translation) -> Iterator[None]:
    """Turn Python's own errors, which the connector raises for unusable arguments, into ours."""
    try:
        yield
    except (ValueError, TypeError) as error:
        raise ConfigurationError(
            f"{translation.who} cannot be connected to: the connector refuses the row ({type(error).__name__}).",
            "Correct the account, the user or the host of the row.",
        ) from None


def _address(config: SnowflakeDestinationConfig) -> dict[str, Any]:
    optional = {"host": config.host, "port": config.port, "warehouse": config.warehouse, "role": config.role}
    return {
        "account": config.account,
        "user": config.user,
        "database": config.database,
        "protocol": config.protocol,
        **{name: value for name, value in optional.items() if value is not None},
    }


def _settings(config: SnowflakeDestinationConfig, tag: str) -> dict[str, Any]:
    return {
        "application": "Rosetta",
        "paramstyle": "qmark",
        "autocommit": True,
        "login_timeout": LOGIN_TIMEOUT,
        "connect_timeout": CONNECT_TIMEOUT,
        # An idle pipeline keeps its session without waking the warehouse.
        "client_session_keep_alive": True,
        "enable_server_session_keep_alive_auto_detection": False,
        "session_parameters": {
            "QUERY_TAG": tag,
            "TIMEZONE": "UTC",
            "TIMESTAMP_TYPE_MAPPING": "TIMESTAMP_NTZ",
            "TRANSACTION_ABORT_ON_ERROR": True,
            "ABORT_DETACHED_QUERY": True,
            # Of several source rows for one target row Snowflake would take any.
            "ERROR_ON_NONDETERMINISTIC_MERGE": True,
            "ERROR_ON_NONDETERMINISTIC_UPDATE": True,
            # An account may set it to TRUE, and "orders" would be ORDERS then.
            "QUOTED_IDENTIFIERS_IGNORE_CASE": False,
            "LOCK_TIMEOUT": LOCK_TIMEOUT,
            "STATEMENT_TIMEOUT_IN_SECONDS": config.statement_timeout,
        },
    }
