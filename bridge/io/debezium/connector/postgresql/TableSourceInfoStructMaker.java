package io.debezium.connector.postgresql;

import io.debezium.config.CommonConnectorConfig;
import io.debezium.connector.SourceInfoStructMaker;
import org.apache.kafka.connect.data.Schema;
import org.apache.kafka.connect.data.SchemaBuilder;
import org.apache.kafka.connect.data.Struct;

/**
 * Tells of a change its table, and nothing else: the rest of its place is in the event's offset.
 *
 * <p>Debezium's own maker fills fourteen fields for every change, and where Debezium finds a time and a place in them it keeps
 * statistics, which nobody reads here. The names are visible in this package only.
 */
public final class TableSourceInfoStructMaker implements SourceInfoStructMaker<SourceInfo> {

    private static final Schema SCHEMA = SchemaBuilder.struct()
            .name("rosetta.Table")
            .field(SourceInfo.SCHEMA_NAME_KEY, Schema.STRING_SCHEMA)
            .field(SourceInfo.TABLE_NAME_KEY, Schema.STRING_SCHEMA)
            // Debezium asks for them by name, and does without.
            .field(SourceInfo.TIMESTAMP_USEC_KEY, Schema.OPTIONAL_INT64_SCHEMA)
            .field(SourceInfo.LSN_KEY, Schema.OPTIONAL_INT64_SCHEMA)
            .field(SourceInfo.XMIN_KEY, Schema.OPTIONAL_INT64_SCHEMA)
            .field(SourceInfo.TXID_KEY, Schema.OPTIONAL_INT64_SCHEMA)
            .build();

    private Struct last = table("", "");

    @Override
    public void init(String connector, String version, CommonConnectorConfig config) {
        // Nothing of it is told.
    }

    @Override
    public Schema schema() {
        return SCHEMA;
    }

    /** Changes of one table in a row share what tells it. Called by the one thread that reads the stream. */
    @Override
    public Struct struct(SourceInfo source) {
        if (!source.schemaName().equals(last.getString(SourceInfo.SCHEMA_NAME_KEY)) || !source.tableName().equals(last.getString(SourceInfo.TABLE_NAME_KEY))) {
            last = table(source.schemaName(), source.tableName());
        }
        return last;
    }

    private static Struct table(String namespace, String name) {
        return new Struct(SCHEMA).put(SourceInfo.SCHEMA_NAME_KEY, namespace).put(SourceInfo.TABLE_NAME_KEY, name);
    }
}
