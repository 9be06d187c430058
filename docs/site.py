"""Hooks of MkDocs: pages of the repository's root join the site, and diagrams are drawn while it is built.

Pages link to each other as files of the repository, so that they can be read there too. A link to a file that is no page of
the site becomes its text.
"""

import hashlib
import re
from os.path import relpath
from pathlib import Path
from typing import Any, Final

import mermaidx
from mkdocs.config.defaults import MkDocsConfig
from mkdocs.structure.files import File, Files
from mkdocs.structure.pages import Page

ROOT: Final = Path(__file__).resolve().parents[1]

#: Pages outside docs/, and what they are called in the site.
ROOT_PAGES: Final = {
    "LIMITATIONS.md": "limitations.md",
    "CHANGELOG.md": "changelog.md",
    "CONTRIBUTING.md": "contributing.md",
}

_LINK = re.compile(r"(?<!!)\[(?P<text>[^\]]*)\]\((?P<target>[^)#:\s]+)(?P<anchor>#[^)\s]*)?\)")


def on_files(files: Files, config: MkDocsConfig) -> Files:
    """Add the pages of the root."""
    for name, page in ROOT_PAGES.items():
        files.append(File.generated(config, page, content=(ROOT / name).read_text()))
    return files


def on_page_markdown(markdown: str, page: Page, config: MkDocsConfig, files: Files) -> str:
    """Let links lead to pages of the site."""
    del config, files
    uri = page.file.src_uri
    original = {site: ROOT / name for name, site in ROOT_PAGES.items()}.get(uri, ROOT / "docs" / uri)
    return _LINK.sub(lambda link: _linked(link, original, uri), markdown)


def diagram(source: str, language: str, css_class: str, options: dict[str, Any], md: Any, **_: Any) -> str:
    """Draw a diagram of Mermaid: the site loads nothing from elsewhere."""
    del language, options, md
    name = f"diagram-{hashlib.sha256(source.encode()).hexdigest()[:8]}"
    # Styles are bound to the picture's id, and a page may hold several.
    return f'<div class="{css_class}">{mermaidx.render(source).svg().replace("my-svg", name)}</div>'


def _linked(link: re.Match[str], original: Path, uri: str) -> str:
    target = (original.parent / link["target"]).resolve()
    if not target.is_relative_to(ROOT) or not target.exists():
        return link[0]
    path = target.relative_to(ROOT).as_posix()
    page = ROOT_PAGES.get(path) or (path.removeprefix("docs/") if path.startswith("docs/") else None)
    if page is None:
        return link["text"]
    return f"[{link['text']}]({relpath(page, Path(uri).parent)}{link['anchor'] or ''})"
