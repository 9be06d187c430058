"""Tables of every kind and name, copied and followed over both engines."""

import pytest
from psycopg import sql

from rosetta_dagster.cdc.change.position import Engine
from rosetta_dagster.cdc.errors import ChangeUndecodable, PreflightFailed
from rosetta_dagster.cdc.run.worker import Worker
from rosetta_dagster.cdc.table_id import TableId
from tests.support.database import Database
from tests.support.engines import only_debezium, only_pgoutput
from tests.support.every_value import BIG
from tests.support.pipelines import failure, follow, is_streaming, pipeline, wait_until
from tests.support.waiting import TIMEOUT

ODD_NAMES = [
    'quo"te', "per%cent", "%s", "Upper Case", "naïve_日本語", "back\\slash", "comma,", "dot.ted", "{}", "op", "x" * 63, "*",
    "apo'strophe", "Ödd, ta.ble \\ {}", ".", "$", "[a]", "(a", "a+b", "ß ", "\\E", "^a|b", " ", "\t", "select", "excluded",
]  # fmt: skip


@pytest.mark.usefixtures("quick_beats")
class TestTablesOfEveryKind:
    def test_rows_of_a_table_without_a_key_are_counted(
        self, engine: Engine, source: Database, destination: Database
    ) -> None:
        source.run(
            "CREATE TABLE notes (text text, n int, doc json)",
            "ALTER TABLE notes REPLICA IDENTITY FULL",
            "INSERT INTO notes SELECT 'same', 1, '{}' FROM generate_series(1, 5)",
        )
        follow(
            engine,
            source,
            destination,
            ["notes"],
            "UPDATE notes SET n = 2 WHERE ctid IN (SELECT ctid FROM notes LIMIT 2)",
            "DELETE FROM notes WHERE ctid IN (SELECT ctid FROM notes WHERE n = 1 LIMIT 1)",
            "INSERT INTO notes VALUES ('same', 1, '{ }'), ('same', 1, '{}'), (NULL, NULL, NULL), (NULL, NULL, NULL)",
            "DELETE FROM notes WHERE ctid IN (SELECT ctid FROM notes WHERE n IS NULL LIMIT 1)",
        )

    def test_large_values_that_are_not_sent_again_move_with_the_key(
        self, engine: Engine, source: Database, destination: Database
    ) -> None:
        source.run(
            "CREATE TABLE documents (id int PRIMARY KEY, title text, body text, other text)",
            "ALTER TABLE documents ALTER body SET STORAGE EXTERNAL, ALTER other SET STORAGE EXTERNAL",
            *(f"INSERT INTO documents SELECT {n}, 't', {BIG.format(n)}, {BIG.format(n + 100)}" for n in (1, 2, 3, 4)),
        )
        follow(
            engine,
            source,
            destination,
            ["documents"],
            "UPDATE documents SET title = 'only this' WHERE id = 1",
            "UPDATE documents SET id = 20, title = 'moved' WHERE id = 2",
            "UPDATE documents SET id = 30, other = NULL WHERE id = 3",
            f"""
            BEGIN;
            UPDATE documents SET body = {BIG.format(77)} WHERE id = 4;
            UPDATE documents SET id = 40 WHERE id = 4;
            UPDATE documents SET title = 'after' WHERE id = 40;
            COMMIT
            """,
        )
        sizes = destination.rows("SELECT id, length(body), length(other) FROM documents ORDER BY id")
        assert [(1, 32000, 32000), (20, 32000, 32000), (30, 32000, None), (40, 32000, 32000)] == sizes

    def test_large_arrays_that_are_not_sent_again_stay(
        self, engine: Engine, source: Database, destination: Database
    ) -> None:
        source.run(
            "CREATE TABLE bags (id int PRIMARY KEY, n int, tags text[], numbers int[], ids uuid[])",
            *(f"ALTER TABLE bags ALTER {name} SET STORAGE EXTERNAL" for name in ("tags", "numbers", "ids")),
            f"""
            INSERT INTO bags SELECT n, 0, array_fill({BIG.format(1)}::text, ARRAY[2]), array_fill(n, ARRAY[2000]),
                array_fill(gen_random_uuid(), ARRAY[500])
            FROM generate_series(1, 90) AS n
            """,
        )
        follow(
            engine,
            source,
            destination,
            ["bags"],
            *(f"UPDATE bags SET n = n + 1 WHERE id = {n}" for n in range(1, 4)),
            "UPDATE bags SET n = n + 1",
            """
            BEGIN;
            INSERT INTO bags SELECT id + 1000, n, tags, numbers, ids FROM bags WHERE id < 4;
            UPDATE bags SET n = -1 WHERE id > 1000 OR id < 10;
            COMMIT
            """,
        )

    def test_tables_that_are_truncated_together_are_emptied_together(
        self, engine: Engine, source: Database, destination: Database
    ) -> None:
        source.run(
            "CREATE TABLE parents (id int PRIMARY KEY)",
            "CREATE TABLE children (id int PRIMARY KEY, parent int REFERENCES parents)",
            "INSERT INTO parents SELECT generate_series(1, 50)",
            "INSERT INTO children SELECT n, n FROM generate_series(1, 50) AS n",
        )
        follow(
            engine,
            source,
            destination,
            ["parents", "children"],
            "DELETE FROM children WHERE id > 40",
            "TRUNCATE parents CASCADE",
            "INSERT INTO parents VALUES (100)",
            "INSERT INTO children VALUES (100, 100)",
        )
        assert [(100,)] == destination.rows("SELECT parent FROM children")

    def test_a_partitioned_table_is_one_table(self, engine: Engine, source: Database, destination: Database) -> None:
        source.run(
            "CREATE TABLE parts (id int, month int, value text, PRIMARY KEY (month, id)) PARTITION BY RANGE (month)",
            "CREATE TABLE parts_1 PARTITION OF parts FOR VALUES FROM (1) TO (7)",
            # Its columns stand in another order.
            "CREATE TABLE parts_2 (value text, month int NOT NULL, id int NOT NULL)",
            "ALTER TABLE parts ATTACH PARTITION parts_2 FOR VALUES FROM (7) TO (13)",
            "INSERT INTO parts SELECT n, 1 + n % 12, 'v' || n FROM generate_series(1, 100) AS n",
        )
        follow(
            engine,
            source,
            destination,
            ["parts"],
            "UPDATE parts SET value = 'stays' WHERE id < 20",
            "UPDATE parts SET month = 13 - month WHERE id > 80",
            "DELETE FROM parts WHERE id BETWEEN 30 AND 40",
            "INSERT INTO parts VALUES (1000, 12, 'new')",
        )
        assert [("parts", "r")] == destination.rows(
            "SELECT relname::text, relkind::text FROM pg_class"
            " WHERE relnamespace = 'public'::regnamespace AND relkind IN ('r', 'p')"
        )

    def test_a_generated_column_is_left_out(self, engine: Engine, source: Database, destination: Database) -> None:
        source.run(
            "CREATE TABLE sums (id int PRIMARY KEY, a int, total int GENERATED ALWAYS AS (a * 2) STORED, b int)",
            "INSERT INTO sums (id, a, b) SELECT n, n, n FROM generate_series(1, 10) AS n",
        )
        follow(
            engine,
            source,
            destination,
            ["sums"],
            "UPDATE sums SET a = a + 1 WHERE id % 2 = 0",
            "INSERT INTO sums (id, a, b) VALUES (11, 1, NULL)",
        )
        columns = "SELECT attname::text FROM pg_attribute WHERE attrelid = 'sums'::regclass AND attnum > 0 ORDER BY attnum"
        assert [("id",), ("a",), ("b",)] == destination.rows(columns)

    def test_tables_of_one_name_in_two_namespaces_are_kept_apart(
        self, engine: Engine, source: Database, destination: Database
    ) -> None:
        source.run(
            "CREATE SCHEMA one",
            "CREATE SCHEMA other",
            "CREATE TABLE one.items (id int PRIMARY KEY, name text)",
            "CREATE TABLE other.items (name text, id int PRIMARY KEY, more int)",
            "INSERT INTO one.items VALUES (1, 'of one')",
            "INSERT INTO other.items VALUES ('of other', 1, 2)",
        )
        follow(
            engine,
            source,
            destination,
            ["one.items", "other.items"],
            "UPDATE one.items SET name = 'still of one'",
            "DELETE FROM other.items",
            "INSERT INTO other.items VALUES ('new of other', 2, 3)",
        )

    def test_namespaces_tables_and_columns_may_have_any_name(
        self, engine: Engine, source: Database, destination: Database
    ) -> None:
        for name in ODD_NAMES:
            source.run(*of_table(name, *ODD_TABLE))
        changes = [statement for name in ODD_NAMES for statement in of_table(name, *ODD_CHANGES)]
        follow(engine, source, destination, [TableId(name, name) for name in ODD_NAMES], *changes)

    @only_pgoutput
    def test_names_may_be_of_quotes(self, engine: Engine, source: Database, destination: Database) -> None:
        names = ('"quoted"', 'two "words"', '"')
        for name in names:
            source.run(*of_table(name, *ODD_TABLE))
        changes = [statement for name in names for statement in of_table(name, *ODD_CHANGES)]
        follow(engine, source, destination, [TableId(name, name) for name in names], *changes)

    @only_debezium
    @pytest.mark.parametrize("name", ['"quoted"', 'two "words"', '"'])
    def test_names_with_quotes_are_refused_since_debezium_would_leave_their_changes_out(
        self, engine: Engine, source: Database, destination: Database, name: str
    ) -> None:
        source.run(*of_table(name, *ODD_TABLE))
        with pytest.raises(PreflightFailed, match="Debezium cannot read the double quotes in"):
            failure(pipeline(engine, source, [destination], TableId(name, name)))

    @only_debezium
    def test_a_column_with_quotes_in_its_name_is_refused_too(
        self, engine: Engine, source: Database, destination: Database
    ) -> None:
        source.run('CREATE TABLE items (id int PRIMARY KEY, """key""" int)')
        with pytest.raises(PreflightFailed, match='double quotes in "key"'):
            failure(pipeline(engine, source, [destination], "items"))

    @only_debezium
    def test_quotes_within_a_column_are_refused_when_a_unique_index_makes_it_the_key(
        self, engine: Engine, source: Database, destination: Database
    ) -> None:
        source.run(
            'CREATE TABLE items ("k""ey" int NOT NULL UNIQUE)',
            'ALTER TABLE items REPLICA IDENTITY USING INDEX "items_k""ey_key"',
        )
        with pytest.raises(PreflightFailed, match="in a unique index's column"):
            failure(pipeline(engine, source, [destination], "items"))

    @only_debezium
    def test_columns_whose_names_differ_by_case_only_are_refused(
        self, engine: Engine, source: Database, destination: Database
    ) -> None:
        source.run('CREATE TABLE items (id int PRIMARY KEY, "Name" text, name text)')
        with pytest.raises(PreflightFailed, match="cannot distinguish the columns Name, name"):
            failure(pipeline(engine, source, [destination], "items"))

    @only_pgoutput
    def test_columns_whose_names_differ_by_case_only_are_kept_apart(
        self, engine: Engine, source: Database, destination: Database
    ) -> None:
        source.run('CREATE TABLE items (id int PRIMARY KEY, "Name" text, name text)')
        follow(engine, source, destination, ["items"], "INSERT INTO items VALUES (1, 'a', 'b')")

    @only_debezium
    def test_a_domain_over_an_enum_is_refused_since_debezium_would_not_start(
        self, engine: Engine, source: Database, destination: Database
    ) -> None:
        source.run(
            "CREATE TYPE color AS ENUM ('red')", "CREATE DOMAIN paint AS color", "CREATE TABLE items (id int PRIMARY KEY)"
        )
        with pytest.raises(PreflightFailed, match=r"domain over an enum: public\.paint"):
            failure(pipeline(engine, source, [destination], "items"))

    @only_debezium
    def test_a_value_that_debezium_cannot_print_stops_the_pipeline_and_is_never_shown(
        self, engine: Engine, source: Database, destination: Database, capfd: pytest.CaptureFixture[str]
    ) -> None:
        source.run("CREATE TABLE items (id int PRIMARY KEY, v interval, name text)")
        config = pipeline(engine, source, [destination], "items")
        worker = Worker(config)
        worker.start()
        wait_until(worker, lambda: is_streaming(worker))
        source.run("INSERT INTO items VALUES (1, '2147483999 hours', 'a secret')")
        with pytest.raises(ChangeUndecodable) as caught:
            wait_until(worker, lambda: worker.wait(0.1))
        assert worker.stop(TIMEOUT)
        told = f"{caught.value} {''.join(capfd.readouterr())}"
        assert "2147483999" not in told
        assert "a secret" not in told

    def test_tables_whose_names_are_alike_are_kept_apart(
        self, engine: Engine, source: Database, destination: Database
    ) -> None:
        # Debezium makes one topic name of all of these.
        names = ["a b", "a_b", "a%b", "A b", "a.b"]
        source.run(*(f'CREATE TABLE "{name}" (id int PRIMARY KEY, "column {n}" text)' for n, name in enumerate(names)))
        follow(
            engine,
            source,
            destination,
            [TableId("public", name) for name in names],
            *(f"INSERT INTO \"{name}\" VALUES (1, 'of {name}')" for name in names),
            *(f'UPDATE "{name}" SET id = {n}' for n, name in enumerate(names)),
        )


#: Statements about a table; each name in them is made of one odd name.
ODD_TABLE = [
    "CREATE SCHEMA {schema}",
    "CREATE TABLE {table} ({key} int PRIMARY KEY, {plain} text, body text)",
    "ALTER TABLE {table} ALTER body SET STORAGE EXTERNAL",
    f"INSERT INTO {{table}} SELECT n, 'old', {BIG.format(1)} FROM generate_series(1, 4) AS n",
]


ODD_CHANGES = [
    "UPDATE {table} SET {plain} = 'new' WHERE {key} = 1",
    "UPDATE {table} SET {key} = 20 WHERE {key} = 2",
    "DELETE FROM {table} WHERE {key} = 3",
    "INSERT INTO {table} VALUES (5, 'new', NULL)",
]


def of_table(name: str, *statements: str) -> list[str]:
    """The statements with the odd name for namespace, table and key, and one much like it for another column."""
    names = {
        "schema": sql.Identifier(name),
        "table": sql.Identifier(name, name),
        "key": sql.Identifier(name),
        "plain": sql.Identifier(f"{name[:62]}2"),
    }
    return [sql.SQL(statement).format(**names).as_string() for statement in statements]
