"""How a table is named: the one thing that errors, values and configuration all speak of."""

from typing import NamedTuple, Self


class TableId(NamedTuple):
    """A table by namespace and name, as the catalog spells them (not quoted, case kept)."""

    namespace: str
    name: str

    @classmethod
    def parse(cls, text: str) -> Self:
        """Read `namespace.name`; a name alone is of `public`. The first dot separates."""
        namespace, dot, name = text.partition(".")
        return cls(namespace, name) if dot else cls("public", namespace)

    def __str__(self) -> str:
        return f"{self.namespace}.{self.name}"
