"""Statements about the session and the account, which fakesnow 0.12.1 refuses or answers with fixed values."""

import re
from collections.abc import Callable

from rosetta_dagster.embedded.snowflake.emulator import results, shows, stage_files
from rosetta_dagster.embedded.snowflake.emulator.errors import exists, missing, unusable
from rosetta_dagster.embedded.snowflake.emulator.results import Result, success
from rosetta_dagster.embedded.snowflake.emulator.session import Session

_Answer = Callable[[Session, "re.Match[str]"], Result]

_NAME = r'(?P<name>"(?:[^"]|"")+"|[\w$]+)'
_SHOW_OBJECTS = r"SHOW (?:TERSE )?(?P<kind>TABLES|VIEWS) IN SCHEMA <name>(?: STARTS WITH '(?P<start>(?:[^']|'')*)')?$"
_SETTING = re.compile(r"(\w+)\s*=\s*('(?:[^']|'')*'|[^\s,;]+)")


def answered(session: Session, text: str) -> Result | None:
    """Run a statement about the session or the account; None for any other statement."""
    for pattern, answer in _ANSWERS:
        if match := pattern.match(text.strip().rstrip(";")):
            return answer(session, match)
    return None


def identifier(text: str) -> str:
    """Return the name: as written if quoted, else in capitals."""
    return text[1:-1] if text.startswith('"') else text.upper()


def _use(session: Session, match: "re.Match[str]") -> Result:
    name, kind = identifier(match["name"]), match["kind"].upper()
    if name not in (session.account.roles if kind == "ROLE" else session.account.warehouses):
        raise unusable()
    setattr(session, kind.lower(), name)
    return success()


def _set(session: Session, match: "re.Match[str]") -> Result:
    for name, value in _SETTING.findall(match["settings"]):
        plain = value[1:-1].replace("''", "'") if value.startswith("'") else value
        _parameters(session, match)[name.upper()] = plain
    return success()


def _unset(session: Session, match: "re.Match[str]") -> Result:
    for name in match["names"].split(","):
        _parameters(session, match).pop(name.strip().upper(), None)
    return success()


def _parameters(session: Session, match: "re.Match[str]") -> dict[str, str]:
    return session.parameters if match["level"].upper() == "SESSION" else session.account.parameters


def _show_parameters(session: Session, match: "re.Match[str]") -> Result:
    pattern = _like(match["like"])
    rows = [[name, value, "", "SESSION", "", "STRING"] for name, value in sorted(session.parameters.items())]
    columns = ["key", "value", "default", "level", "description", "type"]
    return results.texts(columns, [row for row in rows if pattern.fullmatch(row[0])])


def _show_warehouses(session: Session, match: "re.Match[str]") -> Result:
    pattern = _like(match["like"])
    names = sorted(name for name in session.account.warehouses if pattern.fullmatch(name))
    states = {True: "STARTED", False: "SUSPENDED"}
    rows = [[name, states[session.account.warehouses[name]], "STANDARD", "X-Small"] for name in names]
    return results.texts(["name", "state", "type", "size"], rows)


def _create(session: Session, match: "re.Match[str]") -> Result:
    name, kind = identifier(match["name"]), match["kind"].upper()
    if kind == "ROLE":
        session.account.roles.add(name)
    else:
        session.account.warehouses[name] = True
    return results.texts(["status"], [[f"{kind.capitalize()} {name} successfully created."]])


def _alter_warehouse(session: Session, match: "re.Match[str]") -> Result:
    name = identifier(match["name"])
    if name not in session.account.warehouses:
        raise unusable()
    session.account.warehouses[name] = match["action"].upper() == "RESUME"
    return success()


def _create_database(session: Session, match: "re.Match[str]") -> Result:
    name, storage = identifier(match["name"]), session.account.storage
    if name in storage.databases():
        if match["exists"] is None:
            raise exists(name)
        return results.texts(["status"], [[f"{name} already exists, statement succeeded."]])
    session.transaction.commit(aborts_on_error=True)
    storage.create_database(name)
    session.use_schema(name, "PUBLIC")
    return results.texts(["status"], [[f"Database {name} successfully created."]])


def _drop_database(session: Session, match: "re.Match[str]") -> Result:
    name, storage, connection = identifier(match["name"]), session.account.storage, session.connection
    if name not in storage.databases():
        if match["exists"] is None:
            raise missing("Database", name)
        return results.texts(["status"], [["Drop statement executed successfully."]])
    session.transaction.commit(aborts_on_error=True)
    if connection.database == name:
        session.use_no_schema()
    storage.drop_database(name)
    return results.texts(["status"], [[f"{name} successfully dropped."]])


def _describe_user(session: Session, match: "re.Match[str]") -> Result:
    name = identifier(match["name"])
    fingerprints = session.account.authentication.fingerprints(name)
    if fingerprints is None:
        raise unusable()
    padded = [*fingerprints, "null", "null"][:2]
    rows = [["NAME", name, "null", "Name"], ["RSA_PUBLIC_KEY_FP", padded[0], "null", "Fingerprint of the public key."],
            ["RSA_PUBLIC_KEY_2_FP", padded[1], "null", "Fingerprint of the second public key."]]  # fmt: skip
    return results.texts(["property", "value", "default", "description"], rows)


def _revoke_create_schema(session: Session, match: "re.Match[str]") -> Result:
    session.account.without_create_schema.add((identifier(match["role"]), identifier(match["name"])))
    return success()


def _granted(_session: Session, _match: "re.Match[str]") -> Result:
    return success()


def _list(session: Session, match: "re.Match[str]") -> Result:
    files = stage_files.staged(match["stage"], session.connection)
    return results.texts(["name", "size", "md5", "last_modified"], [stage_files.shown(file) for file in files])


def _remove(session: Session, match: "re.Match[str]") -> Result:
    files = stage_files.staged(match["stage"], session.connection)
    rows: list[list[str | None]] = [[stage_files.shown(file)[0], "removed"] for file in files]
    for file in files:
        file.unlink()
    return results.texts(["name", "result"], rows)


def _like(pattern: str | None) -> "re.Pattern[str]":
    parts = {"%": ".*", "_": "."}
    text = ".*" if pattern is None else "".join(parts.get(mark, re.escape(mark)) for mark in pattern)
    return re.compile(text, re.IGNORECASE)


def _statement(pattern: str) -> "re.Pattern[str]":
    return re.compile(pattern.replace(" ", r"\s+").replace("<name>", _NAME), re.IGNORECASE | re.DOTALL)


_ANSWERS: tuple[tuple["re.Pattern[str]", _Answer], ...] = (
    (_statement(r"USE (?P<kind>ROLE|WAREHOUSE) <name>$"), _use),
    (_statement(r"ALTER (?P<level>SESSION|ACCOUNT) SET (?P<settings>.+)$"), _set),
    (_statement(r"ALTER (?P<level>SESSION|ACCOUNT) UNSET (?P<names>.+)$"), _unset),
    (_statement(r"SHOW PARAMETERS(?: LIKE '(?P<like>[^']*)')?(?: (?:IN|FOR) SESSION)?$"), _show_parameters),
    (_statement(r"SHOW WAREHOUSES(?: LIKE '(?P<like>[^']*)')?$"), _show_warehouses),
    (_statement(r"SHOW TERSE SCHEMAS(?: STARTS WITH '(?P<start>(?:[^']|'')*)')?$"), shows.show_schemas),
    (_statement(_SHOW_OBJECTS), shows.show_objects),
    (_statement(r"CREATE (?:OR REPLACE )?(?P<kind>ROLE|WAREHOUSE) (?:IF NOT EXISTS )?<name>.*$"), _create),
    (_statement(r"ALTER WAREHOUSE (?:IF EXISTS )?<name> (?P<action>RESUME|SUSPEND)(?: IF SUSPENDED)?$"), _alter_warehouse),
    (_statement(r"CREATE (?:TRANSIENT )?DATABASE (?P<exists>IF NOT EXISTS )?<name>(?: .*)?$"), _create_database),
    (_statement(r"DROP DATABASE (?P<exists>IF EXISTS )?<name>$"), _drop_database),
    (_statement(r"DESC(?:RIBE)? USER <name>$"), _describe_user),
    (_statement(r"REVOKE CREATE SCHEMA ON DATABASE <name> FROM ROLE (?P<role>\w+)$"), _revoke_create_schema),
    (_statement(r"(?:GRANT|REVOKE) .+$"), _granted),
    (_statement(r"(?:LIST|LS) (?P<stage>'?@\S+)$"), _list),
    (_statement(r"(?:REMOVE|RM) (?P<stage>'?@\S+)$"), _remove),
)
