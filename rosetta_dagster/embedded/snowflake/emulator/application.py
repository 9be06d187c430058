"""The ASGI application: routes Snowflake's paths and the emulator's own to their handlers."""

import asyncio
import contextlib
import gzip
import json
import re
from collections.abc import AsyncIterator, Awaitable, Callable, Mapping
from pathlib import Path
from typing import Any

from starlette.applications import Starlette
from starlette.requests import Request
from starlette.responses import JSONResponse, Response
from starlette.routing import Route
from starlette.types import Receive, Scope, Send

from rosetta_dagster.embedded.snowflake.emulator.account import Account
from rosetta_dagster.embedded.snowflake.emulator.errors import SnowflakeError
from rosetta_dagster.embedded.snowflake.emulator.faults import Faults
from rosetta_dagster.embedded.snowflake.emulator.queries import AnswerLost, Queries, Unavailable, failure
from rosetta_dagster.embedded.snowflake.emulator.session import Session
from rosetta_dagster.embedded.snowflake.emulator.sessions import Sessions
from rosetta_dagster.embedded.snowflake.emulator.stage_files import UPLOAD_PATH, upload_target
from rosetta_dagster.embedded.snowflake.fault import Fault

_CONTROL_PATH = "/_emulator/"
_TOKEN = re.compile(r'Snowflake Token="([^"]*)"')

#: Lifetime of tokens that answers state, in seconds.
_TOKEN_LIFE, _MASTER_TOKEN_LIFE = 3600, 14400

_Handler = Callable[[Request], Awaitable[Response]]


class LostAnswer(Response):
    """Starts an answer and does not finish it, so that the server breaks the connection."""

    async def __call__(self, _scope: Scope, _receive: Receive, send: Send) -> None:
        await send({"type": "http.response.start", "status": 200, "headers": [(b"content-length", b"1")]})


class Application:
    """Serves the account over HTTP. Owns its sessions and their threads meanwhile."""

    def __init__(self, account: Account, control_token: str) -> None:
        self._account = account
        self._control_token = control_token
        self._faults = Faults()
        self._sessions = Sessions(account)
        self._queries = Queries(self._sessions, self._faults)

    def asgi(self) -> Starlette:
        """Create the application. It can be served once."""
        post, uploads = ["POST"], UPLOAD_PATH + "{path:path}"
        return Starlette(
            routes=[
                Route("/session/v1/login-request", self._snowflake(self._log_in), methods=post),
                Route("/session/token-request", self._snowflake(self._renew), methods=post),
                Route("/session/heartbeat", self._snowflake(self._session), methods=post),
                Route("/session", self._snowflake(self._session), methods=post),
                Route("/queries/v1/query-request", self._snowflake(self._query), methods=post),
                Route("/queries/v1/abort-request", self._snowflake(self._abort), methods=post),
                Route("/telemetry/send", self._snowflake(_ignore), methods=post),
                Route("/oauth/token", self._issue, methods=post),
                Route(uploads, self._snowflake(_store), methods=["PUT"]),
                Route(_CONTROL_PATH + "{what}", self._control, methods=["GET", "POST", "DELETE"]),
            ],
            lifespan=self._lifespan,
        )

    @contextlib.asynccontextmanager
    async def _lifespan(self, _: Starlette) -> AsyncIterator[None]:
        yield
        await asyncio.to_thread(self._sessions.close)
        self._queries.close()
        self._account.close()

    def _snowflake(self, handler: _Handler) -> _Handler:
        """Wrap a handler of Snowflake's protocol: its errors are answers with HTTP 200, and faults affect it."""

        async def handled(request: Request) -> Response:
            if self._faults.of_request() is not None:
                return Response(status_code=503)
            try:
                return await handler(request)
            except SnowflakeError as error:
                return JSONResponse(failure(error))
            except Unavailable:
                return Response(status_code=503)
            except AnswerLost:
                return LostAnswer()

        return handled

    async def _log_in(self, request: Request) -> Response:
        data = (await _content(request))["data"]
        session = await asyncio.to_thread(self._sessions.log_in, data, request.query_params)
        return _answer(_session_facts(session))

    async def _issue(self, request: Request) -> Response:
        """Answer as an identity provider does."""
        token = self._account.credentials.issue(request.headers.get("Authorization", ""))
        if token is None:
            return JSONResponse({"error": "invalid_client"}, status_code=401)
        return JSONResponse({"access_token": token, "token_type": "Bearer", "expires_in": 600})

    async def _renew(self, request: Request) -> Response:
        session = self._sessions.renewed(_token(request))
        lives = {"validityInSecondsST": _TOKEN_LIFE, "validityInSecondsMT": _MASTER_TOKEN_LIFE}
        tokens = {"sessionToken": session.token, "masterToken": session.master_token, "sessionId": session.id}
        return _answer({**tokens, **lives})

    async def _session(self, request: Request) -> Response:
        session = self._sessions.of_token(_token(request))
        if request.query_params.get("delete"):
            await asyncio.to_thread(self._sessions.end, session)
        return _answer(None)

    async def _query(self, request: Request) -> Response:
        content = await _content(request)
        identifier = request.query_params["requestId"]
        answer = await self._queries.run(_token(request), identifier, content, request.url.netloc)
        return Response(answer, media_type="application/json")

    async def _abort(self, request: Request) -> Response:
        self._queries.cancel((await _content(request)).get("requestId", ""))
        return _answer(None)

    async def _control(self, request: Request) -> Response:
        if request.headers.get("Authorization") != f"Bearer {self._control_token}":
            return Response("the control's token is missing or wrong", status_code=403)
        controls: Mapping[tuple[str, str], Callable[[Any], Any]] = {
            ("GET", "faults"): self._show_faults,
            ("POST", "faults"): self._add_faults,
            ("DELETE", "faults"): self._clear_faults,
            ("POST", "abort"): self._abort_transactions,
            ("POST", "statements"): self._show_statements,
            ("DELETE", "statements"): self._forget_statements,
            ("POST", "login-failure"): self._show_login_failure,
            ("POST", "keys"): self._set_keys,
        }
        do = controls.get((request.method, request.path_params["what"]))
        if do is None:
            return Response("no such control", status_code=404)
        body = await request.body()
        return JSONResponse(await asyncio.to_thread(do, json.loads(body) if body else None))

    def _show_faults(self, _: Any) -> list[dict[str, Any]]:
        return [fault.to_json() for fault in self._faults.pending]

    def _add_faults(self, faults: list[dict[str, Any]]) -> None:
        self._faults.add([Fault.from_json(fault) for fault in faults])

    def _clear_faults(self, _: Any) -> None:
        self._faults.clear()

    def _abort_transactions(self, _: Any) -> int:
        return self._sessions.abort_transactions()

    def _show_statements(self, pattern: str) -> list[dict[str, Any]]:
        return [shown for shown in list(self._queries.statements) if re.search(pattern, shown["text"], re.IGNORECASE)]

    def _forget_statements(self, _: Any) -> None:
        self._queries.statements.clear()

    def _show_login_failure(self, message: str) -> str:
        failures = self._account.authentication.failures
        return next((reason for identifier, reason in failures.items() if identifier in message), "")

    def _set_keys(self, keys: dict[str, list[str]]) -> None:
        for user, texts in keys.items():
            self._account.authentication.register(user, texts)


async def _content(request: Request) -> dict[str, Any]:
    body = await request.body()
    if request.headers.get("Content-Encoding") == "gzip":
        body = gzip.decompress(body)
    content: dict[str, Any] = json.loads(body) if body else {}
    return content


def _token(request: Request) -> str:
    found = _TOKEN.fullmatch(request.headers.get("Authorization", ""))
    return found[1] if found else ""


def _answer(data: dict[str, Any] | None) -> Response:
    return JSONResponse({"data": data, "code": None, "message": None, "success": True})


def _session_facts(session: Session) -> dict[str, Any]:
    """Return the answer to a login."""
    connection = session.connection
    return {
        "token": session.token,
        "masterToken": session.master_token,
        "validityInSeconds": _TOKEN_LIFE,
        "masterValidityInSeconds": _MASTER_TOKEN_LIFE,
        "sessionId": session.id,
        "displayUserName": session.user,
        "serverVersion": "9.0.0",
        "healthCheckInterval": 45,
        "parameters": [
            {"name": "AUTOCOMMIT", "value": session.autocommits},
            {"name": "CLIENT_SESSION_KEEP_ALIVE_HEARTBEAT_FREQUENCY", "value": 3600},
            # Lists of bindings come with their statement, not as a file.
            {"name": "CLIENT_STAGE_ARRAY_BINDING_THRESHOLD", "value": 0},
        ],
        "sessionInfo": {
            "databaseName": connection.database if connection.database_set else None,
            "schemaName": connection.schema if connection.schema_set else None,
            "warehouseName": session.warehouse,
            "roleName": session.role,
        },
    }


async def _ignore(_: Request) -> Response:
    return _answer(None)


async def _store(request: Request) -> Response:
    """Store a file of a PUT. With OVERWRITE=FALSE an existing file is kept."""
    target = upload_target(request.path_params["path"])
    if target is None:
        return Response(status_code=400)
    if request.headers.get("x-goog-if-generation-match") == "0" and target.exists():
        return Response(status_code=412)
    await asyncio.to_thread(_write, target, await request.body())
    return Response()


def _write(target: Path, content: bytes) -> None:
    target.parent.mkdir(parents=True, exist_ok=True)
    target.write_bytes(content)
