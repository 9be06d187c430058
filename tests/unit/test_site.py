"""The site of the documentation is built without a warning, and loads nothing from elsewhere."""

import os
import re
import subprocess
import sys
from pathlib import Path

import pytest

ROOT = Path(__file__).parents[2]

_RESOURCE = re.compile(r"<(?:script|link|img|iframe|source)\b[^>]*\b(?:src|href)=\"?((?:https?:)?//[^\" >]*)")


@pytest.fixture(scope="module")
def site(tmp_path_factory: pytest.TempPathFactory) -> Path:
    directory = tmp_path_factory.mktemp("site")
    command = [sys.executable, "-m", "mkdocs", "build", "--strict", "--quiet", "--site-dir", str(directory)]
    environment = {**os.environ, "NO_MKDOCS_2_WARNING": "1"}
    run = subprocess.run(command, cwd=ROOT, env=environment, capture_output=True, text=True, check=False)
    assert 0 == run.returncode, run.stdout + run.stderr
    return directory


def test_no_page_loads_anything_from_elsewhere(site: Path) -> None:
    pages = list(site.rglob("*.html"))
    assert 30 < len(pages)
    assert [] == [(page.name, found) for page in pages for found in _RESOURCE.findall(page.read_text())]
    # The theme would fetch a script for a diagram that is not drawn yet.
    assert [] == [page.name for page in pages if 'class="mermaid"' in page.read_text()]


def test_diagrams_are_drawn_and_pages_can_be_searched(site: Path) -> None:
    assert 3 == len(re.findall(r'<svg id="diagram-[0-9a-f]{8}"', (site / "architecture.html").read_text()))
    assert "confirmed flush LSN" in (site / "search" / "search_index.json").read_text()


def test_pages_of_the_root_join_the_site(site: Path) -> None:
    assert 'href="limitations.html#transactions"' in (site / "guarantees.html").read_text()
    assert 'id="types-with-the-engine-debezium"' in (site / "limitations.html").read_text()
    assert "Add a check to the stream" in (site / "contributing.html").read_text()
