"""A statement's result, and its form for the connector."""

from base64 import b64encode
from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field
from typing import Any

import pyarrow as pa
from fakesnow import statement_type
from fakesnow.arrow import to_ipc, to_sf
from fakesnow.rowtype import ColumnInfo

#: Answered in JSON, since the connector reads the number of rows from them.
_COUNTED = statement_type.DML_TYPE_IDS

SUCCESS = "Statement executed successfully."


@dataclass(frozen=True, kw_only=True)
class Result:
    """The rows of a statement."""

    #: None for a description.
    rows: pa.Table | None
    rowtype: Sequence[ColumnInfo]
    type_id: int = statement_type.UNKNOWN
    #: The number of placeholders of a described statement.
    binding_count: int | None = None
    #: How the client sends the files of a PUT.
    upload: Mapping[str, Any] | None = field(default=None)
    #: Whether Snowflake would have run it on a warehouse.
    used_warehouse: bool = False

    def to_json(self) -> dict[str, Any]:
        """Return the part of the answer that holds the rows."""
        count = 0 if self.rows is None else self.rows.num_rows
        about = {"rowtype": list(self.rowtype), "total": count, "returned": count, "statementTypeId": self.type_id}
        return {**about, **(self._description() if self.rows is None else self._content(self.rows))}

    def _description(self) -> dict[str, Any]:
        can_batch = self.type_id == statement_type.INSERT
        binds = {"numberOfBinds": self.binding_count, "arrayBindSupported": can_batch}
        if self.type_id == statement_type.SELECT:
            return {**binds, "queryResultFormat": "arrow", "rowsetBase64": ""}
        return {**binds, "queryResultFormat": "json", "rowset": []}

    def _content(self, rows: pa.Table) -> dict[str, Any]:
        if self.type_id in _COUNTED:
            columns = [column.to_pylist() for column in rows.columns]
            texts = [[None if value is None else str(value) for value in row] for row in zip(*columns, strict=True)]
            return {"queryResultFormat": "json", "rowset": texts}
        stream = to_ipc(to_sf(rows, list(self.rowtype)))
        return {"queryResultFormat": "arrow", "rowsetBase64": b64encode(stream).decode()}


def texts(columns: Sequence[str], rows: Sequence[Sequence[str | None]]) -> Result:
    """Return rows of texts: the result of a statement that is not a query."""
    arrays = [pa.array([row[at] for row in rows], pa.string()) for at in range(len(columns))]
    return Result(rows=pa.Table.from_arrays(arrays, names=list(columns)), rowtype=[text(name) for name in columns])


def success() -> Result:
    return texts(["status"], [[SUCCESS]])


def text(name: str) -> ColumnInfo:
    """Return the description of a column of texts."""
    size = 16777216
    return {
        "name": name, "database": "", "schema": "", "table": "", "nullable": True, "type": "text", "byteLength": size,
        "length": size, "scale": None, "precision": None, "collation": None,
    }  # fmt: skip
