"""The command `python -m docs.generate`: writes the reference pages of settings, SQL, commands, errors and types.

They are written from the code, so that they cannot say anything else. Tests fail when a page is not what this module writes.
"""

import ast
import re
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import Any, Final

import psycopg
import typer
from pydantic import BaseModel
from pydantic_core import PydanticUndefined
from typer.core import TyperArgument, TyperGroup, TyperOption

from docs import types
from rosetta_dagster.cdc import errors
from rosetta_dagster.cdc.config import thresholds
from rosetta_dagster.cdc.store.migrate import migrate, read_migrations
from rosetta_dagster.cdc.table_id import TableId
from rosetta_dagster.cli.main import app
from rosetta_dagster.embedded.postgres import EmbeddedPostgres
from rosetta_dagster.settings import Settings

ROOT: Final = Path(__file__).resolve().parents[1]
REFERENCE: Final = ROOT / "docs" / "reference"

_MARK: Final = "<!-- Written by `make docs` from the code. Do not edit. -->\n"

#: In this order; further tables come after them.
_FIRST_TABLES: Final = (
    "sources", "destinations", "pipelines", "pipeline_destinations", "pipeline_tables", "pipeline_metadata",
)  # fmt: skip

_TABLES: Final = """
SELECT relname::text FROM pg_class
WHERE relnamespace = 'public'::regnamespace AND relkind IN ('r', 'p', 'v') AND relname <> 'rosetta_migrations'
ORDER BY array_position(%s::text[], relname::text), relname
"""

_COLUMNS: Final = """
SELECT attname::text, format_type(atttypid, atttypmod), attnotnull, attidentity <> '',
       pg_get_expr(adbin, adrelid), col_description(attrelid, attnum)
FROM pg_attribute LEFT JOIN pg_attrdef ON adrelid = attrelid AND adnum = attnum
WHERE attrelid = %s::regclass AND attnum > 0 AND NOT attisdropped ORDER BY attnum
"""

_CONSTRAINTS: Final = """
SELECT conname::text, pg_get_constraintdef(oid) FROM pg_constraint
WHERE conrelid = %s::regclass AND contype IN ('c', 'u', 'f') ORDER BY contype, conname
"""


def settings_page() -> str:
    """Return the page of environment variables and thresholds."""
    return "\n".join([
        "# Settings", "", _MARK,
        "## Environment variables", "",
        "Of every process of Rosetta; a file `.env` in the current directory does as well.", "",
        *_fields(Settings, str.upper), "",
        "Sources, destinations and code name further variables for their secrets (`password_env`, `private_key_env`).",
        "Commands take passwords from `ROSETTA_PASSWORD` and passphrases from `ROSETTA_PASSPHRASE`.", "",
        "## Thresholds", "",
        "`pipelines.thresholds`, or `Pipeline(thresholds=Thresholds(…))`.", "",
        *_fields(thresholds.Thresholds, str), "",
    ])  # fmt: skip


def commands_page() -> str:
    """Return the page of the command line."""
    command = typer.main.get_command(app)
    lines = ["# Commands", "", _MARK, "A failure is one line with its remedy, and exit code 1.", ""]
    for path, each in _commands(command, "rosetta"):
        lines += [f"## `{path}`", "", (each.help or "").strip(), "", *_parameters(each)]
    return "\n".join(lines)


def errors_page() -> str:
    """Return the page of errors, with what each message says to do."""
    lines = [
        "# Errors", "", _MARK,
        "A message says what is wrong; its remedy says what to do. Both are in `pipeline_metadata.last_error`, in the run,",
        "and in the check `health`. In the messages below, `…` stands for a name or a figure.", "",
    ]  # fmt: skip
    remedies = _remedies()
    for title, parent in (
        ("Transient errors: the run starts again with backoff", errors.TransientError),
        ("Terminal errors: a person has to act", errors.TerminalError),
    ):
        lines += [f"## {title}", ""]
        for kind in parent.__subclasses__():
            lines += [f"### {kind.__name__}", "", (kind.__doc__ or "").strip(), ""]
            if messages := sorted(remedies.get(kind.__name__, ())):
                rows = [f"| {message} | {remedy} |" for message, remedy in messages]
                lines += ["| message | remedy |", "|---|---|", *rows, ""]
    return "\n".join(lines)


def types_page() -> str:
    """Return the page of the types that each destination gives a column."""
    return types.types_page(_MARK)


def sql_page(connection: "psycopg.Connection[Any]") -> str:
    """Return the page of the configuration database's tables, as the migrated database describes them."""
    lines = [
        "# SQL", "", _MARK,
        "The tables of the configuration database. Operators write the first five. Rosetta writes the state columns of",
        "`pipeline_tables`, and `pipeline_progress`. `pipeline_metadata` shows it with the health of now.", "",
    ]  # fmt: skip
    for (table,) in connection.execute(_TABLES, [list(_FIRST_TABLES)]).fetchall():
        lines += [f"## `{table}`", "", "| column | type | default | meaning |", "|---|---|---|---|"]
        for name, type_, required, is_identity, default, comment in connection.execute(_COLUMNS, [table]):
            shown = "generated" if is_identity else f"`{_plain(default)}`" if default else "required" if required else "NULL"
            lines.append(f"| `{name}` | {type_} | {_cell(shown)} | {_cell(comment or '')} |")
        constraints = connection.execute(_CONSTRAINTS, [table]).fetchall()
        lines += ["", *(f"- `{name}`: `{_plain(definition)}`" for name, definition in constraints), ""]
    return "\n".join(lines)


def main() -> None:
    """Write every page."""
    pages = {"settings": settings_page, "cli": commands_page, "errors": errors_page, "types": types_page}
    for name, page in pages.items():
        (REFERENCE / f"{name}.md").write_text(page())
    with EmbeddedPostgres() as server, psycopg.connect(server.create_database("reference"), autocommit=True) as connection:
        migrate(connection, read_migrations())
        (REFERENCE / "sql.md").write_text(sql_page(connection))


def _fields(model: type[BaseModel], shown: Callable[[str], str]) -> Iterator[str]:
    comments = _comments(model)
    yield "| name | default | meaning |"
    yield "|---|---|---|"
    for name, field in model.model_fields.items():
        default = "" if field.default in (None, PydanticUndefined) else f"`{field.default}`"
        yield f"| `{shown(name)}` | {default} | {_cell(field.description or comments.get(name, ''))} |"


def _comments(model: type[BaseModel]) -> dict[str, str]:
    """Read the comments (`#:`) above the fields of a model. One comment may stand above several fields."""
    source = (ROOT / Path(*model.__module__.split("."))).with_suffix(".py").read_text()
    comments: dict[str, str] = {}
    lines: list[str] = []
    has_ended = False
    for line in map(str.strip, source[source.index(f"class {model.__name__}(") :].splitlines()):
        if line.startswith("#: "):
            lines = [*([] if has_ended else lines), line.removeprefix("#: ")]
            has_ended = False
        elif found := re.match(r"(\w+): ", line):
            comments[found[1]] = " ".join(lines)
            has_ended = True
    return comments


def _commands(command: Any, path: str) -> Iterator[tuple[str, Any]]:
    if isinstance(command, TyperGroup):
        for name, each in command.commands.items():
            yield from _commands(each, f"{path} {name}")
    else:
        yield path, command


def _parameters(command: Any) -> Iterator[str]:
    rows = [row for row in map(_parameter, command.params) if row]
    if rows:
        yield from ("| argument | default | meaning |", "|---|---|---|", *rows, "")


def _parameter(parameter: TyperOption | TyperArgument) -> str:
    if isinstance(parameter, TyperOption):
        name = ", ".join(f"`{option}`" for option in (*parameter.opts, *parameter.secondary_opts))
        variable = f" Variable: `{parameter.envvar}`." if parameter.envvar else ""
    else:
        name, variable = f"`{(parameter.name or '').upper()}`", ""
    default = "required" if parameter.required else _default(parameter.default)
    return f"| {name} | {default} | {_cell(parameter.help or '')}{variable} |"


def _default(value: Any) -> str:
    return "" if value in (None, False, [], ()) or callable(value) else f"`{getattr(value, 'value', value)}`"


def _remedies() -> dict[str, set[tuple[str, str]]]:
    """Collect the messages and remedies that the code gives to each kind of error."""
    kinds = {name for name, kind in vars(errors).items() if isinstance(kind, type) and issubclass(kind, errors.RosettaError)}
    found: dict[str, set[tuple[str, str]]] = {}
    for file in sorted((ROOT / "rosetta_dagster").rglob("*.py")):
        for node in ast.walk(ast.parse(file.read_text())):
            if (
                isinstance(node, ast.Call)
                and isinstance(node.func, ast.Name)
                and node.func.id in kinds
                and len(node.args) == 2
            ):
                message, remedy = map(_text, node.args)
                if message.strip("… ") and remedy.strip("… "):
                    found.setdefault(node.func.id, set()).add((_cell(message), _cell(remedy)))
    return found


def _text(node: ast.expr) -> str:
    """Return the text of a literal; what is filled in at run time becomes an ellipsis."""
    if isinstance(node, ast.Constant):
        return str(node.value)
    if isinstance(node, ast.JoinedStr):
        return "".join(_text(value) for value in node.values)
    if isinstance(node, ast.BinOp) and isinstance(node.op, ast.Add):
        return _text(node.left) + _text(node.right)
    if isinstance(node, ast.Call) and isinstance(node.func, ast.Name) and node.func.id == errors.resync_remedy.__name__:
        return errors.resync_remedy("…", TableId("…", "…")).replace("….…", "…")
    return "…"


def _plain(expression: str) -> str:
    """Return an expression without the casts that PostgreSQL adds to it."""
    return re.sub(r"::(character varying|text|jsonb)(\[\])?", "", expression)


def _cell(text: str) -> str:
    return text.replace("|", "\\|").replace("<", "&lt;").replace("\n", " ")


if __name__ == "__main__":
    main()
