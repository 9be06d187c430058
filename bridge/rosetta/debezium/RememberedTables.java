package rosetta.debezium;

import io.debezium.relational.Column;
import io.debezium.relational.ConcurrentMapTableMappingStorage;
import io.debezium.relational.Table;
import io.debezium.relational.TableId;
import org.apache.kafka.connect.data.Schema;

/**
 * What Debezium remembers of tables: columns that may all be NULL and have no default, whatever the catalog says, with the
 * numbers of PostgreSQL's own types as comments.
 *
 * <p>The catalog tells of now, the stream of then. Where a column that may not be NULL by now was NULL in a change, and for
 * columns that are not logged of an old row, Debezium makes up a value: the default, zero, or an empty text. The types are the
 * stream's; of a column's type, Debezium itself tells the events only the form of the values.
 */
public final class RememberedTables extends ConcurrentMapTableMappingStorage<Table> {

    /** Types from here on are made by users and extensions. */
    private static final int FIRST_USER_TYPE = 16384;

    /** Its values have a comment of Debezium's own, as those of some extensions have. */
    private static final int POINT = 600;

    private static final int UNKNOWN = -1;

    @Override
    public Table put(TableId id, Table table) {
        return super.put(id, table.edit().setColumns(table.columns().stream().map(RememberedTables::remembered).toList()).create());
    }

    private static Column remembered(Column column) {
        int type = column.nativeType();
        String comment = type > 0 && type < FIRST_USER_TYPE && type != POINT ? String.valueOf(type) : null;
        return column.edit().optional(true).unsetDefaultValueExpression().comment(comment).create();
    }

    /** The number of the type of a column with this schema; -1 when it is not told. */
    static int typeOf(Schema column) {
        String comment = column.doc();
        return comment != null && Character.isDigit(comment.charAt(0)) ? Integer.parseInt(comment) : UNKNOWN;
    }
}
