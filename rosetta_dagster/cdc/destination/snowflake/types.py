"""Decides which Snowflake type holds each PostgreSQL type, and the form in which its values are loaded."""

import re
from dataclasses import dataclass
from enum import Enum, auto

from rosetta_dagster.cdc.change.schema import Column

#: Digits of a NUMBER.
PRECISION_LIMIT = 38
#: Digits of a NUMBER behind the point.
SCALE_LIMIT = 37

#: Characters of a VARCHAR without a length. A BINARY has half as many bytes.
DEFAULT_LENGTH = 16 * 1024 * 1024

_NUMERIC = 1700


class Form(Enum):
    """How the text of a value is converted."""

    TEXT = auto()
    INTEGER = auto()
    DECIMAL = auto()
    MONEY = auto()
    FLOAT = auto()
    BOOLEAN = auto()
    BINARY = auto()
    DATE = auto()
    TIME = auto()
    TIMESTAMP = auto()
    TIMESTAMP_TZ = auto()
    INTERVAL = auto()
    JSON = auto()
    #: PostgreSQL's `json` may repeat a key within an object; the last one counts.
    JSON_TEXT = auto()
    ARRAY = auto()
    HSTORE = auto()
    VECTOR = auto()


#: Forms that are staged as JSON text and parsed by the statement that writes the table.
_PARSED = {
    Form.JSON: "PARSE_JSON({})",
    Form.JSON_TEXT: "PARSE_JSON({}, 'd')",
    Form.ARRAY: "PARSE_JSON({})",
    Form.HSTORE: "PARSE_JSON({})",
    Form.VECTOR: "TO_ARRAY(PARSE_JSON({}))",
}


@dataclass(frozen=True, slots=True, kw_only=True)
class Target:
    """A column's type at Snowflake."""

    #: As SQL spells it.
    type: str
    form: Form
    precision: int = 0
    scale: int = 0
    #: The form of an array's elements, with their own precision and scale.
    element: "Target | None" = None
    #: The separator of an array's elements; a box contains commas of its own.
    delimiter: str = ","
    #: Characters of a VARCHAR or bytes of a BINARY, where the default would be too few; 0: the default.
    length: int = 0
    #: A document of a key that cannot be parsed is an error. Any other becomes NULL.
    must_parse: bool = False

    @property
    def is_parsed(self) -> bool:
        return self.form in _PARSED

    @property
    def staged_type(self) -> str:
        """Return the type that values are staged in."""
        return _with_length("VARCHAR" if self.is_parsed else self.type, self.length)

    @property
    def spelled(self) -> str:
        """Return the type as DDL spells it, with its length."""
        return _with_length(self.type, self.length)

    def read(self, cell: str) -> str:
        """Return the SQL expression of a value, from that of its staged form."""
        expression = _PARSED.get(self.form, "{}")
        return (expression if self.must_parse else expression.replace("PARSE_JSON", "TRY_PARSE_JSON")).format(cell)

    def comparable(self, value: str) -> str:
        """Return the SQL expression of the staged form, from that of the value. Equal for equal values."""
        return f"TO_JSON({value})" if self.is_parsed else value


def _with_length(type_: str, length: int) -> str:
    return f"{type_}({length})" if length and type_ in ("VARCHAR", "BINARY") else type_


def length_of(target: Target, limit: int) -> int:
    """Return the length to declare for values of at most `limit` bytes; 0 when the default is enough.

    >>> length_of(_TEXT, 2**24), length_of(_TEXT, 2**25), length_of(_TARGETS[17], 2**25)
    (0, 33554432, 16777216)
    """
    if limit <= DEFAULT_LENGTH or (target.type not in ("VARCHAR", "BINARY") and not target.is_parsed):
        return 0
    return limit // 2 if target.type == "BINARY" else limit


def _number(precision: int, scale: int = 0) -> Target:
    return Target(type=f"NUMBER({precision},{scale})", form=Form.DECIMAL, precision=precision, scale=scale)


def _integer(digits: int) -> Target:
    return Target(type=f"NUMBER({digits},0)", form=Form.INTEGER)


_TEXT = Target(type="VARCHAR", form=Form.TEXT)
_FLOAT = Target(type="FLOAT", form=Form.FLOAT)

#: By type OID; any other type is stored as its text.
_TARGETS = {
    16: Target(type="BOOLEAN", form=Form.BOOLEAN),
    17: Target(type="BINARY", form=Form.BINARY),
    20: _integer(19),
    21: _integer(5),
    23: _integer(10),
    26: _integer(10),
    114: Target(type="VARIANT", form=Form.JSON_TEXT),
    700: _FLOAT,
    701: _FLOAT,
    790: Target(type="NUMBER(19,2)", form=Form.MONEY, precision=19, scale=2),
    1082: Target(type="DATE", form=Form.DATE),
    1083: Target(type="TIME(6)", form=Form.TIME),
    1114: Target(type="TIMESTAMP_NTZ(6)", form=Form.TIMESTAMP),
    1184: Target(type="TIMESTAMP_TZ(6)", form=Form.TIMESTAMP_TZ),
    1186: Target(type="VARCHAR", form=Form.INTERVAL),
    3802: Target(type="VARIANT", form=Form.JSON),
}

#: Types of extensions have different OIDs in each database, so they are identified by name.
_BY_NAME = {
    "hstore": Target(type="VARIANT", form=Form.HSTORE),
    "vector": Target(type="ARRAY", form=Form.VECTOR),
    "halfvec": Target(type="ARRAY", form=Form.VECTOR),
}

_BOX = 603


def target_of(column: Column, number: str | None = None) -> Target:
    """Return the type for a column. `number` is the type that the destination's config gives a `numeric`."""
    if column.element_oid:
        element = _scalar(column.element_oid, column.type.removesuffix("[]"), None)
        delimiter = ";" if column.element_oid == _BOX else ","
        return Target(type="VARIANT", form=Form.ARRAY, element=element, delimiter=delimiter)
    return _scalar(column.base_oid, column.type, number)


def _scalar(oid: int, name: str, number: str | None) -> Target:
    if oid == _NUMERIC:
        return _wanted(number) if number else _numeric(name)
    return _TARGETS.get(oid) or _BY_NAME.get(_plain_name(name), _TEXT)


def _plain_name(name: str) -> str:
    """Return a type's name without namespace and modifier."""
    return name.rpartition(".")[2].partition("(")[0].strip('"')


def _wanted(number: str) -> Target:
    found = re.fullmatch(r"NUMBER\((\d+),(\d+)\)", number)
    if found:
        return _number(int(found[1]), int(found[2]))
    return _FLOAT if number == "FLOAT" else _TEXT


def _numeric(name: str) -> Target:
    """Return NUMBER for a `numeric` whose precision is known and fits; text, without loss, for any other."""
    found = re.search(r"\((\d+),(-?\d+)\)", name)
    if not found:
        return _TEXT
    precision, scale = int(found[1]), int(found[2])
    if scale < 0:
        precision, scale = precision - scale, 0
    precision = max(precision, scale)
    return _number(precision, scale) if precision <= PRECISION_LIMIT and scale <= SCALE_LIMIT else _TEXT
