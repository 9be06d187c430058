"""What a request to run a statement comes to: its faults, one run however often it is repeated, and its answer."""

import asyncio
import uuid
from collections import deque
from collections.abc import Mapping
from concurrent.futures import ThreadPoolExecutor
from dataclasses import dataclass, field
from typing import Any

import orjson

from rosetta_dagster.embedded.snowflake.emulator import engine
from rosetta_dagster.embedded.snowflake.emulator.errors import (
    SnowflakeError,
    cancelled,
    locked,
    no_warehouse,
    timed_out,
)
from rosetta_dagster.embedded.snowflake.emulator.faults import Faults
from rosetta_dagster.embedded.snowflake.emulator.results import Result
from rosetta_dagster.embedded.snowflake.emulator.session import Session
from rosetta_dagster.embedded.snowflake.emulator.sessions import Sessions
from rosetta_dagster.embedded.snowflake.fault import Fault, FaultKind

#: How many answers are kept for a request that is repeated, and how many statements for the control to show.
_ANSWERS_KEPT = 64
_STATEMENTS_KEPT = 10_000

#: The JSON that the client is sent.
Answer = bytes


class AnswerLost(Exception):
    """The connection breaks in place of the answer."""


class Unavailable(Exception):
    """The answer is HTTP 503."""


@dataclass(slots=True)
class _Request:
    session: Session
    answer: "asyncio.Task[Answer] | None" = None
    is_cancelled: asyncio.Event = field(default_factory=asyncio.Event)
    #: Whether the connection breaks in place of the answer, however often it is asked for.
    loses_answer: bool = False
    #: Whether the service is unavailable in place of the answer, the first time.
    delays_answer: bool = False


class Queries:
    """The statements of all sessions. Owns the threads in which they run, until `close`."""

    def __init__(self, sessions: Sessions, faults: Faults) -> None:
        self._sessions, self._faults = sessions, faults
        self._requests: dict[str, _Request] = {}
        # A session that waits for a lock keeps one.
        self._threads = ThreadPoolExecutor(64, thread_name_prefix="statement")
        self.statements: deque[dict[str, str]] = deque(maxlen=_STATEMENTS_KEPT)

    async def run(self, token: str, identifier: str, content: Mapping[str, Any], host: str) -> Answer:
        """The answer to a request. A repeated one meets the first, and is not run again: that is Snowflake's care, too.

        Raises:
            AnswerLost, Unavailable: by a fault.

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
        """End a statement that runs, waits or stalls."""
        request = self._requests.get(identifier)
        if request is not None and request.answer is not None and not request.answer.done():
            request.is_cancelled.set()
            request.session.cancel()

    def close(self) -> None:
        self._threads.shutdown(cancel_futures=True)

    def _forget_answers(self, session: Session) -> None:
        """A client that asks something new has got its last answer; and of those who do not, some are gone."""
        done = [key for key, request in self._requests.items() if request.answer and request.answer.done()]
        own = [key for key in done if self._requests[key].session is session]
        for key in {*own, *done[:-_ANSWERS_KEPT]}:
            del self._requests[key]

    def _refuse(self, session: Session, fault: Fault | None) -> None:
        """Faults that concern the request, and not the statement: it may be repeated."""
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
        shown = {"text": text, "user": session.user, "query_tag": tag, "error_code": ""}
        self.statements.append(shown)
        try:
            await _play(request, fault)
            return await loop.run_in_executor(self._threads, _run, session, content, host, query)
        except SnowflakeError as error:
            shown["error_code"] = error.code
            return orjson.dumps(failure(error, query))


def _run(session: Session, content: Mapping[str, Any], host: str, query: str) -> Answer:
    text = content["sqlText"]
    if content.get("describeOnly"):
        result = engine.describe(session, text)
    else:
        result = engine.run(session, text, content.get("bindings") or {}, host)
    return orjson.dumps(_success(session, result, query))


async def _play(request: _Request, fault: Fault | None) -> None:
    """Faults of the statement itself."""
    if fault is None:
        return
    if fault.kind is FaultKind.WAREHOUSE_SUSPENDED:
        raise no_warehouse()
    if fault.kind is FaultKind.LOCKED:
        raise locked("unknown")
    if fault.kind is FaultKind.STALL:
        await _stall(request, fault.seconds)


async def _stall(request: _Request, seconds: float) -> None:
    limit = float(request.session.parameters.get("STATEMENT_TIMEOUT_IN_SECONDS", 0)) or seconds
    try:
        await asyncio.wait_for(request.is_cancelled.wait(), min(seconds, limit))
    except TimeoutError:
        if limit < seconds:
            raise timed_out(limit) from None
    else:
        raise cancelled()


def failure(error: SnowflakeError, query: str | None = None) -> dict[str, Any]:
    """The answer that carries an error."""
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
