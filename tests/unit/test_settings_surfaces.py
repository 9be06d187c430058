"""Each setting is declared once: every surface has it, with its default and its help, and misspelt ones are refused."""

from typing import Any

import dagster as dg
import pytest
from pydantic import BaseModel, ValidationError

from rosetta_dagster.cdc.config.pipeline import PipelineOptions, SourceSettings, TableOptions, checked
from rosetta_dagster.cdc.config.surfaces import public_fields, secret_names
from rosetta_dagster.cdc.config.thresholds import Thresholds
from rosetta_dagster.cdc.destination.registry import kinds
from rosetta_dagster.cdc.errors import ConfigurationError
from rosetta_dagster.cdc.store import queries
from rosetta_dagster.cdc.store.columns import columns
from rosetta_dagster.cdc.store.migrate import read_migrations
from rosetta_dagster.orchestration import (
    Pipeline,
    PostgresDestination,
    PostgresSource,
    RosettaPipelineComponent,
    SnowflakeDestination,
    Table,
)
from rosetta_dagster.orchestration.requests import (
    CreatePipeline,
    CreateSource,
    PipelineTable,
    PipelineThresholds,
    create_destination_request,
)

SOURCE = {"name": "db", "host": "h", "database": "d", "username": "u"}
ACCOUNT = {"name": "sf", "account": "myorg-dw", "user": "u", "database": "D", "private_key_path": "/key.p8"}

PIPELINE_SURFACES: list[type[BaseModel]] = [Pipeline, RosettaPipelineComponent, CreatePipeline]


@pytest.mark.parametrize("name", PipelineOptions.model_fields)
@pytest.mark.parametrize("surface", PIPELINE_SURFACES, ids=lambda surface: surface.__name__)
def test_an_option_of_a_pipeline_is_the_same_everywhere(surface: type[BaseModel], name: str) -> None:
    declared, shown = PipelineOptions.model_fields[name], surface.model_fields[name]
    # Dagster has lists, and no tuples.
    default = list(declared.default) if isinstance(shown.default, list) else declared.default
    assert (default, declared.description) == (shown.default, shown.description)


@pytest.mark.parametrize("name", [*PipelineOptions.model_fields, *TableOptions.model_fields])
def test_an_option_has_a_column_in_a_migration_and_is_written_and_read(name: str) -> None:
    statements = [queries.PUT_PIPELINE, queries.PUT_PIPELINE_TABLE, queries.PIPELINE, queries.PIPELINE_TABLES]
    column = {**columns(PipelineOptions), **columns(TableOptions)}[name]
    assert 2 == sum(f'"{column}"' in statement.as_string() for statement in statements)
    assert any(f" {column} " in migration.text for migration in read_migrations())


@pytest.mark.parametrize("name", TableOptions.model_fields)
def test_an_option_of_a_table_is_the_same_everywhere(name: str) -> None:
    assert TableOptions.model_fields[name].default == Table.model_fields[name].default
    assert TableOptions().model_dump(mode="json")[name] == PipelineTable.model_fields[name].default
    assert TableOptions.model_fields[name].description == PipelineTable.model_fields[name].description


def test_settings_of_sources_destinations_and_thresholds_are_in_the_requests() -> None:
    assert public_fields(SourceSettings).keys() <= CreateSource.model_fields.keys()
    assert Thresholds.model_fields.keys() == PipelineThresholds.model_fields.keys()
    request = create_destination_request()
    assert {"name", *(kind.type.lower() for kind in kinds())} == request.model_fields.keys()


@pytest.mark.parametrize(
    "made", [CreateSource, CreatePipeline, create_destination_request()], ids=lambda made: made.__name__
)
def test_dagster_can_describe_every_setting_of_a_request(made: type[dg.Config]) -> None:
    """A type that it cannot describe would keep the whole code location from loading."""
    assert made.to_fields_dict().keys() == made.model_fields.keys()


def test_no_surface_of_dagster_takes_a_secret() -> None:
    models: list[type[BaseModel]] = [SourceSettings, *(kind.settings for kind in kinds())]
    for model in models:
        assert secret_names(model)
        assert not {*secret_names(model)} & public_fields(model).keys()


def test_dagster_can_describe_every_setting() -> None:
    """Resources and requests are made of them; a choice that may be left out is a text there."""
    assert "db" == PostgresSource(**SOURCE).name
    assert "sf" == SnowflakeDestination(**ACCOUNT).name
    for request in (CreateSource, create_destination_request()):
        assert request.to_config_schema()


def test_every_setting_explains_itself() -> None:
    own: list[type[BaseModel]] = [SourceSettings, PipelineOptions, TableOptions, Thresholds]
    for model in [*own, *(kind.settings for kind in kinds())]:
        assert [] == [name for name, field in model.model_fields.items() if not field.description]


def declared(**changed: Any) -> Pipeline:
    fields: dict[str, Any] = {"name": "shop", "source": PostgresSource(**SOURCE), "tables": ["orders"]}
    return Pipeline(**{**fields, "destinations": [PostgresDestination(**{**SOURCE, "name": "dw"})], **changed})


@pytest.mark.parametrize(
    ("write", "message"),
    [
        (lambda: PostgresSource(**SOURCE, ssl_mode="require"), "ssl_mode: there is no such setting; did you mean sslmode"),
        (lambda: PostgresSource(**SOURCE, sslmode="requre"), "sslmode: .*; did you mean require"),
        (lambda: PostgresDestination(**SOURCE, namespce="a"), "did you mean namespace"),
        (lambda: PostgresDestination(**SOURCE, port=70_000), "port: input should be less than or equal to 65535"),
        (lambda: SnowflakeDestination(**ACCOUNT, acount="x"), "did you mean account"),
        (lambda: SnowflakeDestination(**ACCOUNT, deletes="softly"), "deletes: .*; did you mean soft"),
        (lambda: declared(tables="orders"), r'tables: .*should be a list, as \["orders"\]'),
        (lambda: declared(tables=[]), "tables: "),
        (lambda: declared(tables=["orders", "public.orders"]), "public.orders is named more than once"),
        (lambda: declared(destinations=[]), "destinations: "),
        (lambda: declared(engine="FOO"), "engine: input should be 'DEBEZIUM' or 'PGOUTPUT'"),
        (lambda: declared(engine="PGOUTPT"), "did you mean PGOUTPUT"),
        (lambda: declared(on_schema_chnage="APPLY"), "did you mean on_schema_change"),
        (lambda: Table("orders", comment=False), "did you mean comments"),
        (lambda: checked(Thresholds, {"wal_warn_bytes": 1}, "x"), "did you mean wal_warning_bytes"),
    ],
)
def test_a_misspelt_setting_is_refused_with_the_nearest_right_one(write: Any, message: str) -> None:
    with pytest.raises(ConfigurationError, match=message):
        write()


def test_a_misspelt_threshold_is_refused_where_code_makes_them() -> None:
    with pytest.raises(ValidationError, match="did you mean wal_warning_bytes"):
        Thresholds(wal_warn_bytes=1)  # type: ignore[call-arg]


def test_a_component_refuses_a_misspelt_setting_too() -> None:
    yaml = (
        "name: shop\nsource: {name: db, host: h, database: d, username: u, ssl_mode: require}\n"
        "destinations: [{name: dw, host: h, database: d, username: u}]\ntables: [orders]\n"
    )
    component = RosettaPipelineComponent.resolve_from_yaml(yaml)
    with pytest.raises(ConfigurationError, match="did you mean sslmode"):
        _ = component.pipeline
    with pytest.raises(ValidationError, match="on_gpa at <string>:5"):
        RosettaPipelineComponent.resolve_from_yaml(yaml + "on_gpa: COPY\n")


def test_a_wrong_value_is_never_repeated() -> None:
    with pytest.raises(ConfigurationError) as caught:
        PostgresSource(**{**SOURCE, "sslmode": "hunter2"})
    assert "hunter2" not in str(caught.value)


def test_every_setting_of_a_destination_can_be_given_to_a_run_in_dagster() -> None:
    """Of a type that Dagster cannot describe, the whole code location would fail to load."""
    assert {"name", *(kind.type.lower() for kind in kinds())} == create_destination_request().to_fields_dict().keys()
