package io.debezium.connector.postgresql;

import io.debezium.config.CommonConnectorConfig;
import io.debezium.connector.SourceInfoStructMaker;
import org.apache.kafka.connect.data.Schema;
import org.apache.kafka.connect.data.SchemaBuilder;
import org.apache.kafka.connect.data.Struct;

/**
 * Describes the source of a change by its table only: its position is in the event's offset.
 *
 * <p>Debezium's own maker fills fourteen fields for every change, and Debezium keeps statistics of times and positions in them,
 * which nothing reads here. The fields' names are visible in this package only.
 */
public final class TableSourceInfoStructMaker implements SourceInfoStructMaker<SourceInfo> {

    private static final Schema SCHEMA = SchemaBuilder.struct()
            .name("rosetta.Table")
            .field(SourceInfo.SCHEMA_NAME_KEY, Schema.STRING_SCHEMA)
            .field(SourceInfo.TABLE_NAME_KEY, Schema.STRING_SCHEMA)
            // Debezium looks these up by name, and accepts that they are empty.
            .field(SourceInfo.TIMESTAMP_USEC_KEY, Schema.OPTIONAL_INT64_SCHEMA)
            .field(SourceInfo.LSN_KEY, Schema.OPTIONAL_INT64_SCHEMA)
            .field(SourceInfo.XMIN_KEY, Schema.OPTIONAL_INT64_SCHEMA)
            .field(SourceInfo.TXID_KEY, Schema.OPTIONAL_INT64_SCHEMA)
            .build();

    private Struct last = table("", "");

    @Override
    public void init(String connector, String version, CommonConnectorConfig config) {
        // The connector and its configuration are not part of the struct.
    }

    @Override
    public Schema schema() {
        return SCHEMA;
    }

    /** Consecutive changes of one table share a struct. Only the thread that reads the stream calls this. */
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
