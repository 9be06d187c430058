package rosetta.debezium;

import io.debezium.relational.Column;
import io.debezium.relational.ConcurrentMapTableMappingStorage;
import io.debezium.relational.Table;
import io.debezium.relational.TableId;

/**
 * What Debezium remembers of tables: columns that may all be NULL and have no default, whatever the catalog says.
 *
 * <p>The catalog tells of now, the stream of then. Where a column that may not be NULL by now was NULL in a change, and for
 * columns that are not logged of an old row, Debezium makes up a value: the default, zero, or an empty text.
 */
public final class NullableTables extends ConcurrentMapTableMappingStorage<Table> {

    @Override
    public Table put(TableId id, Table table) {
        return super.put(id, table.edit().setColumns(table.columns().stream().map(NullableTables::nullable).toList()).create());
    }

    private static Column nullable(Column column) {
        return column.edit().optional(true).unsetDefaultValueExpression().create();
    }
}
