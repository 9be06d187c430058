"""The dashboard and the rules of `deploy/` can be loaded, and ask for nothing that the exporter does not have."""

import json
import re
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import pytest
import yaml

from rosetta_dagster.cdc.store.measurements import Measurements, PipelineMeasurement, TableMeasurement
from rosetta_dagster.metrics.families import families

DEPLOY = Path(__file__).parents[2] / "deploy"
DASHBOARD: dict[str, Any] = json.loads((DEPLOY / "grafana" / "rosetta.json").read_text())
RULES: list[dict[str, Any]] = yaml.safe_load((DEPLOY / "prometheus" / "rosetta.rules.yml").read_text())["groups"][0]["rules"]

PIPELINE = PipelineMeasurement(
    pipeline="shop", source="db", engine="PGOUTPUT", wanted_status="START", run_status="STREAMING", health="HEALTHY",
    heartbeat_age=1.0, success_age=1.0, lag_seconds=0.1, lag_bytes=1, retained_bytes=1, safe_bytes=1, growth=1.0,
    slot_reading_age=1.0, batch_count=1, wait_seconds=1.0, apply_seconds=1.0, failed_runs=0, failed_attempts=0,
)  # fmt: skip
TABLE = TableMeasurement(
    pipeline="shop", namespace="public", name="orders", state="STREAMING", copied=1, inserted=1, updated=1,
    deleted=1, truncated=0,
)  # fmt: skip


def exported() -> dict[str, set[str]]:
    """The labels of every sample that the exporter has, by name."""
    found = Measurements(pipelines=(PIPELINE,), tables=(TABLE,))
    names: dict[str, set[str]] = {"rosetta_config_database_up": set()}
    for family in families(found):
        for sample in family.samples:
            names.setdefault(sample.name, set()).update(sample.labels)
    return names


def queries() -> Iterator[str]:
    for rule in RULES:
        yield rule["expr"]
    for variable in DASHBOARD["templating"]["list"]:
        yield variable["query"]
    for panel in DASHBOARD["panels"]:
        for target in panel["targets"]:
            yield target["expr"]


def test_every_metric_has_a_sample_when_its_figure_is_known() -> None:
    families_without = [
        family.name for family in families(Measurements(pipelines=(PIPELINE,), tables=(TABLE,))) if not family.samples
    ]
    assert [] == families_without


@pytest.mark.parametrize("query", [*queries()])
def test_a_query_names_metrics_and_labels_that_exist(query: str) -> None:
    has = exported()
    named = re.findall(r"\brosetta_\w+", query)
    assert named or query == "prometheus"
    assert [] == [name for name in named if name not in has]
    for name, selectors in re.findall(r"\b(rosetta_\w+)\{([^}]*)\}", query):
        labels = set(re.findall(r"(\w+)\s*=~?", selectors))
        assert labels <= has[name], name
    assert query.count("(") == query.count(")")


@pytest.mark.parametrize("rule", RULES, ids=lambda rule: str(rule["alert"]))
def test_a_rule_says_what_is_wrong_and_what_to_do(rule: dict[str, Any]) -> None:
    assert rule["labels"]["severity"] in {"warning", "critical"}
    assert {"summary", "action"} == rule["annotations"].keys()
    labels = set().union(*(exported()[name] for name in re.findall(r"\brosetta_\w+", rule["expr"])))
    for text in rule["annotations"].values():
        assert set(re.findall(r"\$labels\.(\w+)", text)) <= labels


def test_rules_and_panels_have_names_of_their_own_and_every_metric_is_used() -> None:
    alerts = [rule["alert"] for rule in RULES]
    panels = [panel["id"] for panel in DASHBOARD["panels"]]
    assert sorted(set(alerts)) == sorted(alerts)
    assert sorted(set(panels)) == sorted(panels)
    shown = " ".join(queries())
    assert {"rosetta_tables", "rosetta_slot_growth_bytes_per_second"} == {
        name for name in exported() if f"{name}" not in re.findall(r"\w+", shown)
    }
