"""`rosetta plan`: what the pipelines that code declares would change in the configuration database."""

import importlib
import importlib.util
import sys
from pathlib import Path
from types import ModuleType

import dagster as dg

from rosetta_dagster.cdc.errors import ConfigurationError
from rosetta_dagster.cdc.store.plan import Difference, plan
from rosetta_dagster.orchestration.code_location import LazyDefinitions
from rosetta_dagster.orchestration.declarations import Pipeline, collecting, declarations
from rosetta_dagster.settings import open_store


def planned(target: str, location: str | None) -> list[Difference]:
    """The differences between the code and the rows. The code is loaded, but what it declares is not written."""
    pipelines = declared_pipelines(target)
    with open_store() as store:
        return plan(store, declarations(pipelines), location=location)


def declared_pipelines(target: str) -> list[Pipeline]:
    """The pipelines that a file or a module declares. `ConfigurationError` when it holds no definitions."""
    with collecting() as collected:
        module = _loaded(target)
        factories = [value for value in vars(module).values() if isinstance(value, LazyDefinitions)]
        for factory in factories:
            if factory.has_context_arg:
                raise ConfigurationError(
                    f"The definitions of {target} ask for a context, which there is none of here.",
                    "Let their function take no argument.",
                )
            factory.load_fn()
    if not factories and not any(isinstance(value, dg.Definitions) for value in vars(module).values()):
        raise ConfigurationError(
            f"{target} holds no Dagster definitions.",
            "Name the file or module whose function `dagster.definitions` decorates.",
        )
    return collected


def _loaded(target: str) -> ModuleType:
    path = Path(target)
    sys.path.insert(0, str(path.parent.resolve() if path.suffix == ".py" else Path.cwd()))
    if path.suffix != ".py":
        try:
            return importlib.import_module(target)
        except ModuleNotFoundError as error:
            raise ConfigurationError(f"Module {error.name} cannot be found.", "Start in the project's directory.") from None
    spec = importlib.util.spec_from_file_location(path.stem, path)
    if spec is None or spec.loader is None or not path.exists():
        raise ConfigurationError(f"There is no file {target}.", "Name the file with the definitions.")
    module = importlib.util.module_from_spec(spec)
    spec.loader.exec_module(module)
    return module
