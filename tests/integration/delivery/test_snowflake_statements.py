"""The statements of a start, an idle hour and a flush, as docs/snowflake-emulator.md lists them."""

import re
from pathlib import Path

from rosetta_dagster.cdc.change.position import Lsn
from rosetta_dagster.embedded.snowflake import SnowflakeServer
from rosetta_dagster.embedded.snowflake.server import Statement
from tests.support.changes import insert, update
from tests.support.replica import ITEMS, NOTES
from tests.support.snowflake_database import SnowflakeDatabase
from tests.support.snowflake_destination import Open
from tests.support.snowflake_values import apply

PAGE = Path(__file__).parents[3] / "docs" / "snowflake-emulator.md"

#: What differs from run to run, and what stands for it on the page.
_NAMES = (
    (r"(STREAM|FENCE|NOTED|STAGED)_SHOP_[0-9A-F]{8}", r"\1_…"),
    (r"STAGED_…_[0-9A-F]{12}_\d+", "STAGED_…"),
    (r"STAGE/SHOP_[0-9A-F]{8}/([0-9a-f]{32}/)?", "STAGE/…/"),
    (r"'file://[^']*'", "'…'"),
    (r"IS '\d+ at [\d ]+'", "IS '…'"),
    (r"STARTS WITH '([A-Z]+_…)[^']*'", r"STARTS WITH '\1'"),
)


def test_the_page_lists_the_statements_of_a_start_an_idle_hour_and_a_flush(
    begin: Open, snowflake_database: SnowflakeDatabase
) -> None:
    server = snowflake_database.server
    assert server is not None
    first = begin(ITEMS, NOTES)
    apply(first, 1, insert(ITEMS, "1", "a", None), insert(NOTES, "n", None))
    first.note(Lsn(1))
    first.close()
    server.forget_statements()
    destination = begin(ITEMS, NOTES)
    found = rows_of("start", server)
    destination.note(Lsn(2))
    found += rows_of("idle", server)
    # The staging tables exist from the second flush on.
    apply(destination, 2, insert(ITEMS, "2", "b", None))
    server.forget_statements()
    apply(destination, 3, update(ITEMS, "2", "c", None))
    found += rows_of("flush", server)
    listed = [line for line in PAGE.read_text().splitlines() if re.match(r"\| (start|idle|flush) \|", line)]
    assert listed == found, "write these lines to the page:\n" + "\n".join(found)


def rows_of(phase: str, server: SnowflakeServer) -> list[str]:
    """The statements since the last call, as lines of the page's table."""
    lines = [f"| {phase} | `{shown(each)}` | {'yes' if each.used_warehouse else 'no'} |" for each in server.statements()]
    server.forget_statements()
    return list(dict.fromkeys(lines))


def shown(statement: Statement) -> str:
    text = statement.text.splitlines()[0]
    for pattern, short in _NAMES:
        text = re.sub(pattern, short, text)
    return text.replace("|", "\\|") if len(text) < 90 else f"{text[:88]}…"
