"""Patches of fakesnow 0.12.1, for this process only. `apply` is called once, before the first statement."""

from string import Template
from typing import Any

import pyarrow as pa
import pyarrow.compute as pc
from fakesnow import arrow, copy_into, info_schema
from fakesnow import transforms as fakesnow_transforms
from fakesnow.transforms import stage
from fakesnow.transforms.options import parse_options
from sqlglot import Expr, exp

#: Snowflake encodes an offset from UTC as this number plus the minutes.
_UTC = 1440

_INTEGERS = {
    exp.DataType.Type.INT, exp.DataType.Type.SMALLINT, exp.DataType.Type.TINYINT, exp.DataType.Type.BIGINT
}  # fmt: skip


def apply() -> None:
    find_named_files_of_a_stage()
    mask_absent_timestamps()
    keep_38_digits()
    leave_precision_of_times_out()
    load_null_if_of_parquet()
    keep_comments_of_views()
    match_column_names_in_their_case()


def find_named_files_of_a_stage() -> None:
    """Repaired: fakesnow 0.12.1 reads FILES of a COPY as parts of a URL, and ignores internal stages."""
    of_url = copy_into._source_urls

    def source_urls(source: str, files: list[str]) -> list[str]:
        if stage.is_internal(source):
            return [f"{source.rstrip('/')}/{name}" for name in files]
        return of_url(source, files)

    copy_into._source_urls = source_urls


def mask_absent_timestamps() -> None:
    """Repaired: fakesnow 0.12.1 returns NULL timestamps in structs declared as not nullable, which connector 5 refuses."""
    vars(arrow)["timestamp_to_sf_struct"] = _timestamps


def _timestamps(values: "pa.Array | pa.ChunkedArray") -> pa.Array:
    """Return Snowflake's form of timestamps: seconds, nanoseconds and, with a time zone, the offset from UTC."""
    array = values.combine_chunks() if isinstance(values, pa.ChunkedArray) else values
    moments = pc.fill_null(array.cast(pa.timestamp("us", array.type.tz)).cast(pa.int64()), 0).cast(pa.timestamp("us"))
    micros = moments.cast(pa.int64())
    # Rounded as a time, which is exact also before 1970.
    seconds = pc.divide(pc.floor_temporal(moments, unit="second").cast(pa.int64()), 1_000_000)
    nanos = pc.multiply(pc.subtract(micros, pc.multiply(seconds, 1_000_000)), 1000).cast(pa.int32())
    parts = {"epoch": seconds, "fraction": nanos}
    if array.type.tz:
        parts["timezone"] = pa.array([_UTC] * len(array), pa.int32())
    fields = [pa.field(name, part.type, nullable=False) for name, part in parts.items()]
    return pa.StructArray.from_arrays(list(parts.values()), fields=fields, mask=array.is_null())


def keep_38_digits() -> None:
    """Repaired: fakesnow 0.12.1 maps NUMBER(38,0) to BIGINT, which overflows at 2**63. Map it to DECIMAL(38,0)."""
    fakesnow_transforms.integer_precision = _integer_precision


def _integer_precision(expression: Expr) -> Expr:
    if not isinstance(expression, exp.DataType):
        return expression
    is_number = expression.this == exp.DataType.Type.DECIMAL and not expression.expressions
    if not is_number and expression.this not in _INTEGERS:
        return expression
    size = [exp.DataTypeParam(this=exp.Literal.number(digits)) for digits in (38, 0)]
    return exp.DataType(this=exp.DataType.Type.DECIMAL, expressions=size, nested=False)


def leave_precision_of_times_out() -> None:
    """Repaired: fakesnow 0.12.1 has no DATETIME_PRECISION in INFORMATION_SCHEMA.COLUMNS. Snowflake's is always NULL."""
    name = "SQL_CREATE_GLOBAL_INFORMATION_SCHEMA_COLUMNS_VIEW"
    last = "null::VARCHAR as DATA_TYPE_ALIAS"
    precision = "null::INTEGER as DATETIME_PRECISION"
    setattr(info_schema, name, getattr(info_schema, name).replace(last, f"{precision}, {last}"))


def keep_comments_of_views() -> None:
    """Repaired: fakesnow 0.12.1 keeps the comment of a view, and INFORMATION_SCHEMA.VIEWS does not show it."""
    name = "SQL_CREATE_INFORMATION_SCHEMA_VIEWS_VIEW"
    comment = (
        "(select ext.comment from _fs_global._fs_information_schema._fs_tables_ext ext "
        "where ext_table_catalog = database_name and ext_table_schema = schema_name "
        "and ext_table_name = view_name) as COMMENT"
    )
    view = getattr(info_schema, name).template.replace("null::VARCHAR as COMMENT", comment)
    setattr(info_schema, name, Template(view))


def match_column_names_in_their_case() -> None:
    """Repaired: fakesnow 0.12.1 matches the columns of a file with upper-case names of the table's columns."""

    def columns(table: exp.Table, *place: Any) -> list[str]:
        return [column[0] for column in copy_into._describe_table(table, *place)]

    def match(names: list[str], targets: list[str], mode: copy_into.MatchByColumnName) -> dict[str, str]:
        if mode == copy_into.MatchByColumnName.CASE_SENSITIVE:
            return {name: name for name in targets if name in names}
        found = {name.upper(): name for name in names}
        return {name: found[name.upper()] for name in targets if name.upper() in found}

    vars(copy_into).update(_get_table_columns=columns, _match_parquet_columns=match)


def load_null_if_of_parquet() -> None:
    r"""Repaired: fakesnow 0.12.1 ignores NULL_IF of Parquet files. Snowflake replaces `\N` by NULL unless it is set."""
    plain_params, plain_inserts = copy_into._params, copy_into._inserts

    def params(expr: exp.Copy, *given: Any, **named: Any) -> copy_into.CopyParams:
        found = plain_params(expr, *given, **named)
        if isinstance(found.file_format, copy_into.ReadParquet):
            # A dataclass without fields of its own: the insert below reads the attribute.
            vars(found.file_format)["null_if"] = _null_if(expr)
        return found

    def inserts(expr: exp.Copy, params: copy_into.CopyParams, *given: Any, **named: Any) -> list[Expr]:
        made = plain_inserts(expr, params, *given, **named)
        texts = getattr(params.file_format, "null_if", [])
        for insert in made if texts else []:
            for column in list(insert.expression.find_all(exp.Column)):
                column.replace(_null_for(column, texts))
        return made

    vars(copy_into).update(_params=params, _inserts=inserts)


def _null_if(copy: exp.Copy) -> list[str]:
    options: dict[str, Any] = {}
    for parameter in copy.args.get("params") or ():
        if parameter.this.name.upper() == "FILE_FORMAT":
            options = parse_options(parameter.expressions)
    given = options.get("NULL_IF", ["\\N"])
    return [str(text) for text in given] if isinstance(given, list) else [str(given)]


def _null_for(column: exp.Column, texts: list[str]) -> Expr:
    """Return the column, or NULL where its text is one of these."""
    is_null = exp.cast(column.copy(), "VARCHAR").isin(*[exp.Literal.string(text) for text in texts])
    return exp.case().when(is_null, exp.null()).else_(column.copy())
