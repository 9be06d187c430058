"""Decides when assets that are made from replicated tables run again."""

from typing import Any

import dagster as dg


def on_table_change() -> dg.AutomationCondition[Any]:
    """Run an asset when a table that it depends on has changed, after a failed run, and first when all tables exist.

    Of a time-partitioned asset only the latest partition runs. Set a retry policy, or fix the asset: one that always fails
    runs again each time that Dagster notices the failure.

    `AutomationCondition.eager` does not serve: it waits while a dependency is in progress, and in a pipeline's run each
    table is in progress until it changes, which can take months.
    """
    changed = dg.AutomationCondition.any_deps_match(dg.AutomationCondition.data_version_changed())
    reason = dg.AutomationCondition.newly_missing() | changed
    # `since_last_handled` and a plain `newly_requested` lose changes: where reason and reset come in one tick, the reset
    # wins. A change that is noticed in the tick after a request may be too late for that request's run.
    answered = dg.AutomationCondition.newly_requested() & ~reason
    due = reason.since(answered)
    has_failed = dg.AutomationCondition.execution_failed().newly_true()
    is_possible = ~dg.AutomationCondition.any_deps_missing() & ~dg.AutomationCondition.in_progress()
    latest = dg.AutomationCondition.in_latest_time_window()
    return (latest & (due | has_failed) & is_possible).with_label("on_table_change")
