"""Removes a pipeline with its slot and publication at the source, and lists beforehand what goes."""

from dataclasses import dataclass

from psycopg import sql

from rosetta_dagster.cdc.config.pipeline import PipelineConfig, Status
from rosetta_dagster.cdc.destination.registry import make_destination
from rosetta_dagster.cdc.errors import ConfigurationError
from rosetta_dagster.cdc.source.connections import connect, source_errors
from rosetta_dagster.cdc.source.publications import own_publications
from rosetta_dagster.cdc.source.slot_reading import SlotReading, slot_reading
from rosetta_dagster.cdc.source.slots import drop_slot, release_slot
from rosetta_dagster.cdc.store.database import Store
from rosetta_dagster.cdc.store.declared import delete_pipeline


@dataclass(frozen=True, slots=True, kw_only=True)
class Removal:
    """The parts of a pipeline that are removed with it. Its source, its destinations and every table stay."""

    config: PipelineConfig
    #: None when there is no slot.
    slot: SlotReading | None
    #: The pipeline's own publications, as far as the role owns them; none when the operator named one.
    publication_names: tuple[str, ...]
    #: Those of its own that somebody else created: only their owner may drop them.
    foreign_publications: tuple[str, ...] = ()

    def lines(self) -> list[str]:
        """Return a line for each part."""
        config = self.config
        lines = [f"row {config.name} of pipelines, with its {len(config.tables)} rows of pipeline_tables"]
        lines += [f"watermark and records of copies at destination {row.name}" for row in config.destinations]
        if self.slot is not None:
            retained = f"{self.slot.retained_bytes:,} bytes of WAL retained"
            lines.append(f"replication slot {config.slot_name} at source {config.source.name} ({retained})")
        return lines + [f"publication {name} at source {config.source.name}" for name in self.publication_names]

    def left_lines(self) -> list[str]:
        """Return a line for each part that stays, with the statement that removes it."""
        source = self.config.source.name
        statements = [(name, drop_publication(name).as_string(None)) for name in self.foreign_publications]
        return [f"publication {name} at source {source}; its owner may run: {text}" for name, text in statements]


def removal(store: Store, name: str) -> Removal:
    """Return what `drop_pipeline` would remove. Nothing is changed."""
    config = store.pipeline(name)
    source = config.source.connection
    with source_errors(source), connect(source) as connection:
        publications = own_publications(connection, config)
        return Removal(
            config=config,
            slot=slot_reading(connection, config.slot_name),
            publication_names=tuple(name for name, is_owned in publications.items() if is_owned),
            foreign_publications=tuple(name for name, is_owned in publications.items() if not is_owned),
        )


def drop_pipeline(store: Store, name: str) -> Removal:
    """Remove the pipeline and return its parts. Its tables at the destinations stay, with their rows.

    `ConfigurationError` unless it is paused, `LeaseHeld` while its run is still stopping. After an error it can be called
    again: the row, which names all other parts, is deleted last.
    """
    state = store.state(name)
    if state.status is not Status.PAUSE:
        raise ConfigurationError(
            f"Pipeline {name} is not paused: its status is {state.status}.", f"Pause it first: rosetta pause {name}"
        )
    with store.lease(state.id):
        found = removal(store, name)
        for row in found.config.destinations:
            make_destination(row, found.config).forget()
        _clear_source(found)
        delete_pipeline(store, name)
    return found


def _clear_source(found: Removal) -> None:
    source, slot_name = found.config.source.connection, found.config.slot_name
    with source_errors(source), connect(source) as connection:
        release_slot(connection, slot_name)
        drop_slot(connection, slot_name)
        for name in found.publication_names:
            connection.execute(drop_publication(name))


def drop_publication(name: str) -> sql.Composed:
    return sql.SQL("DROP PUBLICATION IF EXISTS {}").format(sql.Identifier(name))
