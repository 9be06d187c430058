"""Decides how a source's names are spelled at Snowflake."""

import re
from collections import Counter
from collections.abc import Iterable
from dataclasses import dataclass

from rosetta_dagster.cdc.errors import DestinationRejected
from rosetta_dagster.cdc.table_id import TableId

#: Snowflake allows no column of these names in upper case, not even quoted.
_RESERVED_COLUMNS = frozenset(
    {"CURRENT_DATE", "CURRENT_TIME", "CURRENT_TIMESTAMP", "CURRENT_USER", "LOCALTIME", "LOCALTIMESTAMP"}
)

_PLAIN = re.compile(r"[A-Za-z_][A-Za-z0-9_$]*")


@dataclass(frozen=True, slots=True)
class Names:
    """Spells names. By default a name that needs no quotes is written in upper case, as Snowflake itself would.

    A column whose name Snowflake reserves is in lower case.

    >>> Names().of("orders"), Names().of("Order Lines"), Names(preserve_case=True).of("orders")
    ('ORDERS', 'Order Lines', 'orders')
    """

    preserve_case: bool = False

    def of(self, name: str) -> str:
        """Return a column's name at Snowflake."""
        spelled = self._cased(name)
        return spelled.lower() if spelled in _RESERVED_COLUMNS else spelled

    def table(self, table: TableId) -> TableId:
        return TableId(self._cased(table.namespace), self._cased(table.name))

    def _cased(self, name: str) -> str:
        return name if self.preserve_case or not is_plain(name) else name.upper()

    def distinct(self, names: Iterable[str], place: str) -> list[str]:
        """Return the names as they are spelled. Raise `DestinationRejected` when two of them would be the same."""
        spelled = [self.of(name) for name in names]
        twice = [name for name, count in Counter(spelled).items() if count > 1]
        if twice:
            raise DestinationRejected(
                f"Columns of {place} differ only by their case and would be one at Snowflake: {', '.join(twice)}.",
                'Set "preserve_case": true in the config of the destination.',
            )
        return spelled


def is_plain(name: str) -> bool:
    """Return whether SQL can write the name without quotes."""
    return _PLAIN.fullmatch(name) is not None


def quoted(*parts: str) -> str:
    """Return a name in SQL, always quoted, so that no word is reserved.

    >>> quoted("SHOP", 'quo"te')
    '"SHOP"."quo""te"'
    """
    return ".".join('"' + part.replace('"', '""') + '"' for part in parts)
