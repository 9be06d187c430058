"""`rosetta plan`: shows what the pipelines declared in code would change in the configuration database."""

import importlib
import importlib.util
import sys
import traceback
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path
from types import ModuleType

import dagster as dg
from pydantic import BaseModel, ValidationError

from rosetta_dagster.cdc.config.wording import problems
from rosetta_dagster.cdc.errors import ConfigurationError, RosettaError
from rosetta_dagster.cdc.store.plan import Difference, plan
from rosetta_dagster.orchestration.code_location import LazyDefinitions
from rosetta_dagster.orchestration.declarations import Pipeline, collecting, declarations
from rosetta_dagster.settings import open_store


def planned(target: str, location: str | None) -> list[Difference]:
    """Return the differences between the code and the rows. The code is loaded, but nothing is written."""
    pipelines = declared_pipelines(target)
    with open_store() as store:
        return plan(store, declarations(pipelines), location=location)


def declared_pipelines(target: str) -> list[Pipeline]:
    """Return the pipelines that a file or a module declares. `ConfigurationError` when it holds no definitions."""
    with collecting() as collected, _loading(target):
        module = _loaded(target)
        factories = [value for value in vars(module).values() if isinstance(value, LazyDefinitions)]
        for factory in factories:
            if factory.has_context_arg:
                raise ConfigurationError(
                    f"The definitions of {target} ask for a context, which does not exist here.",
                    "Let their function take no argument.",
                )
            factory.load_fn()
    if not factories and not any(isinstance(value, dg.Definitions) for value in vars(module).values()):
        raise ConfigurationError(
            f"{target} holds no Dagster definitions.",
            "Name the file or module whose function `dagster.definitions` decorates.",
        )
    return collected


@contextmanager
def _loading(target: str) -> Iterator[None]:
    """Turn what goes wrong in the user's code into one sentence with the line; DEBUG=true shows the whole trace."""
    try:
        yield
    except RosettaError:
        raise
    except Exception as error:
        raise ConfigurationError(f"{target} cannot be loaded: {_cause(error)}.", "Correct the code.") from error


def _cause(error: Exception) -> str:
    """Return what went wrong and where. A text that the code itself made may hold a secret, and is left out."""
    if isinstance(error, SyntaxError):
        return f"{type(error).__name__} at {Path(error.filename or '').name}:{error.lineno}: {error.msg}"
    frames = [frame for frame in traceback.extract_tb(error.__traceback__) if not _is_of_a_library(frame.filename)]
    place = f" at {Path(frames[-1].filename).name}:{frames[-1].lineno}" if frames else ""
    if isinstance(error, ValidationError):
        return f"{type(error).__name__}{place}: {problems(error, BaseModel)}"
    is_specific = isinstance(error, ImportError | NameError | AttributeError | TypeError)
    return f"{type(error).__name__}{place}{f': {error}' if is_specific else ''}".rstrip(".")


def _is_of_a_library(filename: str) -> bool:
    return (
        filename.startswith("<frozen") or "site-packages" in filename or Path(__file__).parents[1] in Path(filename).parents
    )


def _loaded(target: str) -> ModuleType:
    path = Path(target)
    sys.path.insert(0, str(path.parent.resolve() if path.suffix == ".py" else Path.cwd()))
    if path.suffix != ".py":
        return importlib.import_module(target)
    spec = importlib.util.spec_from_file_location(path.stem, path)
    if spec is None or spec.loader is None or not path.exists():
        raise ConfigurationError(f"There is no file {target}.", "Name the file with the definitions.")
    module = importlib.util.module_from_spec(spec)
    spec.loader.exec_module(module)
    return module
