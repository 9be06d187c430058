"""`rosetta export` and `rosetta apply`: the rows of the configuration database as YAML, for review and version control."""

from collections.abc import Sequence
from pathlib import Path
from typing import Annotated, Any

import typer
import yaml

from rosetta_dagster.cdc.errors import ConfigurationError
from rosetta_dagster.cdc.store.document import apply_document, declared_by, exported
from rosetta_dagster.cdc.store.plan import Difference, changes, declare
from rosetta_dagster.cli.output import Json, print_json, to_json
from rosetta_dagster.settings import open_store

#: How the names of files end that hold YAML.
YAML = (".yaml", ".yml")


def export(*, as_json: Annotated[bool, typer.Option("--json", help="Print JSON instead of YAML.")] = False) -> None:
    """Print sources, destinations and pipelines as YAML. Secrets are named, their values are not printed."""
    with open_store() as store:
        document = exported(store)
    if as_json:
        print_json(document)
    else:
        typer.echo(yaml.safe_dump(document, sort_keys=False, allow_unicode=True), nl=False)


def apply(
    file: Annotated[Path, typer.Argument(help="A file as `rosetta export` prints it, or one with definitions.")],
    *,
    as_json: Json = False,
) -> None:
    """Bring the rows in line with a file. What it does not name stays, and so does the status of a pipeline that exists.

    `rosetta plan FILE` shows the changes before. Secrets come from the variables that the file names, else they stay.
    """
    if file.suffix in YAML:
        document = read_document(file)
        with open_store() as store:
            applied = apply_document(store, document)
    else:
        applied = _applied_code(str(file))
    print_differences(applied, "Nothing was changed: the rows are as the file says.", as_json=as_json)


def _applied_code(target: str) -> list[Difference]:
    """Bring the rows in line with what a file or a module of Python declares. Return what was changed."""
    from rosetta_dagster.cli.plan import declared_pipelines
    from rosetta_dagster.orchestration.declarations import declarations

    wanted = declarations(declared_pipelines(target))
    with open_store() as store:
        return declare(store, wanted)


def planned_by(file: Path) -> list[Difference]:
    """Return what `rosetta apply` would change."""
    document = read_document(file)
    with open_store() as store:
        return changes(store, declared_by(store, document))


def print_differences(differences: Sequence[Difference], none: str, *, as_json: bool) -> None:
    """Print what differs; the text `none` when nothing does."""
    if as_json:
        print_json([to_json(difference) for difference in differences])
    else:
        typer.echo("\n".join(map(str, differences)) or none)


def read_document(file: Path) -> Any:
    """Return what the file holds. `ConfigurationError` names the line that is no YAML."""
    try:
        return yaml.safe_load(file.read_text())
    except OSError as error:
        raise ConfigurationError(f"{file} cannot be read: {error.strerror}.", "Correct the path.") from None
    except (yaml.YAMLError, UnicodeDecodeError) as error:
        mark = getattr(error, "problem_mark", None)
        place = f" in line {mark.line + 1}" if mark is not None else ""
        raise ConfigurationError(f"{file} is not YAML{place}.", "Correct the file.") from None
