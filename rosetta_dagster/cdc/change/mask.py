"""Decides what becomes of a value of a masked column, and of which type the column is at the destinations.

A mask sees PostgreSQL's text form of a value. So equal texts have equal hashes, whatever the types of their columns are:
masked keys of several tables still join.
"""

import re
from collections.abc import Callable
from dataclasses import replace
from hashlib import sha256
from typing import Final, TypeAlias

from rosetta_dagster.cdc.change.schema import Column

#: What a column can be given.
HASH, REDACT, YEAR = "hash", "redact", "year"
KEEP_LAST: Final = re.compile(r"keep_last\(([1-9][0-9]?)\)")

#: Every mask, as a message names them.
NAMES: Final = f"{HASH}, {REDACT}, {YEAR} and keep_last(n) with n from 1 to 99"

#: What stands for text that is left out.
STARS: Final = b"***"

#: Types by OID: dates and timestamps; texts, whole numbers, numeric and uuid.
_DATES: Final = frozenset({1082, 1114, 1184})
_WITH_LAST: Final = frozenset({18, 19, 20, 21, 23, 25, 1042, 1043, 1700, 2950})

_BLOCK_SIZE: Final = 64

#: Returns what a value, which is not NULL, becomes.
Mask: TypeAlias = Callable[[bytes], bytes | None]


def is_mask(name: str) -> bool:
    return name in (HASH, REDACT, YEAR) or KEEP_LAST.fullmatch(name) is not None


def mask_of(name: str, salt: bytes) -> Mask:
    """Return the mask of this name. The salt matters to `hash` only."""
    if name == HASH:
        return hmac_of(salt)
    if name == YEAR:
        return year
    found = KEEP_LAST.fullmatch(name)
    return redact if found is None else keep_last(int(found[1]))


def hmac_of(salt: bytes) -> Mask:
    """Return what computes HMAC-SHA-256 under the salt, in hex.

    By `hashlib`, since `hmac.digest` sets up its key for each value: it takes three times as long for a short one.
    """
    key = (sha256(salt).digest() if len(salt) > _BLOCK_SIZE else salt).ljust(_BLOCK_SIZE, b"\0")
    inner, outer = bytes(byte ^ 0x36 for byte in key), bytes(byte ^ 0x5C for byte in key)

    def digest(value: bytes) -> bytes:
        return sha256(outer + sha256(inner + value).digest()).hexdigest().encode()

    return digest


def redact(_value: bytes) -> bytes:
    """Return the same for every value."""
    return STARS


def keep_last(count: int) -> Mask:
    """Return what keeps the last characters of a value that has more than these."""

    def kept(value: bytes) -> bytes:
        text = value.decode(errors="replace")
        return STARS + text[-count:].encode() if len(text) > count else STARS

    return kept


def year(value: bytes) -> bytes | None:
    """Return the year of a date or timestamp: negative before Christ, as EXTRACT has it. NULL for one that is infinite."""
    number, dash, _ = value.partition(b"-")
    if not dash or not number:
        return None
    text = b"%d" % int(number)
    return b"-" + text if value.endswith(b" BC") else text


def masked_column(column: Column, name: str) -> Column:
    """Return the column as the destinations have it. It remembers the source's own, without any value of a row."""
    own = replace(column, fill_value=None)
    if name == YEAR:
        # A date that is infinite has no year.
        type_name, oid, not_null = "integer", 23, False
    else:
        type_name, oid, not_null = "text", 25, column.not_null
    plain = {"type": type_name, "type_oid": oid, "base_oid": oid, "element_oid": 0, "type_modifier": -1}
    return replace(column, **plain, not_null=not_null, mask=name, unmasked=own)  # type: ignore[arg-type]  # by name


def misfit(column: Column, name: str, *, is_key: bool) -> str | None:
    """Return why a column cannot have a mask, as a clause; None when it can."""
    if is_key and name != HASH:
        return f"it is of the key, and only {HASH} keeps keys apart"
    if name == YEAR and column.base_oid not in _DATES:
        return f"{YEAR} needs a date or a timestamp, and it is {column.type}"
    if KEEP_LAST.fullmatch(name) and column.base_oid not in _WITH_LAST and column.type.rpartition(".")[2] != "citext":
        return f"{name} needs a text, a number or a uuid, and it is {column.type}"
    return None
