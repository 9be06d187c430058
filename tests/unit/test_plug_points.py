"""What is plugged in at one place is not forgotten at the others: checks are evaluated, destinations keep the contract."""

import re
import tomllib
from pathlib import Path

import dagster as dg

from rosetta_dagster.cdc.destination.registry import kinds
from rosetta_dagster.cdc.operate.health import Observation
from rosetta_dagster.orchestration.checks import ROW_CHECKS, STREAM_CHECKS, check_specs, evaluations
from rosetta_dagster.orchestration.table_checks import TABLE_CHECKS, table_check_specs
from tests.support.destinations import KINDS
from tests.support.rows import state_of

ROOT = Path(__file__).parents[2]
STREAM = dg.AssetKey(["rosetta", "shop"])


def test_every_check_of_the_stream_is_evaluated_and_no_other_one() -> None:
    observation = Observation(state=state_of(), slot_name="rosetta_shop", slot=None, error=None)
    assert [*STREAM_CHECKS] == [each.check_name for each in evaluations(STREAM, observation)]


def test_every_check_is_in_the_definitions_once() -> None:
    names = [*STREAM_CHECKS, *ROW_CHECKS, *TABLE_CHECKS]
    assert len({*names}) == len(names)
    specs = [*check_specs(STREAM), *table_check_specs(dg.AssetKey(["warehouse", "public", "orders"]))]
    assert names == [spec.name for spec in specs]


def test_every_kind_of_destination_has_to_keep_the_contract() -> None:
    assert {kind.type.lower() for kind in kinds()} <= KINDS.keys(), "add it to tests/support/destinations.py"


def test_the_driver_of_a_kind_is_an_extra_is_pinned_and_is_kept_from_dagster() -> None:
    project = tomllib.loads((ROOT / "pyproject.toml").read_text())
    contracts = {each["name"]: each for each in project["tool"]["importlinter"]["contracts"]}
    forbidden = contracts["The Dagster face does not know drivers"]["forbidden_modules"]
    pinned = {line.partition("==")[0] for line in (ROOT / "constraints.txt").read_text().splitlines()}
    for kind in kinds():
        assert kind.factory.rpartition(".")[0] in forbidden
        drivers = project["project"]["optional-dependencies"][kind.extra] if kind.extra else ["psycopg"]
        assert {re.split(r"[\[<>=]", driver)[0] for driver in drivers} <= pinned
