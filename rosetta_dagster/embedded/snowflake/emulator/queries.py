"""Answers requests to run a statement: applies faults, and runs a repeated request only once."""

import asyncio
import uuid
from collections import deque
from collections.abc import Callable, Mapping
from concurrent.futures import ThreadPoolExecutor
from dataclasses import dataclass, field
from typing import Any

import orjson

from rosetta_dagster.embedded.snowflake.emulator import engine
from rosetta_dagster.embedded.snowflake.emulator.errors import (
    SnowflakeError,
    cancelled,
    internal,
    locked,
    no_warehouse,
    stage_unreachable,
    timed_out,
    too_many_wait,
)
from rosetta_dagster.embedded.snowflake.emulator.faults import Faults
from rosetta_dagster.embedded.snowflake.emulator.results import Result
from rosetta_dagster.embedded.snowflake.emulator.session import Session
from rosetta_dagster.embedded.snowflake.emulator.sessions import Sessions
from rosetta_dagster.embedded.snowflake.fault import Fault, FaultKind

#: Answers that are kept for repeated requests, and statements that are kept for the control.
_ANSWERS_KEPT = 64
_STATEMENTS_KEPT = 10_000

#: The JSON of an answer.
Answer = bytes


class AnswerLost(Exception):
    """The connection breaks instead of an answer."""


class Unavailable(Exception):
    """The answer is HTTP 503."""


@dataclass(slots=True)
class _Request:
    session: Session
    answer: "asyncio.Task[Answer] | None" = None
    is_cancelled: asyncio.Event = field(default_factory=asyncio.Event)
    #: The connection breaks instead of the answer, each time.
    loses_answer: bool = False
    #: HTTP 503 replaces the answer, the first time.
    delays_answer: bool = False


class Queries:
    """The statements of all sessions. Owns the threads that run them, until `close`."""

    def __init__(self, sessions: Sessions, faults: Faults) -> None:
        self._sessions, self._faults = sessions, faults
        self._requests: dict[str, _Request] = {}
        # A session that waits for a lock occupies a thread.
        self._threads = ThreadPoolExecutor(64, thread_name_prefix="statement")
        self.statements: deque[dict[str, Any]] = deque(maxlen=_STATEMENTS_KEPT)

    async def run(self, token: str, identifier: str, content: Mapping[str, Any], host: str) -> Answer:
        """Answer a request. A repeated request gets the answer of the first and does not run again, as in Snowflake.

        Raises:
            AnswerLost, Unavailable: caused by a fault.

        """
        request = self._requests.get(identifier)
        if request is None:
            session = self._sessions.of_token(token)
            fault = self._faults.of_statement(content["sqlText"])
            self._refuse(session, fault)
            self._forget_answers(session)
            request = self._requests[identifier] = _Request(session)
            request.loses_answer = fault is not None and fault.kind is FaultKind.ANSWER_LOST
            request.delays_answer = fault is not None and fault.kind is FaultKind.ANSWER_DELAYED
            request.answer = asyncio.ensure_future(self._answer(request, content, host, fault))
        assert request.answer is not None, "it was just given"
        answer = await asyncio.shield(request.answer)
        if request.loses_answer:
            raise AnswerLost
        if request.delays_answer:
            request.delays_answer = False
            raise Unavailable
        return answer

    def cancel(self, identifier: str) -> None:
        """Cancel a statement that runs, waits or stalls."""
        request = self._requests.get(identifier)
        if request is not None and request.answer is not None and not request.answer.done():
            request.is_cancelled.set()
            request.session.cancel()

    def close(self) -> None:
        self._threads.shutdown(cancel_futures=True)

    def _forget_answers(self, session: Session) -> None:
        """Discard answers: a client that sends a new request has received its last answer, and some clients are gone."""
        done = [key for key, request in self._requests.items() if request.answer and request.answer.done()]
        own = [key for key in done if self._requests[key].session is session]
        for key in {*own, *done[:-_ANSWERS_KEPT]}:
            del self._requests[key]

    def _refuse(self, session: Session, fault: Fault | None) -> None:
        """Apply the faults of the request, not of the statement: the request may be repeated."""
        kind = fault.kind if fault is not None else None
        if kind is FaultKind.UNAVAILABLE:
            raise Unavailable
        if kind is FaultKind.SESSION_EXPIRED:
            self._sessions.expire(session)
            self._sessions.of_token(session.token)
        if kind is FaultKind.SESSION_GONE:
            self._sessions.end(session)
            self._sessions.of_token(session.token)

    async def _answer(self, request: _Request, content: Mapping[str, Any], host: str, fault: Fault | None) -> Answer:
        query, loop = str(uuid.uuid4()), asyncio.get_running_loop()
        session, text = request.session, content["sqlText"]
        tag = (content.get("parameters") or {}).get("QUERY_TAG", session.parameters.get("QUERY_TAG", ""))
        shown = {"text": text, "user": session.user, "query_tag": tag, "error_code": "", "used_warehouse": False}
        self.statements.append(shown)
        try:
            await asyncio.sleep(float(session.parameter("EMULATOR_STATEMENT_SECONDS", "0")))
            await _play(request, fault)
            return await loop.run_in_executor(self._threads, _run, session, content, host, query, shown)
        except SnowflakeError as error:
            shown["error_code"] = error.code
            return orjson.dumps(failure(error, query))


def _run(session: Session, content: Mapping[str, Any], host: str, query: str, shown: dict[str, Any]) -> Answer:
    text = content["sqlText"]
    if content.get("describeOnly"):
        result = engine.describe(session, text)
    else:
        result = engine.run(session, text, content.get("bindings") or {}, host)
    shown["used_warehouse"] = result.used_warehouse
    return orjson.dumps(_success(session, result, query))


_REFUSALS: Mapping[FaultKind, Callable[[], SnowflakeError]] = {
    FaultKind.WAREHOUSE_SUSPENDED: no_warehouse,
    FaultKind.LOCKED: lambda: locked("unknown"),
    FaultKind.TOO_MANY_WAITERS: too_many_wait,
    FaultKind.INTERNAL_ERROR: internal,
    FaultKind.STAGE_UNREACHABLE: stage_unreachable,
}


async def _play(request: _Request, fault: Fault | None) -> None:
    """Apply the faults of the statement."""
    if fault is None:
        return
    if refusal := _REFUSALS.get(fault.kind):
        request.session.transaction.fail()
        raise refusal()
    if fault.kind is FaultKind.STALL:
        await _stall(request, fault.seconds)


async def _stall(request: _Request, seconds: float) -> None:
    limit = float(request.session.parameters.get("STATEMENT_TIMEOUT_IN_SECONDS", 0)) or seconds
    request.session.is_stalled = True
    try:
        await asyncio.wait_for(request.is_cancelled.wait(), min(seconds, limit))
    except TimeoutError:
        if limit < seconds:
            raise timed_out(limit) from None
    else:
        raise cancelled()
    finally:
        request.session.is_stalled = False


def failure(error: SnowflakeError, query: str | None = None) -> dict[str, Any]:
    """Return the answer for an error."""
    data = {"errorCode": error.code, "sqlState": error.sqlstate, "queryId": query} if query else None
    return {"data": data, "code": error.code, "message": error.message, "success": False, "headers": None}


def _success(session: Session, result: Result, query: str) -> dict[str, Any]:
    if result.upload is not None:
        return {"data": {**result.upload, "queryId": query}, "code": None, "message": None, "success": True}
    connection = session.connection
    names = {
        "finalDatabaseName": connection.database if connection.database_set else None,
        "finalSchemaName": connection.schema if connection.schema_set else None,
        "finalWarehouseName": session.warehouse,
        "finalRoleName": session.role,
    }
    parameters = [{"name": "TIMEZONE", "value": "Etc/UTC"}]
    data = {"parameters": parameters, "queryId": query, **names, **result.to_json()}
    return {"data": data, "code": None, "message": None, "success": True}
