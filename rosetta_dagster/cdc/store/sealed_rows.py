"""Finds the secrets of rows: the field of each, its text, and the place that it is bound to."""

from collections.abc import Iterator, Mapping
from dataclasses import dataclass
from typing import Any

import psycopg
from psycopg.types.json import Jsonb

from rosetta_dagster.cdc.config.pipeline import PostgresConnection
from rosetta_dagster.cdc.config.surfaces import binding
from rosetta_dagster.cdc.destination.registry import all_secret_names, kinds
from rosetta_dagster.cdc.store import queries
from rosetta_dagster.cdc.store.secrets import Place


@dataclass(frozen=True, slots=True, kw_only=True)
class SealedRow:
    """A row of `sources` or `destinations` with the texts of its secrets, encrypted or not."""

    table: str
    id: int
    places: Mapping[str, Place]
    texts: Mapping[str, str]

    def write(self, connection: "psycopg.Connection[Any]", sealed: Mapping[str, str]) -> None:
        """Replace these secrets."""
        if not sealed:
            return
        if self.table == "sources":
            connection.execute(queries.SET_PASSWORD, [sealed["pg_password"], self.id])
        else:
            connection.execute(queries.SET_SECRETS, [Jsonb(sealed), self.id])


def source_place(source_id: int, values: Mapping[str, Any]) -> Place:
    """Return the place of a source's password."""
    return Place(f"sources/{source_id}/pg_password", binding(PostgresConnection, values))


def destination_places(destination_id: int, type_name: str, config: Mapping[str, Any]) -> dict[str, Place]:
    """Return the place of each secret. None for a type that only another process knows: to whom it is given is unknown."""
    kind = next((kind for kind in kinds() if kind.type == type_name), None)
    if kind is None:
        return {}
    given_for = binding(kind.settings, config)
    return {
        field: Place(f"destinations/{destination_id}/{field}", given_for)
        for field in all_secret_names()
        if isinstance(config.get(field), str)
    }


def locked_rows(connection: "psycopg.Connection[Any]") -> Iterator[SealedRow]:
    """Lock each row with secrets, one after the other, until the transaction ends."""
    for (source_id,) in connection.execute("SELECT id FROM sources ORDER BY id").fetchall():
        yield from locked_source(connection, source_id)
    for (destination_id,) in connection.execute("SELECT id FROM destinations ORDER BY id").fetchall():
        yield from locked_destination(connection, destination_id)


def locked_source(connection: "psycopg.Connection[Any]", source_id: int) -> Iterator[SealedRow]:
    for _, _, values in connection.execute(queries.LOCK_SOURCE, [source_id]).fetchall():
        if values["password"] is not None:
            places = {"pg_password": source_place(source_id, values)}
            yield SealedRow(table="sources", id=source_id, places=places, texts={"pg_password": values["password"]})


def locked_destination(connection: "psycopg.Connection[Any]", destination_id: int) -> Iterator[SealedRow]:
    for type_name, config in connection.execute(queries.LOCK_DESTINATION, [destination_id]).fetchall():
        places = destination_places(destination_id, type_name, config)
        texts = {field: config[field] for field in places}
        yield SealedRow(table="destinations", id=destination_id, places=places, texts=texts)
