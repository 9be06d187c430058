"""The part `face`: what many pipelines cost Dagster. Thirty of twenty tables each, as rows of a configuration database.

- load: a new process builds the definitions; native is the same number of plain assets without Rosetta.
- tick: one evaluation of the control sensor, with no pipeline to start.
- reload: a webserver reloads the code location, until it answers.
"""

import json
import os
import subprocess
import sys
import tempfile
import time
import urllib.error
import urllib.request
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path
from textwrap import dedent
from typing import Any

import psycopg

from bench.field import Scale
from bench.results import Measurement, PartResult
from bench.servers import Servers
from rosetta_dagster.embedded.postgres import free_port

_PIPELINES = 30
_TABLES = 20

_ROWS = """
INSERT INTO sources (name, pg_host, pg_database, pg_username) VALUES ('shop', 'localhost', 'shop', 'rosetta');
INSERT INTO destinations (name, type, config)
    VALUES ('warehouse', 'POSTGRES', '{"host": "localhost", "database": "warehouse", "username": "rosetta"}');
INSERT INTO pipelines (name, source_id, status)
    SELECT 'shop_' || n, (SELECT id FROM sources), 'PAUSE' FROM generate_series(1, %(pipelines)s) AS n;
INSERT INTO pipeline_destinations (pipeline_id, destination_id)
    SELECT id, (SELECT id FROM destinations) FROM pipelines;
INSERT INTO pipeline_tables (pipeline_id, table_schema, table_name)
    SELECT id, name, 'table_' || n FROM pipelines, generate_series(1, %(tables)s) AS n
"""

_LOAD = """
    import time
    import dagster as dg
    from rosetta_dagster.orchestration import rosetta_definitions
    began = time.perf_counter()
    definitions = rosetta_definitions()
    definitions.get_repository_def().asset_graph
    print(time.perf_counter() - began)
"""

#: A source's and a destination's asset for each table, and a stream for each pipeline.
_PLAIN = f"""
    import time
    import dagster as dg
    began = time.perf_counter()
    specs = [dg.AssetSpec(f"asset_{{n}}") for n in range({_PIPELINES * (2 * _TABLES + 1)})]
    definitions = dg.Definitions(assets=specs)
    definitions.get_repository_def().asset_graph
    print(time.perf_counter() - began)
"""

_TICK = """
    import time
    import dagster as dg
    from rosetta_dagster.orchestration import rosetta_definitions
    definitions = rosetta_definitions()
    sensor = definitions.resolve_sensor_def("rosetta_control_sensor")
    repository = definitions.get_repository_def()
    for _ in range(2):
        with dg.instance_for_test() as instance, dg.build_sensor_context(instance, repository_def=repository) as context:
            began = time.perf_counter()
            sensor.evaluate_tick(context)
            seconds = time.perf_counter() - began
    print(seconds)
"""

_RELOAD = """
    mutation { reloadRepositoryLocation(repositoryLocationName: "rosetta") {
        ... on WorkspaceLocationEntry { loadStatus locationOrLoadError { __typename } } } }
"""

_DEFINITIONS = """
    from rosetta_dagster.orchestration import rosetta_definitions
    defs = rosetta_definitions()
"""

_START_TIMEOUT = 120


def face(servers: Servers, scale: Scale) -> PartResult:
    """Return the seconds of each; native is Dagster alone."""
    result = PartResult(part=f"Dagster with {_PIPELINES} pipelines of {_TABLES} tables")
    url = servers.destination.create_database("face")
    environment = {**os.environ, "CONFIG_DATABASE_URL": url, "SECRET_KEY": "a key of the benchmark"}
    _print_of("from rosetta_dagster.settings import open_store; open_store().close()", environment)
    with psycopg.connect(url, autocommit=True, cursor_factory=psycopg.ClientCursor) as connection:
        connection.execute(_ROWS, {"pipelines": _PIPELINES, "tables": _TABLES})
    with _webserver(environment) as reload_url:
        for _ in range(scale.repetitions):
            measured = {
                "native": _seconds(_PLAIN, environment),
                "load": _seconds(_LOAD, environment),
                "tick": _seconds(_TICK, environment),
                "reload": _reload(reload_url),
            }
            result.measurements.extend(Measurement(contender=name, seconds=took) for name, took in measured.items())
    return result


def _seconds(code: str, environment: dict[str, str]) -> float:
    return float(_print_of(code, environment).split()[-1])


def _print_of(code: str, environment: dict[str, str]) -> str:
    run = subprocess.run(
        [sys.executable, "-c", dedent(code)], env=environment, capture_output=True, text=True, check=False, timeout=300
    )
    if run.returncode:
        raise RuntimeError(run.stderr[-2000:])
    return run.stdout


@contextmanager
def _webserver(environment: dict[str, str]) -> Iterator[str]:
    """Yield the URL of a webserver that has loaded the pipelines. Its process ends with the block."""
    with tempfile.TemporaryDirectory() as home:
        (Path(home) / "definitions.py").write_text(dedent(_DEFINITIONS))
        workspace = "load_from: [{python_file: {relative_path: definitions.py, location_name: rosetta}}]\n"
        (Path(home) / "workspace.yaml").write_text(workspace)
        port = free_port()
        process = subprocess.Popen(
            [sys.executable, "-m", "dagster_webserver", "-h", "127.0.0.1", "-p", str(port), "-w", f"{home}/workspace.yaml"],
            env={**environment, "DAGSTER_HOME": home},
            stdout=subprocess.DEVNULL,
            stderr=subprocess.DEVNULL,
        )
        try:
            yield _answering(f"http://127.0.0.1:{port}/graphql")
        finally:
            process.terminate()
            process.wait(30)


def _answering(url: str) -> str:
    deadline = time.monotonic() + _START_TIMEOUT
    while time.monotonic() < deadline:
        try:
            _ask(url, "{ version }")
        except (urllib.error.URLError, ConnectionError):
            time.sleep(0.2)
        else:
            return url
    raise RuntimeError("the webserver did not start")


def _reload(url: str) -> float:
    began = time.perf_counter()
    entry = _ask(url, _RELOAD)["data"]["reloadRepositoryLocation"]
    if entry.get("locationOrLoadError", {}).get("__typename") != "RepositoryLocation":
        raise RuntimeError("the code location did not load")
    return time.perf_counter() - began


def _ask(url: str, query: str) -> Any:
    request = urllib.request.Request(  # noqa: S310 - our own webserver
        url, data=json.dumps({"query": query}).encode(), headers={"Content-Type": "application/json"}
    )
    with urllib.request.urlopen(request, timeout=_START_TIMEOUT) as answer:  # noqa: S310 - see above
        return json.load(answer)
