"""The documentation names what exists, leads where it says, says what the code says, and is in plain English."""

import ast
import io
import re
import tokenize
import tomllib
from collections.abc import Callable, Iterator
from functools import cache
from pathlib import Path

import pytest

from docs import generate
from rosetta_dagster.cdc import errors
from rosetta_dagster.orchestration.checks import ROW_CHECKS, STREAM_CHECKS
from rosetta_dagster.orchestration.table_checks import TABLE_CHECKS

ROOT = Path(__file__).parents[2]
PAGE = (ROOT / "docs" / "guarantees.md").read_text()

#: Every page that is written by hand, and those that are written from the code.
GENERATED = {f"docs/reference/{name}.md" for name in ("settings", "cli", "errors", "sql", "types")}
PAGES = sorted(
    path
    for path in (file.relative_to(ROOT).as_posix() for file in (*ROOT.glob("*.md"), *(ROOT / "docs").rglob("*.md")))
    if path not in GENERATED
)

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


@pytest.mark.parametrize("page", PAGES)
def test_every_link_leads_to_a_file_and_a_heading(page: str) -> None:
    file = ROOT / page
    for link in re.findall(r"\]\(([^)\s]+)\)", file.read_text()):
        path, _, anchor = link.partition("#")
        if not path.startswith(("http:", "https:", "mailto:")):
            target = (file.parent / path).resolve() if path else file
            assert target.exists(), link
            assert not anchor or anchor in headings_of(target.read_text()), link


def headings_of(text: str) -> list[str]:
    titles = re.findall(r"^#+ (.*)$", text, re.MULTILINE)
    return [re.sub(r"[^\w\- ]", "", title.lower()).replace(" ", "-") for title in titles]


def test_every_page_is_in_the_navigation_of_the_site() -> None:
    navigation = (ROOT / "mkdocs.yml").read_text()
    pages = [page.removeprefix("docs/") for page in (*PAGES, *GENERATED) if page.startswith("docs/")]
    assert [] == [page for page in pages if f"{page}\n" not in navigation]


@pytest.mark.parametrize(
    ("name", "page"),
    [
        ("settings", generate.settings_page),
        ("cli", generate.commands_page),
        ("errors", generate.errors_page),
        ("types", generate.types_page),
    ],
)
def test_the_reference_is_what_the_code_says(name: str, page: Callable[[], str]) -> None:
    assert page() == (ROOT / "docs" / "reference" / f"{name}.md").read_text(), "run: make docs"


def test_every_setting_threshold_and_error_is_explained() -> None:
    for page in (generate.settings_page(), generate.commands_page()):
        assert [] == re.findall(r"^\| .* \|\s+\|$", page, re.MULTILINE)
    kinds = [*errors.TransientError.__subclasses__(), *errors.TerminalError.__subclasses__()]
    assert [] == [kind.__name__ for kind in kinds if not kind.__doc__]


def test_the_page_of_checks_names_each_of_them() -> None:
    page = (ROOT / "docs" / "reference" / "checks.md").read_text()
    assert [*STREAM_CHECKS, *TABLE_CHECKS, *ROW_CHECKS] == re.findall(r"^\| `(\w+)` \|", page, re.MULTILINE)


def test_the_tree_of_errors_names_each_of_them() -> None:
    def kinds_below(kind: type[errors.RosettaError]) -> Iterator[str]:
        yield kind.__name__
        for each in kind.__subclasses__():
            if each.__module__ == errors.__name__:
                yield from kinds_below(each)

    tree = re.findall(r"^ +[│├└─ ]*([A-Z]\w+)", errors.__doc__ or "", re.MULTILINE)
    assert sorted(kinds_below(errors.RosettaError)) == sorted(tree)


def test_every_exemption_of_the_linter_is_for_files_that_exist() -> None:
    exemptions = tomllib.loads((ROOT / "pyproject.toml").read_text())["tool"]["ruff"]["lint"]["per-file-ignores"]
    assert [] == [pattern for pattern in exemptions if not any(ROOT.glob(pattern))]


def test_no_page_names_a_place_of_one_machine() -> None:
    place = re.compile(r"/(work|home|root|tmp)/\w|\.internal\b|[Aa]rtifactory")
    assert [] == [(page, found[0]) for page in PAGES if (found := place.search((ROOT / page).read_text()))]


def test_what_is_marked_long_is_marked_so_on_the_page() -> None:
    """A test that is long in some of its parameters only may be marked: its row may name the larger sizes."""
    decorators = {
        f"{file.relative_to(ROOT)}::{node.name}": [ast.unparse(each) for each in node.decorator_list]
        for file in (ROOT / "tests").rglob("test_*.py")
        for node in ast.parse(file.read_text()).body
        if isinstance(node, ast.FunctionDef)
    }
    long = {name for name, found in decorators.items() if "pytest.mark.long" in found}
    long_in_part = {name for name, found in decorators.items() if any("mark.long" in each for each in found)}
    assert long
    assert long <= {name for _, over, proof in rows() if "*long*" in over for name in named(proof)} <= long_in_part


#: What plain English does without, and what it says instead.
WORDS = {
    r"\b(tells?|told|telling)\b": "reports, records, identifies, describes, distinguishes",
    r"\banew\b": "again, from scratch",
    r"\bno more\b(?! (than|often))": "no longer",
    r"\boftener\b": "more often",
    r"\bwhole again\b": "recovered",
    r"\b(takes|taken) for\b": "treats as, considers",
    r"\bholds? of\b": "its copy of, what it has applied of",
    r"\bwhoever\b|^Whatever\b|(?<=[.:] )Whatever\b": "a plain noun",
    r"\bso it is with\b": "works the same way",
    r"\b(is|are|was|were) (not )?there\b": "exists, is missing",
    r"(?-i:\bit|\bthem) never\b": "never before the verb",
    r"\black(s|ed|ing)?\b": "is missing",
    r"\bmend(s|ed|ing)?\b": "fix, repair, correct; passes with time",
}
_WORDS = {re.compile(word, re.IGNORECASE | re.MULTILINE): instead for word, instead in WORDS.items()}


def words_of(texts: Iterator[tuple[int, str]]) -> list[tuple[int, str, str]]:
    """The line, the word and its replacement of each word that the list refuses."""
    return [
        (line, found[0], instead)
        for line, text in texts
        for word, instead in _WORDS.items()
        for found in word.finditer(text)
    ]


def lines_of_a_page(text: str) -> Iterator[tuple[int, str]]:
    """The lines of a page without what stands in code: names of tests, messages of other programs."""
    without_blocks = re.sub(r"```.*?```", lambda block: "\n" * block[0].count("\n"), text, flags=re.DOTALL)
    for number, line in enumerate(without_blocks.splitlines(), 1):
        yield number, re.sub(r"`[^`]*`", "", line)


def docstrings_and_comments(text: str) -> Iterator[tuple[int, str]]:
    for token in tokenize.generate_tokens(io.StringIO(text).readline):
        if token.type == tokenize.COMMENT:
            yield token.start[0], token.string.lstrip("#: ")
    for node in ast.walk(ast.parse(text)):
        if isinstance(node, ast.Module | ast.ClassDef | ast.FunctionDef | ast.AsyncFunctionDef):
            docstring = ast.get_docstring(node)
            if docstring is not None:
                yield node.body[0].lineno, docstring


@cache
def words_of_a_folder(folder: str) -> list[tuple[str, int, str, str]]:
    """The words of the files in a folder, without those of the folders below it."""
    return [
        (file.name, *found)
        for file in sorted((ROOT / folder).glob("*.py"))
        for found in words_of(docstrings_and_comments(file.read_text()))
    ]


def names_of_tests(file: Path) -> Iterator[tuple[int, str]]:
    """The names of a file's tests as sentences."""
    for node in ast.walk(ast.parse(file.read_text())):
        if isinstance(node, ast.FunctionDef) and node.name.startswith("test_"):
            yield node.lineno, node.name.replace("_", " ")


def folders(*tops: str) -> list[str]:
    return sorted({file.parent.relative_to(ROOT).as_posix() for top in tops for file in (ROOT / top).rglob("*.py")})


@pytest.mark.parametrize("page", PAGES)
def test_pages_are_in_plain_english(page: str) -> None:
    assert [] == words_of(lines_of_a_page((ROOT / page).read_text()))


@pytest.mark.parametrize("folder", folders("rosetta_dagster", "bench", "docs"))
def test_docstrings_and_comments_are_in_plain_english(folder: str) -> None:
    assert [] == words_of_a_folder(folder)


@pytest.mark.parametrize("folder", folders("tests"))
def test_names_of_tests_are_in_plain_english(folder: str) -> None:
    found = {file.name: words_of(names_of_tests(file)) for file in sorted((ROOT / folder).glob("test_*.py"))}
    assert {} == {name: words for name, words in found.items() if words}


def test_the_words_are_found_where_they_stand() -> None:
    sample = '"""Whatever is told."""\n#: It lacks a name.\nx = "told"\n'
    assert {(1, "Whatever"), (1, "told"), (2, "lacks")} == {
        (line, word) for line, word, _ in words_of(docstrings_and_comments(sample))
    }
    assert [(1, "anew")] == [found[:2] for found in words_of(lines_of_a_page("Copied anew, `told`.\n```\ntold\n```\n"))]
