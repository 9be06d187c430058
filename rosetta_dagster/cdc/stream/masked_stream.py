"""Masks the changes of a stream as they arrive, before any of them is spooled or added to a batch."""

from collections.abc import Callable, Mapping
from dataclasses import dataclass
from typing import Any

from rosetta_dagster.cdc.change.columns import ChangeColumns, Form, Kind
from rosetta_dagster.cdc.change.event import Row, UnreadableTable
from rosetta_dagster.cdc.change.masking import Masking, keeps_masks, row_masker
from rosetta_dagster.cdc.change.schema import TableSchema
from rosetta_dagster.cdc.errors import SchemaChangeRefused
from rosetta_dagster.cdc.source.base import Delivery, Stream
from rosetta_dagster.cdc.table_id import TableId


@dataclass(frozen=True, slots=True)
class _Plan:
    """What changes of one kind become."""

    kind: Kind
    #: Masks what is kept of a change.
    mask: Callable[[Any], Any]


class MaskedStream:
    """The stream with masked rows. Implements `Stream`."""

    def __init__(self, stream: Stream, masking: Masking, known: Mapping[TableId, TableSchema]) -> None:
        """`known` are the tables, with their masks, as they were when the stream began."""
        self._stream = stream
        self._masking = masking
        self._known = known
        #: None: changes of the kind stay as they are.
        self._plans: dict[Kind, _Plan | None] = {}
        #: The masked form of each schema by the object, since batches distinguish schemas by the object.
        self._schemas: dict[int, tuple[TableSchema, TableSchema]] = {}

    def next(self, timeout: float) -> Delivery | None:
        """Return the next delivery, masked; None when none came in time."""
        delivery = self._stream.next(timeout)
        if delivery is not None and delivery.changes:
            assert isinstance(delivery.changes, ChangeColumns), "both engines deliver columns"
            self._mask(delivery.changes)
        return delivery

    def commit(self, delivery: Delivery) -> None:
        self._stream.commit(delivery)

    def close(self) -> None:
        self._stream.close()

    def _mask(self, changes: ChangeColumns) -> None:
        """Mask the changes in their place."""
        kinds, kept, plans = changes.kinds, changes.kept, self._plans
        for index, kind in enumerate(kinds):
            if kind not in plans:
                plans[kind] = self._plan(kind)
            plan = plans[kind]
            if plan is not None:
                kinds[index], kept[index] = plan.kind, plan.mask(kept[index])

    def _plan(self, kind: Kind) -> _Plan | None:
        if kind.table.id not in self._masking.rules or isinstance(kind.table, UnreadableTable):
            return None
        _, table = self._schemas.setdefault(id(kind.table), (kind.table, self._masked(kind.table)))
        if isinstance(table, UnreadableTable):
            return _Plan(Kind(kind.operation, table, Form.NOTHING), _nothing)
        mask = _MASKS[kind.form](row_masker(self._masking.steps(table.columns)))
        return _Plan(Kind(kind.operation, table, kind.form), mask)

    def _masked(self, table: TableSchema) -> TableSchema:
        known = self._known.get(table.id)
        if known is None or keeps_masks(known, table):
            return self._masking.schema(table)
        error = SchemaChangeRefused(
            f"A masked column of table {table.id} was dropped, renamed or replaced at the source, and its values are not "
            "replicated without a mask.",
            "Correct mask of the table.",
        )
        return UnreadableTable.because(table.id, error)


def _nothing(_kept: Any) -> tuple[()]:
    return ()


def _none(_mask: Callable[[Row], Row]) -> Callable[[Any], Any]:
    return lambda kept: kept


def _one(mask: Callable[[Row], Row]) -> Callable[[Any], Any]:
    return mask


def _two(mask: Callable[[Row], Row]) -> Callable[[Any], Any]:
    return lambda kept: (mask(kept[0]), mask(kept[1]))


_MASKS = {Form.WHOLE: _one, Form.PARTIAL: _one, Form.OLD_ROW: _one, Form.BOTH: _two, Form.NOTHING: _none}
