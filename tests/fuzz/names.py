"""Strategies for names: those that break quoting, those that our own statements use, reserved words, and any others."""

from hypothesis import strategies as st
from hypothesis.strategies import SearchStrategy

_ODD = (
    'quo"te', 'a""b', "per%cent", "%s", "Upper Case", "naïve_日本語", "back\\slash", "comma,", "dot.ted", "{}", "x" * 63,
    "*", "apo'strophe", ".", "$", "[a]", "(a", "a+b", "ß ", "\\E", " ", "\t", "select", "user", "order", "NULL", "-1",
    # Names that the statements of Rosetta use.
    "op", "copies", "unchanged", "c0", "c1", "t", "s", "found", "number", "place", "relation", "excluded", "key", "id",
)  # fmt: skip

#: Of the server's own.
_RESERVED = frozenset({"ctid", "xmin", "xmax", "cmin", "cmax", "tableoid"})


def cut(name: str, byte_limit: int = 63) -> str:
    """As much of the name as the server keeps."""
    return name.encode()[:byte_limit].decode(errors="ignore")


def names(*, for_debezium: bool) -> SearchStrategy[str]:
    anything = st.text(st.characters(exclude_characters="\0", exclude_categories=["Cs"]), min_size=1, max_size=70).map(cut)
    plain = st.sampled_from(["a", "b", "amount", "note", "Name", "x1"])
    found = plain | st.sampled_from(_ODD) | anything
    legal = found.filter(lambda name: name not in _RESERVED and not name.startswith("pg_"))
    if for_debezium:
        # It reads quotes at some places of some names only.
        return legal.filter(lambda name: '"' not in name)
    return legal | st.sampled_from(['"', '"quoted"', 'two "words"'])


def told_apart(name: str, *, for_debezium: bool) -> str:
    """What tells the name from others: Debezium takes names that are the same but for case for one."""
    return name.lower() if for_debezium else name


def quoted(*parts: str) -> str:
    return ".".join('"{}"'.format(part.replace('"', '""')) for part in parts)


def literal(text: str | None) -> str:
    """As SQL has it under `standard_conforming_strings`."""
    return "NULL" if text is None else "'{}'".format(text.replace("'", "''"))
