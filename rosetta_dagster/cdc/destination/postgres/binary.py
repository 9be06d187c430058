"""Decides of which types values are copied in binary form.

Those whose form is the same in every version of the server and holds no number of a catalog, as that of `regclass` does.
An interval is not among them: since version 17 there are infinite ones, and an older server reads them as finite.
"""

from typing import Final

from psycopg.postgres import types

_NAMES: Final = (
    "bool", "int2", "int4", "int8", "float4", "float8", "numeric", "text", "varchar", "bpchar", "bytea", "uuid", "json",
    "jsonb", "date", "time", "timestamp", "timestamptz",
)  # fmt: skip

#: OIDs of these types, and of arrays of them.
BINARY_TYPES: Final = frozenset(oid for name in _NAMES for oid in (types[name].oid, types[name].array_oid))
