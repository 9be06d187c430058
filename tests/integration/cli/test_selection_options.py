"""The selection of a table is the same by SQL, Python, YAML, a file, and the commands."""

import psycopg
import pytest
import yaml

from rosetta_dagster.cdc.config.selection import Selection
from rosetta_dagster.cdc.store.database import Store
from rosetta_dagster.cdc.store.document import apply_document
from rosetta_dagster.cdc.table_id import TableId
from rosetta_dagster.orchestration import RosettaPipelineComponent, Table
from tests.support.command_line import Rosetta
from tests.support.database import Database

USERS = TableId("public", "users")

WANTED = {
    "exclude": Selection(exclude=("ssn", "Birth, day"), where="tenant = 7 AND name <> 'x'"),
    "columns": Selection(columns=("id", "name")),
}


def selection_of(store: Store) -> Selection | None:
    return store.pipeline("shop").selections.get(USERS)


@pytest.mark.parametrize("wanted", WANTED.values(), ids=WANTED)
def test_every_surface_writes_the_same_selection(
    wanted: Selection, rosetta: Rosetta, shop: Database, store: Store, config_database: Database
) -> None:
    listed = [f"--{name}={column}" for name in ("columns", "exclude") for column in getattr(wanted, name)]
    where = [f"--where={wanted.where}"] if wanted.where else []
    assert 0 == rosetta("table", "add", "shop", "users", *listed, *where).code
    assert wanted == selection_of(store)
    document = yaml.safe_load(rosetta("export").out)
    with config_database.connect() as connection:
        connection.execute(
            "UPDATE pipeline_tables SET columns = %s, exclude = %s, row_filter = %s WHERE table_name = 'users'",
            [["other"], [], "false"],
        )
    assert Selection(columns=("other",), where="false") == selection_of(store)
    assert 1 == len(apply_document(store, document))
    assert wanted == selection_of(store)


MASK = {"email": "hash", "Tel, no=": "keep_last(4)"}


def test_every_surface_writes_the_same_masks(
    rosetta: Rosetta, shop: Database, store: Store, config_database: Database
) -> None:
    given = [f"--mask={column}={mask}" for column, mask in MASK.items()]
    assert 0 == rosetta("table", "add", "shop", "users", *given).code
    assert MASK == store.pipeline("shop").masks[USERS]
    document = yaml.safe_load(rosetta("export").out)
    config_database.run("""UPDATE pipeline_tables SET mask = '{"name": "redact"}' WHERE table_name = 'users'""")
    assert {"name": "redact"} == store.pipeline("shop").masks[USERS]
    assert 1 == len(apply_document(store, document))
    assert MASK == store.pipeline("shop").masks[USERS]
    assert [] == apply_document(store, document)


@pytest.mark.parametrize("mask", ['{"name": "rot13"}', '{"name": 1}', "[]", '{"name": "keep_last(0)"}'])
def test_a_row_with_a_mask_that_does_not_exist_is_refused(
    mask: str, rosetta: Rosetta, shop: Database, config_database: Database
) -> None:
    assert 0 == rosetta("table", "add", "shop", "users").code
    with pytest.raises(psycopg.errors.CheckViolation, match="pipeline_table_mask_is_known"):
        config_database.run(f"UPDATE pipeline_tables SET mask = '{mask}' WHERE table_name = 'users'")
    refused = rosetta("table", "add", "shop", "orders", "--mask=name=rot13")
    assert "the mask of name does not exist; there are hash, redact, year" in refused.err


def test_python_and_yaml_declare_the_same_selection() -> None:
    yaml_text = (
        "name: shop\nsource: {name: db, host: h, database: d, username: u}\n"
        "destinations: [{name: dw, host: h, database: d, username: u}]\n"
        "tables: [{name: users, exclude: [ssn], where: tenant = 7, mask: {name: hash}}]\n"
    )
    (table,) = RosettaPipelineComponent.resolve_from_yaml(yaml_text).pipeline.tables
    assert isinstance(table, Table)
    assert table == Table("users", exclude=["ssn"], where="tenant = 7", mask={"name": "hash"})
    assert Selection(exclude=("ssn",), where="tenant = 7") == table.declared_options().selection
