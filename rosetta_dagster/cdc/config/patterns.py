"""Decides which tables a pattern of names matches: `*` stands for any text, `?` for one character, the rest for itself."""

import re
from collections.abc import Iterable
from functools import cache
from typing import Final

from pydantic import BaseModel, Field, field_validator

from rosetta_dagster.cdc.config.wording import worded
from rosetta_dagster.cdc.errors import ConfigurationError
from rosetta_dagster.cdc.table_id import TableId

#: What other languages of patterns, and quoted names, are written with. Who writes it expects what there is not.
_OF_OTHER_LANGUAGES: Final = re.compile(r'[%\\\[\]()|^"]')


class PatternOptions(BaseModel):
    """The options of a pipeline for the patterns among its tables."""

    exclude_tables: tuple[str, ...] = Field(
        default=(), description="Tables that no pattern stands for, as namespace.table; patterns, too."
    )
    max_tables: int = Field(
        default=1000, ge=1, description="Number of tables at which patterns stop adding tables to the pipeline."
    )

    @field_validator("exclude_tables")
    @classmethod
    def _can_match(cls, excluded: tuple[str, ...]) -> tuple[str, ...]:
        for text in excluded:
            if (found := problem_of(TableId.parse(text))) is not None:
                raise worded(f"exclude_tables: {text} is not valid: {found}")
        return excluded

    @property
    def excluded(self) -> tuple[TableId, ...]:
        """The names and patterns of tables that no pattern stands for."""
        return tuple(map(TableId.parse, self.exclude_tables))


def is_pattern(table: TableId) -> bool:
    """Return whether the name stands for any number of tables.

    >>> is_pattern(TableId("shop", "*")), is_pattern(TableId("shop", "orders_2024"))
    (True, False)
    """
    return any(wildcard in part for part in table for wildcard in "*?")


def matches(pattern: TableId, table: TableId) -> bool:
    """Return whether the pattern, or the plain name, stands for the table. Case counts.

    >>> matches(TableId("billing", "invoice_*"), TableId("billing", "invoice_2024"))
    True
    >>> matches(TableId("shop", "*"), TableId("shop_eu", "orders"))
    False
    """
    return all(_expression(part).fullmatch(name) is not None for part, name in zip(pattern, table, strict=True))


def is_matched(table: TableId, patterns: Iterable[TableId]) -> bool:
    """Return whether one of the patterns stands for the table."""
    return any(matches(pattern, table) for pattern in patterns)


def specificity(pattern: TableId) -> tuple[int, TableId]:
    """Return what patterns that match one table are ordered by: the last of them has the most that is not a wildcard."""
    return sum(letter not in "*?" for part in pattern for letter in part), pattern


def problem_of(table: TableId) -> str | None:
    """Return what is wrong with the pattern, as a clause; None when nothing is."""
    if not table.namespace or not table.name:
        return "it has to be namespace.table, such as shop.*"
    if found := _OF_OTHER_LANGUAGES.search("".join(table)):
        return f"it has {found[0]}, and only * and ? are wildcards; names are written without quotes"
    return None


def refuse_bad_pattern(table: TableId) -> None:
    """Raise `ConfigurationError` if the name is a pattern that matches nothing that anybody can mean."""
    if is_pattern(table) and (found := problem_of(table)) is not None:
        raise ConfigurationError(f"The pattern {table} is not valid: {found}.", "Correct the pattern.")


@cache
def _expression(part: str) -> re.Pattern[str]:
    wildcards = {"*": ".*", "?": "."}
    return re.compile("".join(wildcards.get(letter) or re.escape(letter) for letter in part), re.DOTALL)
