"""Decides which Parquet files COPY refuses that DuckDB would load: too long, too large a row, or of another type."""

import re
from collections.abc import Mapping
from pathlib import Path

import pyarrow as pa
import pyarrow.compute as pc
import pyarrow.parquet as pq
from sqlglot import Expr, exp

from rosetta_dagster.embedded.snowflake.emulator.catalog import column_types
from rosetta_dagster.embedded.snowflake.emulator.errors import SnowflakeError, unsupported
from rosetta_dagster.embedded.snowflake.emulator.session import Session
from rosetta_dagster.embedded.snowflake.emulator.stage_files import staged

#: Bytes of a VARIANT, which COPY builds of each row when it matches names without their case.
_VARIANT_LIMIT = 16 * 1024 * 1024

_LIMITED = re.compile(r"(VARCHAR|BINARY)\((\d+)\)")


def verify_files(session: Session, copy: exp.Copy) -> None:
    """Refuse files of a COPY by name that Snowflake refuses, or whose values it would convert without validation.

    Raises:
        SnowflakeError: 100078, 100082, or 009999 for a conversion.

    """
    matching = _match_by_column_name(copy)
    source = copy.args["files"][0].this
    if not matching or not isinstance(source, exp.Var):
        return
    types = column_types(session, copy.this)
    for path in staged(source.name, session.connection):
        file = pq.ParquetFile(path)
        _verify_types(file.schema_arrow, types)
        if matching == "CASE_INSENSITIVE":
            _verify_rows(path, file.metadata)
        _verify_lengths(path, file.metadata, types)


def _match_by_column_name(copy: Expr) -> str:
    found = [each for each in copy.args.get("params") or () if each.this.name.upper() == "MATCH_BY_COLUMN_NAME"]
    value = found[0].args["expression"].name.upper() if found else ""
    return "" if value == "NONE" else value


def _verify_types(schema: pa.Schema, types: Mapping[str, str]) -> None:
    for field in schema:
        type_ = types.get(field.name.upper(), types.get(field.name))
        if type_ is not None and not holds(type_, field.type):
            raise unsupported(f"COPY of {field.type} into a column of {type_}, which Snowflake converts unvalidated")


def holds(type_: str, loaded: pa.DataType) -> bool:
    """Return whether a column of this type holds every value of the file's type."""
    name, _, rest = type_.partition("(")
    if pa.types.is_decimal(loaded) and name == "NUMBER":
        precision, scale = map(int, rest.rstrip(")").split(","))
        return bool(scale == loaded.scale and precision >= loaded.precision)
    if pa.types.is_integer(loaded) and name == "NUMBER":
        return rest.endswith(",0)")
    if pa.types.is_timestamp(loaded):
        wanted = "TIMESTAMP_NTZ" if loaded.tz is None else "TIMESTAMP_TZ"
        return name == wanted
    kinds = {
        "VARCHAR": pa.types.is_string, "BINARY": pa.types.is_binary, "FLOAT": pa.types.is_float64,
        "BOOLEAN": pa.types.is_boolean, "DATE": pa.types.is_date32, "TIME": pa.types.is_time64,
    }  # fmt: skip
    return name in kinds and bool(kinds[name](loaded))


def _verify_rows(path: Path, metadata: pq.FileMetaData) -> None:
    groups = [metadata.row_group(index) for index in range(metadata.num_row_groups)]
    if sum(group.total_byte_size for group in groups) <= _VARIANT_LIMIT:
        return
    columns = [column for column in pq.read_table(path).columns if _has_length(column.type)]
    sizes = [pc.fill_null(pc.cast(pc.binary_length(column), pa.int64()), 0) for column in columns]
    total = sizes[0] if sizes else pa.chunked_array([[0]])
    for size in sizes[1:]:
        total = pc.add(total, size)
    largest = pc.max(total).as_py() or 0
    if largest > _VARIANT_LIMIT:
        raise SnowflakeError(
            100082, f"Max LOB size ({_VARIANT_LIMIT}) exceeded, actual size of parsed column is {largest}", "22000"
        )


def _verify_lengths(path: Path, metadata: pq.FileMetaData, types: Mapping[str, str]) -> None:
    for name, size in _column_sizes(metadata).items():
        limited = _LIMITED.fullmatch(types.get(name.upper(), types.get(name, "")))
        # The values of a column that is smaller as a whole need not be read.
        if limited is None or size <= int(limited[2]):
            continue
        column = pq.read_table(path, columns=[name]).column(0)
        if not _has_length(column.type):
            continue
        lengths = pc.utf8_length(column) if limited[1] == "VARCHAR" else pc.binary_length(column)
        if (pc.max(lengths).as_py() or 0) > int(limited[2]):
            raise SnowflakeError(100078, f"String '…' is too long and would be truncated in column {name}", "22000")


def _column_sizes(metadata: pq.FileMetaData) -> dict[str, int]:
    """Return the uncompressed bytes of each column."""
    sizes: dict[str, int] = {}
    for index in range(metadata.num_row_groups):
        group = metadata.row_group(index)
        for number in range(group.num_columns):
            column = group.column(number)
            name = column.path_in_schema
            sizes[name] = sizes.get(name, 0) + int(column.total_uncompressed_size)
    return sizes


def _has_length(type_: pa.DataType) -> bool:
    return bool(pa.types.is_string(type_) or pa.types.is_binary(type_))
