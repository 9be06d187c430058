"""Secrets: encrypted at first use, readable with the right key at the right place only, and never shown."""

import json
import traceback
from collections.abc import Callable, Iterator
from typing import Any

import pytest
from psycopg.types.json import Jsonb
from pydantic import SecretStr

from rosetta_dagster.cdc.config.pipeline import PostgresConnection, checked
from rosetta_dagster.cdc.destination.postgres.config import PostgresDestinationConfig
from rosetta_dagster.cdc.destination.registry import all_secret_names
from rosetta_dagster.cdc.errors import ConfigurationError, PipelineNotFound, RosettaError, SecretUnreadable
from rosetta_dagster.cdc.store.database import Store
from rosetta_dagster.cdc.store.declared import (
    DeclaredDestination,
    DeclaredPipeline,
    DeclaredSource,
    put_destination,
    put_source,
    refuse_existing,
)
from rosetta_dagster.cdc.store.plan import Declarations, declare
from rosetta_dagster.cdc.store.secrets import PREFIX, Place, SecretBox, is_encrypted
from rosetta_dagster.settings import Settings
from tests.support.database import SECRET_KEY, Database

PLACE = Place("sources/1/pg_password", (("host", "db"), ("port", "5432"), ("username", "u")))

SOURCE_SECRET = "open sesame of the source"
DESTINATION_SECRETS = {name: f"open sesame of {name}" for name in all_secret_names()}


def box() -> SecretBox:
    return SecretBox("k", {"k": bytes(32)})


@pytest.fixture
def rows(config_database: Database) -> Database:
    """The pipeline `shop` with its secrets in clear, as an operator writes them."""
    with Store(SecretStr(config_database.url)) as store:
        store.migrate()
    with config_database.connect() as connection:
        connection.execute(
            "INSERT INTO sources (name, pg_host, pg_database, pg_username, pg_password) VALUES ('shop', 'db', 'd', 'u', %s)",
            [SOURCE_SECRET],
        )
        config = Jsonb({"host": "dw", "database": "d", "username": "u", **DESTINATION_SECRETS})
        connection.execute("INSERT INTO destinations (name, type, config) VALUES ('dw', 'POSTGRES', %s)", [config])
        connection.execute("INSERT INTO pipelines (name, source_id) SELECT 'shop', id FROM sources")
        connection.execute("INSERT INTO pipeline_destinations SELECT p.id, d.id FROM pipelines p, destinations d")
    return config_database


@pytest.fixture
def open_with(rows: Database) -> Iterator[Callable[[str | None], Store]]:
    opened: list[Store] = []

    def make(key: str | None) -> Store:
        opened.append(Store(SecretStr(rows.url), None if key is None else SecretStr(key)))
        return opened[-1]

    yield make
    for store in opened:
        store.close()


def written(database: Database) -> str:
    """Everything that stands in the rows."""
    return json.dumps(
        database.rows("SELECT pg_password FROM sources") + database.rows("SELECT config FROM destinations"), default=str
    )


def in_any_form(error: BaseException) -> str:
    return f"{error!s} {error!r} {''.join(traceback.format_exception(error))}"


def assert_shows_no_secret(text: str, *more: str) -> None:
    for secret in (SOURCE_SECRET, *DESTINATION_SECRETS.values(), SECRET_KEY, *more):
        assert secret not in text


def test_what_was_written_in_clear_is_encrypted_at_first_use_and_read_back(
    rows: Database, open_with: Callable[[str | None], Store]
) -> None:
    for _ in range(2):
        config = open_with(SECRET_KEY).pipeline("shop")
        assert config.source.connection.password == SecretStr(SOURCE_SECRET)
        assert DESTINATION_SECRETS.items() <= config.destinations[0].config.items()
        assert_shows_no_secret(written(rows))
    assert 1 + len(DESTINATION_SECRETS) == written(rows).count(PREFIX)


def test_a_secret_that_is_encrypted_already_is_not_written_again(
    rows: Database, open_with: Callable[[str | None], Store]
) -> None:
    store = open_with(SECRET_KEY)
    store.pipeline("shop")
    before = written(rows), rows.rows("SELECT updated_at FROM sources UNION ALL SELECT updated_at FROM destinations")
    store.pipeline("shop")
    assert before == (
        written(rows),
        rows.rows("SELECT updated_at FROM sources UNION ALL SELECT updated_at FROM destinations"),
    )


def test_a_new_value_in_clear_is_taken_and_encrypted(rows: Database, open_with: Callable[[str | None], Store]) -> None:
    store = open_with(SECRET_KEY)
    store.pipeline("shop")
    rows.run("UPDATE sources SET pg_password = 'fresh as the morning'")
    assert store.pipeline("shop").source.connection.password == SecretStr("fresh as the morning")
    assert "fresh" not in written(rows)


def test_what_an_operator_writes_between_reading_and_sealing_is_kept(
    rows: Database, open_with: Callable[[str | None], Store], monkeypatch: pytest.MonkeyPatch
) -> None:
    encrypt = SecretBox.encrypt

    def slowly(box: SecretBox, secret: str, place: Place) -> str:
        if place.name.startswith("sources/"):
            rows.run("UPDATE sources SET pg_password = 'newer'")
        else:
            rows.run("""UPDATE destinations SET config = '{"password": "newer"}'""")
        return encrypt(box, secret, place)

    monkeypatch.setattr(SecretBox, "encrypt", slowly)
    open_with(SECRET_KEY).pipeline("shop")
    assert [("newer",)] == rows.rows("SELECT pg_password FROM sources")
    assert [({"password": "newer"},)] == rows.rows("SELECT config FROM destinations")


@pytest.mark.parametrize("secret", ["", " ", "pass:word@/?#%", "ünïcödé 🔑", "x" * 10_000, "line\nbreak", "enc:"])
def test_any_text_comes_back_as_it_was(secret: str) -> None:
    sealed = box().encrypt(secret, PLACE)
    assert is_encrypted(sealed)
    assert secret == box().decrypt(sealed, PLACE)


def test_the_same_secret_never_looks_the_same_twice() -> None:
    assert box().encrypt("a", PLACE) != box().encrypt("a", PLACE)


def test_a_wrong_key_is_reported_with_a_remedy_and_writes_nothing(
    rows: Database, open_with: Callable[[str | None], Store]
) -> None:
    open_with(SECRET_KEY).pipeline("shop")
    before, key = written(rows), "another key of sufficient length"
    with pytest.raises(SecretUnreadable, match=r"SECRET_KEY is not the one.*SECRET_KEY_OLD") as caught:
        open_with(key).pipeline("shop")
    assert_shows_no_secret(in_any_form(caught.value), key)
    assert before == written(rows)


@pytest.mark.parametrize(("key", "told"), [(None, "SECRET_KEY is not set"), ("", "shorter than 16"), ("short", "shorter")])
@pytest.mark.parametrize("encrypted", [False, True])
def test_without_a_key_that_is_good_enough_secrets_are_neither_read_nor_written(
    rows: Database, open_with: Callable[[str | None], Store], key: str | None, told: str, encrypted: bool
) -> None:
    if encrypted:
        open_with(SECRET_KEY).pipeline("shop")
    before = written(rows)
    with pytest.raises(ConfigurationError, match=told) as caught:
        open_with(key).pipeline("shop")
    assert_shows_no_secret(in_any_form(caught.value))
    assert before == written(rows)


def test_without_secrets_no_key_is_needed(rows: Database, open_with: Callable[[str | None], Store]) -> None:
    rows.run("UPDATE sources SET pg_password = NULL", "UPDATE destinations SET config = '{}'")
    config = open_with(None).pipeline("shop")
    assert config.source.connection.password is None
    assert {} == config.destinations[0].config


def test_an_encrypted_value_copied_to_another_row_cannot_be_read_there(
    rows: Database, open_with: Callable[[str | None], Store]
) -> None:
    store = open_with(SECRET_KEY)
    store.pipeline("shop")
    rows.run(
        "INSERT INTO sources (name, pg_host, pg_database, pg_username, pg_password)"
        " SELECT 'thief', 'evil', 'd', 'u', pg_password FROM sources WHERE name = 'shop'",
        "INSERT INTO destinations (name, type, config) SELECT 'thief', type, config FROM destinations WHERE name = 'dw'",
    )
    with pytest.raises(SecretUnreadable, match="sources/2/pg_password"):
        store.source("thief")
    with pytest.raises(SecretUnreadable, match="destinations/2/password"):
        store.destination("thief")
    rows.run("UPDATE destinations SET config = jsonb_build_object('password', config -> 'private_key') WHERE name = 'dw'")
    with pytest.raises(SecretUnreadable, match="destinations/1/password"):
        store.destination("dw")


@pytest.mark.parametrize(
    "text", ["enc:v2:", "enc:v2:AAAA", "enc:v2:k:not base64:at all", "enc:v2:ü", "enc:v2:k:W10=:" + "A" * 64, "enc:v1:AAAA"]
)
def test_a_damaged_value_is_reported_like_one_under_another_key(text: str) -> None:
    with pytest.raises(SecretUnreadable, match="sources/1/pg_password"):
        box().decrypt(text, PLACE)


def test_no_representation_shows_a_secret(rows: Database, open_with: Callable[[str | None], Store]) -> None:
    store = open_with(SECRET_KEY)
    config = store.pipeline("shop")
    connection = PostgresConnection(host="h", database="d", username="u", password=SecretStr(SOURCE_SECRET))
    values = {"host": "h", "database": "d", "username": "u", "password": SOURCE_SECRET}
    with store.lease(config.id) as lease:
        shown: list[Any] = [
            store,
            store.secret_box(),
            lease,
            config,
            config.source,
            config.destinations[0],
            connection,
            checked(PostgresDestinationConfig, values, "Destination dw"),
            DeclaredSource(name="s", connection=connection),
            DeclaredDestination(name="d", type="POSTGRES", config=DESTINATION_SECRETS),
            Settings(config_database_url=SecretStr(rows.url), secret_key=SecretStr(SECRET_KEY)),
            *store.shapes(),
            *store.states(),
            *store.tables("shop"),
        ]
        for value in shown:
            assert_shows_no_secret(f"{value!r} {value!s} {value}", rows.config["password"])
    assert SOURCE_SECRET not in connection.describe()


def test_what_dagster_shows_of_a_pipeline_holds_no_secret_even_in_clear_rows(
    open_with: Callable[[str | None], Store],
) -> None:
    (shape,) = open_with(None).shapes()
    assert_shows_no_secret(repr(shape))
    assert {"host": "dw", "database": "d", "username": "u"} == shape.destinations[0].connection


def test_a_row_that_is_not_valid_is_reported_without_its_values(
    rows: Database, open_with: Callable[[str | None], Store]
) -> None:
    rows.run("UPDATE sources SET pg_host = ''")
    with pytest.raises(ConfigurationError, match=r"Source shop is not valid: host:.*Correct the row") as caught:
        open_with(SECRET_KEY).pipeline("shop")
    assert_shows_no_secret(in_any_form(caught.value))


def test_an_error_about_a_destination_shows_no_secret() -> None:
    values = {"host": "h", "database": "d", "user": "u", "port": "x", "password": SOURCE_SECRET, "other": "open sesame"}
    with pytest.raises(ConfigurationError, match="Destination dw is not valid: ") as caught:
        checked(PostgresDestinationConfig, values, "Destination dw")
    assert_shows_no_secret(in_any_form(caught.value), "open sesame")


def declared(password: str = "declared secret") -> tuple[DeclaredSource, DeclaredDestination]:
    connection = PostgresConnection(host="h", database="d", username="u", password=SecretStr(password))
    config = {"host": "h", "database": "d", "username": "u", "password": password}
    return (
        DeclaredSource(name="declared", connection=connection),
        DeclaredDestination(name="declared", type="POSTGRES", config=config),
    )


def test_declared_rows_are_encrypted_and_not_touched_when_they_are_as_wanted(
    store: Store, config_database: Database
) -> None:
    source, destination = declared()
    dates = "SELECT updated_at FROM sources UNION ALL SELECT updated_at FROM destinations"
    declare(store, Declarations(sources=(source,), destinations=(destination,)))
    before = config_database.rows(dates)
    declare(store, Declarations(sources=(source,), destinations=(destination,)))
    assert before == config_database.rows(dates)
    assert "declared secret" not in written(config_database)
    assert store.source("declared").connection == source.connection
    assert store.destination("declared").config == destination.config


def test_a_declared_password_that_changes_is_written_encrypted(store: Store, config_database: Database) -> None:
    for source, destination in (declared(), declared("changed secret")):
        declare(store, Declarations(sources=(source,), destinations=(destination,)))
    assert store.source("declared").connection.password == SecretStr("changed secret")
    assert "changed secret" == store.destination("declared").config["password"]
    assert "changed secret" not in written(config_database)


def test_without_a_key_nothing_is_declared(config_database: Database) -> None:
    source, destination = declared()
    with Store(SecretStr(config_database.url)) as store:
        store.migrate()
        with pytest.raises(ConfigurationError, match="SECRET_KEY is not set"):
            put_source(store, source)
        with pytest.raises(ConfigurationError, match="SECRET_KEY is not set"):
            put_destination(store, destination)
    assert "[]" == written(config_database)


def test_a_pipeline_of_a_missing_source_or_destination_is_refused_and_leaves_no_row(
    store: Store, config_database: Database
) -> None:
    source, destination = declared()
    missing = DeclaredPipeline(name="p", source="nowhere", destinations=(), tables=())
    with pytest.raises(PipelineNotFound, match="There is no source nowhere"):
        declare(store, Declarations(sources=(source,), destinations=(destination,), pipelines=(missing,)))
    with pytest.raises(PipelineNotFound, match="There is no destination nowhere"):
        declare(
            store, Declarations(pipelines=(missing.model_copy(update={"source": "declared", "destinations": ("nowhere",)}),))
        )
    assert [(0,)] == config_database.rows("SELECT count(*) FROM pipelines")


def test_a_name_is_given_once(store: Store) -> None:
    source, _ = declared()
    refuse_existing(store, "source", "declared")
    put_source(store, source)
    with pytest.raises(ConfigurationError, match="There is a source declared already"):
        refuse_existing(store, "source", "declared")


@pytest.mark.parametrize(
    "url",
    [
        "mysql://root:hunter2hunter2@h/d",
        "postgresql://u:hunter2hunter2@h:notaport/d",
        "postgresql://u:hunter2hunter2@h/d?sslmod=disable",
        "postgresql://u:hunter2hunter2@[h/d",
    ],
)
def test_a_url_that_cannot_be_read_is_reported_without_showing_it(url: str) -> None:
    with Store(SecretStr(url)) as store, pytest.raises(RosettaError) as caught:
        store.states()
    assert "hunter2" not in in_any_form(caught.value)


def test_a_refused_connection_is_reported_without_the_password(config_database: Database) -> None:
    url = config_database.url.replace(config_database.config["password"], "hunter2hunter2")
    with Store(SecretStr(url)) as store, pytest.raises(ConfigurationError, match="authentication failed") as caught:
        store.states()
    assert "hunter2" not in in_any_form(caught.value)
