"""The files for containers: what they promise, who gets which secret, and that what they name exists."""

import json
import re
import shutil
import sys
import tomllib
from pathlib import Path
from typing import Any

import pytest
import yaml

ROOT = Path(__file__).parents[2]
COMPOSE: dict[str, Any] = yaml.safe_load((ROOT / "docker-compose.yml").read_text())
SERVICES: dict[str, Any] = COMPOSE["services"]
DOCKERFILE = (ROOT / "Dockerfile").read_text().replace("\\\n", "")


def variables(service: str) -> set[str]:
    return {*SERVICES[service].get("environment", {})}


def test_ports_are_those_that_are_promised_and_open_on_this_machine_only() -> None:
    ports = [port for service in SERVICES.values() for port in service.get("ports", [])]
    assert {"3000:3000", "5433:5432", "5434:5432", "8001:8001"} == {port.removeprefix("127.0.0.1:") for port in ports}
    assert [] == [port for port in ports if not port.startswith("127.0.0.1:")]


@pytest.mark.parametrize("service", ["postgres", "source"])
def test_databases_can_be_sources(service: str) -> None:
    assert "wal_level=logical" in SERVICES[service]["command"]


def test_who_needs_no_secret_gets_none() -> None:
    assert {"code"} == {name for name in SERVICES if "SECRET_KEY" in variables(name)}
    assert {"code", "metrics"} == {name for name in SERVICES if "CONFIG_DATABASE_URL" in variables(name)}
    assert not [name for name in ("code", "webserver", "daemon", "metrics") if "POSTGRES_PASSWORD" in variables(name)]


def test_every_service_can_be_watched_is_limited_and_starts_again() -> None:
    assert {"unless-stopped"} == {service["restart"] for service in SERVICES.values()}
    own = {name: service for name, service in SERVICES.items() if "build" in service}
    assert {"code", "webserver", "daemon", "metrics"} == own.keys()
    assert [] == [name for name, service in own.items() if "mem_limit" not in service or service["cap_drop"] != ["ALL"]]
    assert ["code"] == [name for name, service in SERVICES.items() if "healthcheck" not in service], "it has the image's"


def test_the_ui_shows_what_runs_print() -> None:
    assert {"code", "webserver"} == {
        name for name, each in SERVICES.items() if "logs:/opt/rosetta/storage" in each.get("volumes", [])
    }


def test_commands_name_programs_that_the_image_installs() -> None:
    own = [service["command"] for service in SERVICES.values() if "build" in service]
    for program in {command[0] for command in own}:
        assert shutil.which(program, path=str(Path(sys.executable).parent)), program


def test_the_image_runs_as_nobody_and_passes_a_stop_to_the_runs() -> None:
    instructions = [line.split(maxsplit=1) for line in DOCKERFILE.splitlines() if re.match(r"[A-Z]+ ", line)]
    last = {each[0]: each[1] for each in instructions}
    assert "rosetta" == last["USER"]
    assert ["tini", "-g", "--"] == json.loads(last["ENTRYPOINT"])
    assert json.loads(last["CMD"]) == SERVICES["code"]["command"]
    assert "grpc-health-check" in last["HEALTHCHECK"]
    stages = [rest for name, rest in instructions if name == "FROM"]
    assert 2 == len(stages)
    assert [] == [stage for stage in stages if not re.match(r"python:3\.\d+-slim-\w+", stage)]


def test_what_is_copied_exists_and_reaches_the_build() -> None:
    allowed = {line[1:] for line in (ROOT / ".dockerignore").read_text().splitlines() if line.startswith("!")}
    for line in re.findall(r"^COPY (?!--from)(?:--chown=\w+ )?(.*)$", DOCKERFILE, re.MULTILINE):
        *paths, _ = line.split()
        for path in paths:
            assert (ROOT / path).exists(), path
            assert path.partition("/")[0] in allowed, path


def test_no_secret_of_this_machine_reaches_the_build() -> None:
    lines = (ROOT / ".dockerignore").read_text().splitlines()
    assert "*" == next(line for line in lines if not line.startswith("#"))
    assert "**/.env" in lines[lines.index("!deploy") :]


def test_extras_of_the_image_exist() -> None:
    extras = tomllib.loads((ROOT / "pyproject.toml").read_text())["project"]["optional-dependencies"]
    (named,) = re.findall(r"'\.\[([\w,]+)\]'", DOCKERFILE)
    assert {*named.split(",")} <= extras.keys()
