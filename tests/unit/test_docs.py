"""What the documentation names is there."""

import ast
import re
from functools import cache
from pathlib import Path

import pytest

ROOT = Path(__file__).parents[2]
PAGE = (ROOT / "docs" / "guarantees.md").read_text()

#: Rows that say what does not hold, or not yet, begin with one of these.
_EXCEPTIONS = ("in part: ", "not tested: ", "not yet: ")


@cache
def names_in(file: Path) -> frozenset[str]:
    """The tests of a file, by name, or by class and name."""
    found: set[str] = set()
    for node in ast.parse(file.read_text()).body:
        if isinstance(node, ast.FunctionDef):
            found.add(node.name)
        elif isinstance(node, ast.ClassDef):
            found |= {f"{node.name}::{each.name}" for each in node.body if isinstance(each, ast.FunctionDef)}
    return frozenset(found)


def rows() -> list[list[str]]:
    """The cells of every row but the heads of the tables."""
    lines = [line for line in PAGE.splitlines() if line.startswith("| ") and not line.startswith("| Rosetta guarantees")]
    return [[cell.strip() for cell in line.strip("|").split("|")] for line in lines]


def named(text: str) -> list[str]:
    return re.findall(r"`(tests/[^`]*::[^`]*)`", text)


def test_the_page_is_read() -> None:
    assert 50 < len(rows())
    assert 80 < len(set(named(PAGE)))


@pytest.mark.parametrize("name", sorted(set(named(PAGE))))
def test_every_test_that_is_named_exists(name: str) -> None:
    file, _, test = name.partition("::")
    assert (ROOT / file).is_file(), file
    assert test.rpartition("::")[2].startswith("test_")
    assert test in names_in(ROOT / file)


@pytest.mark.parametrize("cells", rows(), ids=lambda cells: cells[0][:50])
def test_every_line_has_a_test_or_says_what_does_not_hold(cells: list[str]) -> None:
    assert 3 == len(cells), "a line has three cells"
    if not cells[0].startswith(_EXCEPTIONS):
        assert named(cells[2]), "a line that holds names a test"
    else:
        assert "LIMITATIONS.md#" in cells[2], "a line that does not hold says where that is told"


@pytest.mark.parametrize("link", sorted(set(re.findall(r"\]\((\.\./[^)]+)\)", PAGE))))
def test_every_link_leads_to_a_heading(link: str) -> None:
    path, _, anchor = link.partition("#")
    text = (ROOT / "docs" / path).read_text()
    titles = re.findall(r"^#+ (.*)$", text, re.MULTILINE)
    headings = [re.sub(r"[^\w\- ]", "", title.lower()).replace(" ", "-") for title in titles]
    assert not anchor or anchor in headings


def test_what_is_marked_long_is_marked_so_on_the_page() -> None:
    marked = {
        f"{file.relative_to(ROOT)}::{node.name}"
        for file in (ROOT / "tests").rglob("test_*.py")
        for node in ast.parse(file.read_text()).body
        if isinstance(node, ast.FunctionDef) and any("mark.long" in ast.unparse(each) for each in node.decorator_list)
    }
    assert marked
    assert marked == {name for _, over, proof in rows() if "*long*" in over for name in named(proof)}
