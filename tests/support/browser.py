"""A headless Chromium, one process for each page: what a page shows once it is quiet, as text or as a picture."""

import html
import re
import shutil
import subprocess
from pathlib import Path

#: The names that Chromium goes by.
NAMES = ("chromium", "chromium-browser", "google-chrome")

#: Milliseconds of the page's own clock until it is looked at. They pass as fast as the page's requests are answered.
PATIENCE = 20_000

#: Seconds that a page may take in all.
LIMIT = 90


def chromium() -> str | None:
    """The program; None when there is none."""
    return next((path for name in NAMES if (path := shutil.which(name)) is not None), None)


def shown(url: str, profile: Path) -> str:
    """The text of the page, with a space where elements end."""
    dom = _run(url, profile, "--dump-dom")
    visible = re.sub(r"<(script|style)\b.*?</\1>", " ", dom, flags=re.DOTALL)
    return " ".join(html.unescape(re.sub(r"<[^>]*>", " ", visible)).split())


def picture(url: str, profile: Path, file: Path, *, width: int, height: int) -> None:
    """Write the page as a PNG."""
    _run(url, profile, f"--screenshot={file}", f"--window-size={width},{height}", "--hide-scrollbars")


def _run(url: str, profile: Path, *arguments: str) -> str:
    """Each process has a profile of its own and ends by itself; `--no-sandbox` is what it takes to run as root."""
    program = chromium()
    assert program is not None, "the test is skipped without it"
    return subprocess.run(
        [
            program, "--headless=new", "--no-sandbox", "--disable-gpu", "--disable-dev-shm-usage", "--no-first-run",
            f"--user-data-dir={profile}", f"--virtual-time-budget={PATIENCE}", "--window-size=1500,1100", *arguments, url,
        ],
        capture_output=True, text=True, timeout=LIMIT, check=True,
    ).stdout  # fmt: skip
