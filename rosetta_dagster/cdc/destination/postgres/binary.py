"""Decides which types are copied in binary form.

Their binary form is the same in every server version and contains no OID, as that of `regclass` does. `interval` is left
out: version 17 introduced infinite intervals, which an older server reads as finite.
"""

from typing import Final

from psycopg.postgres import types

_NAMES: Final = (
    "bool", "int2", "int4", "int8", "float4", "float8", "numeric", "text", "varchar", "bpchar", "bytea", "uuid", "json",
    "jsonb", "date", "time", "timestamp", "timestamptz",
)  # fmt: skip

#: OIDs of these types, and of arrays of them.
BINARY_TYPES: Final = frozenset(oid for name in _NAMES for oid in (types[name].oid, types[name].array_oid))
