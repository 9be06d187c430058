"""Errors that real servers raise: the message names the object and no value, and the remedy fits."""

import psycopg
import pytest

from rosetta_dagster.cdc.errors import DestinationRejected, DestinationUnavailable, RosettaError
from rosetta_dagster.cdc.postgres.errors import Translation, translate
from tests.support.database import Database

_VALUE = "a-value-of-a-row"


@pytest.mark.parametrize(
    ("statement", "kind", "message", "remedy"),
    [
        ("CREATE UNLOGGED TABLE u (a int); CREATE PUBLICATION p FOR TABLE u", DestinationRejected,
         'cannot add relation "u" to publication (22023)', "SET LOGGED"),
        ("CREATE PUBLICATION p FOR TABLE pg_class", DestinationRejected, '"pg_class" to publication (22023)',
         "pipeline_tables"),
        ("CREATE TABLE t (a int); CREATE VIEW v AS SELECT a FROM t; ALTER TABLE t ALTER a TYPE bigint", DestinationRejected,
         'rule _RETURN on view v depends on column "a" (0A000)', "drop it"),
        ("SET temp_file_limit = 1; SET work_mem = 64; SELECT count(DISTINCT n::text) FROM generate_series(1, 200000) AS n",
         DestinationRejected, "temp_file_limit", "temp_file_limit"),
        ("SET work_mem = 'little'", DestinationRejected, "work_mem", "Correct the setting"),
        ("SET statement_timeout = 20; SELECT pg_sleep(5)", DestinationUnavailable, "statement timeout", "statement_timeout"),
        ("CREATE TABLE t (m mood)", DestinationRejected, 'type "mood" does not exist', "enum, domain, composite, extension"),
        ("CREATE TYPE mood AS ENUM ('a'); SELECT '{}'::mood", DestinationRejected, "(22P02)", "ADD VALUE"),
        ("CREATE TABLE t (a varchar(3)); INSERT INTO t VALUES ('{}')", DestinationRejected, "(22001)", "too short"),
        ("CREATE TABLE t (a int GENERATED ALWAYS AS IDENTITY); INSERT INTO t VALUES (1)", DestinationRejected, "(428C9)",
         "BY DEFAULT"),
        ("DO $$ BEGIN RAISE '{}' USING ERRCODE = '42P01'; END $$", DestinationRejected, "UndefinedTable (42P01)", "missing"),
        ("SELECT regexp_replace('a', 'a', 'b', '{}')", DestinationRejected, "InvalidParameterValue (22023)", "functions"),
        ("SELECT * FROM nowhere.t", DestinationRejected, 'relation "nowhere.t" does not exist', "table is missing"),
        ("CREATE TABLE nowhere.t ()", DestinationRejected, 'schema "nowhere" does not exist', "schema is missing"),
        ("CREATE TABLE t (a int) PARTITION BY RANGE (a); INSERT INTO t VALUES (1)", DestinationRejected,
         "(23514) at table t", "partition"),
    ],
)  # fmt: skip
def test_an_error_names_the_object_and_what_to_do(
    destination: Database, statement: str, kind: type[RosettaError], message: str, remedy: str
) -> None:
    translation = Translation(who="destination d", unavailable=DestinationUnavailable, rejected=DestinationRejected)
    with pytest.raises(psycopg.Error) as caught:
        destination.run(statement.replace("{}", _VALUE))
    error = translate(caught.value, translation)
    assert kind is type(error)
    assert message in error.message
    assert remedy in error.remedy
    assert _VALUE not in str(error)
    assert "\n" not in str(error)
