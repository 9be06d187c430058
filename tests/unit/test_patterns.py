"""Which tables a pattern stands for, and which rows patterns give a pipeline."""

from typing import Any

import pytest

from rosetta_dagster.cdc.config.discovery import limited, rows_of
from rosetta_dagster.cdc.config.patterns import is_pattern, matches, refuse_bad_pattern
from rosetta_dagster.cdc.config.pipeline import (
    PipelineConfig,
    PipelineOptions,
    PostgresConnection,
    SourceConfig,
    TableConfig,
    checked,
)
from rosetta_dagster.cdc.errors import ConfigurationError
from rosetta_dagster.cdc.source.discovery import Relation, obstacle
from rosetta_dagster.cdc.table_id import TableId
from rosetta_dagster.orchestration import Table


def table(text: str) -> TableId:
    return TableId.parse(text)


def config_of(*tables: TableConfig, patterns: tuple[TableConfig, ...], **options: Any) -> PipelineConfig:
    place = PostgresConnection(host="h", database="d", username="u")
    source = SourceConfig(name="db", connection=place)
    return PipelineConfig(id=1, name="shop", source=source, destinations=(), tables=tables, patterns=patterns, **options)


def pattern(text: str, **options: Any) -> TableConfig:
    return TableConfig(id=table(text), **options)


@pytest.mark.parametrize(
    ("text", "matching", "others"),
    [
        (
            "shop.*",
            ["shop.orders", "shop.Orders", 'shop.odd "name', "shop.with.dot", "shop.line\nbreak"],
            ["shop_eu.orders"],
        ),
        ("billing.invoice_*", ["billing.invoice_", "billing.invoice_2024"], ["billing.invoices", "billing.invoiceX"]),
        ("shop.part_????", ["shop.part_2024"], ["shop.part_24", "shop.part_20245"]),
        ("*", ["public.orders"], ["shop.orders"]),
        ("*.*", ["public.orders", "shop.orders"], []),
        ("tenant_?.Orders", ["tenant_1.Orders"], ["tenant_1.orders", "tenantX1.Orders", "tenant_10.Orders"]),
        ("shop.a+b$*", ["shop.a+b$c"], ["shop.aab$c"]),
    ],
)
def test_a_pattern_stands_for_these_tables(text: str, matching: list[str], others: list[str]) -> None:
    assert is_pattern(table(text))
    assert [True] * len(matching) == [matches(table(text), table(each)) for each in matching]
    assert [False] * len(others) == [matches(table(text), table(each)) for each in others]


@pytest.mark.parametrize("text", ["shop.%*", "shop.*[0-9]", r"shop\..*", 'shop."A*"', ".*", "*.", "(a|b).*"])
def test_what_is_meant_in_another_language_is_refused(text: str) -> None:
    with pytest.raises(ConfigurationError, match="not valid: it has"):
        refuse_bad_pattern(table(text))
    with pytest.raises(ConfigurationError, match="not valid"):
        Table(text)
    with pytest.raises(ConfigurationError, match="exclude_tables"):
        checked(PipelineOptions, {"exclude_tables": [text]}, "Pipeline shop")


def test_named_tables_come_first_and_the_pattern_that_says_the_most_decides() -> None:
    config = config_of(
        TableConfig(id=table("shop.orders"), comments=False),
        patterns=(pattern("shop.*"), pattern("shop.log_*", comments=False, target_name="{schema}_{table}")),
        exclude_tables=("shop.tmp_*", "shop.secret"),
    )
    names = ["shop.orders", "shop.items", "shop.log_1", "shop.tmp_1", "shop.secret", "other.items"]
    found = rows_of(config, map(table, names))
    assert ["shop.items", "shop.log_1"] == [str(each) for each in found]
    assert [(None, True), ("shop_log_1", False)] == [(each.target_name, each.comments) for each in found.values()]
    assert (
        '{"comments": false, "id": ["shop", "log_*"], "target_name": "{schema}_{table}"}'
        == found[table("shop.log_1")].by_pattern
    )


def test_a_table_that_is_gone_keeps_its_row_until_no_pattern_stands_for_it() -> None:
    found = TableConfig(id=table("shop.dropped"), by_pattern="{}")
    assert [found.id] == list(rows_of(config_of(found, patterns=(pattern("shop.*"),)), []))
    assert {} == rows_of(config_of(found, patterns=(pattern("other.*"),)), [found.id])


def test_no_more_than_the_limit_are_added_and_those_that_are_replicated_stay() -> None:
    kept = TableConfig(id=table("shop.z"), by_pattern="{}")
    config = config_of(TableConfig(id=table("public.named")), kept, patterns=(pattern("shop.*"),), max_tables=4)
    rows = rows_of(config, [table(f"shop.{name}") for name in "abcdz"])
    found = limited(config, rows, {table("shop.a"): "It is UNLOGGED."}, silent={table("shop.b")})
    assert ["shop.c", "shop.d", "shop.z"] == [str(each.id) for each in found.tables]
    assert {table("shop.a"): "It is UNLOGGED."} == found.skipped
    fewer = limited(config.model_copy(update={"max_tables": 2}), rows, {}, silent=())
    assert ["shop.z"] == [str(each.id) for each in fewer.tables]
    assert 4 == len(fewer.skipped)
    assert "--max-tables" in fewer.skipped[table("shop.a")]
    assert (
        "63 characters"
        in limited(config, {table("shop.a"): pattern("shop.a", target_name="x" * 64)}, {}, silent=()).skipped[
            table("shop.a")
        ]
    )


@pytest.mark.parametrize(
    ("name", "relation", "reason"),
    [
        ("rosetta.streams", Relation("r", "p", None), "own state"),
        ("shop.far", Relation("f", "p", None), "foreign"),
        ("shop.quick", Relation("r", "u", None), 'ALTER TABLE "shop"."quick" SET LOGGED'),
        ("shop.part", Relation("r", "p", TableId("other", "whole")), "partition of other.whole"),
        ("shop.leaf", Relation("r", "p", TableId("shop", "whole")), None),
        ("shop.orders", Relation("r", "p", None), None),
    ],
)
def test_what_would_surprise_is_skipped(name: str, relation: Relation, reason: str | None) -> None:
    found = obstacle(table(name), relation, covered={TableId("shop", "whole")})
    assert (found is None) if reason is None else (reason in (found or ""))
