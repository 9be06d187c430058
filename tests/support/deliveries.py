"""Makes the deliveries of a source that a test of the stream is about."""

from datetime import UTC, datetime

from rosetta_dagster.cdc.change.event import Change
from rosetta_dagster.cdc.change.position import Engine, Lsn, Position, Watermark
from rosetta_dagster.cdc.source.base import Delivery

LONG_AGO = datetime(2024, 5, 1, 12, tzinfo=UTC)


def at(transaction_lsn: int, lsn: int) -> Position:
    return Position(transaction_lsn, lsn, 0)


def delivery_of(*changes: Change, lsn: int = 130, committed_at: datetime | None = LONG_AGO) -> Delivery:
    last = watermark(changes[-1].position, changes[-1].xid) if changes else None
    return Delivery(
        changes=changes, watermark=last, lsn=Lsn(lsn), committed_at=committed_at if changes else None, receipt=lsn
    )


def watermark(position: Position, xid: int = 1) -> Watermark:
    return Watermark(engine=Engine.DEBEZIUM, position=position, xid=xid)
