"""When assets that are made from replicated tables are made anew."""

from typing import Any

import dagster as dg


def on_table_change() -> dg.AutomationCondition[Any]:
    """Run an asset when one of the tables that it depends on has changed, and at first when all of them are there.

    `AutomationCondition.eager` does not do here: it waits until no dependency is in progress, and a table that has not
    changed since its pipeline's run began is in progress until it does, which may be for months.
    """
    changed = dg.AutomationCondition.any_deps_match(dg.AutomationCondition.data_version_changed())
    due = (dg.AutomationCondition.newly_missing() | changed).since_last_handled()
    is_possible = ~dg.AutomationCondition.any_deps_missing() & ~dg.AutomationCondition.in_progress()
    return (due & is_possible).with_label("on_table_change")
