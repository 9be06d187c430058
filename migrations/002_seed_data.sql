-- Sample data: a small shop and a warehouse, as the demo has them. Applied only when asked for (`rosetta migrate --seed`).

INSERT INTO sources (name, pg_host, pg_port, pg_database, pg_username, pg_password)
VALUES ('shop', '127.0.0.1', 5432, 'shop', 'postgres', 'postgres');

INSERT INTO destinations (name, type, config)
VALUES ('warehouse', 'POSTGRES',
        '{"host": "127.0.0.1", "port": 5432, "database": "warehouse", "username": "postgres", "password": "postgres"}');

INSERT INTO pipelines (name, source_id) SELECT 'shop', id FROM sources WHERE name = 'shop';

INSERT INTO pipeline_destinations (pipeline_id, destination_id)
SELECT pipelines.id, destinations.id FROM pipelines, destinations
WHERE pipelines.name = 'shop' AND destinations.name = 'warehouse';

INSERT INTO pipeline_tables (pipeline_id, table_schema, table_name)
SELECT id, 'public', unnest(ARRAY['customers', 'products', 'orders', 'order_items']) FROM pipelines WHERE name = 'shop';
