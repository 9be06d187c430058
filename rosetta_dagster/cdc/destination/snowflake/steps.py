"""Tests the connection of a Snowflake destination: a log-in, and a temporary table."""

from collections.abc import Iterator

from rosetta_dagster.cdc.connection_steps import Outcome, Step, failed
from rosetta_dagster.cdc.destination.snowflake.config import SnowflakeDestinationConfig
from rosetta_dagster.cdc.destination.snowflake.connection import connect
from rosetta_dagster.cdc.destination.snowflake.login import log_in_of
from rosetta_dagster.cdc.errors import RosettaError


def steps(name: str, settings: SnowflakeDestinationConfig) -> Iterator[Step]:
    """Yield each step when it is done. Nothing that it makes remains."""
    place = f"destination {name}"
    try:
        with connect(settings, log_in_of(settings), who=place, tag="rosetta") as session:
            ((user, role),) = session.execute("SELECT CURRENT_USER(), CURRENT_ROLE()")
            yield Step(place=place, name="log-in", outcome=Outcome.OK, detail=f"as {user} with role {role}")
            session.execute("CREATE TEMPORARY TABLE IF NOT EXISTS rosetta_test (id INTEGER)")
            session.execute("DROP TABLE IF EXISTS rosetta_test")
            yield Step(place=place, name="write", outcome=Outcome.OK, detail="a temporary table was made")
    except RosettaError as error:
        yield failed(place, "log-in and write", error)
