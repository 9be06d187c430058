package rosetta.debezium;

import io.debezium.relational.Column;
import io.debezium.relational.ConcurrentMapTableMappingStorage;
import io.debezium.relational.Table;
import io.debezium.relational.TableId;
import org.apache.kafka.connect.data.Schema;

/**
 * Stores Debezium's tables with columns that are all nullable and have no default, and with the OIDs of PostgreSQL's own types
 * as comments.
 *
 * <p>Debezium reads constraints and defaults from the catalog, which may be ahead of the stream. It would replace a NULL by the
 * default, zero or an empty text where the column is NOT NULL by now, and in columns of an old row that are not logged. The
 * types are the stream's; without the comments, events have only the form of a column's values.
 */
public final class RememberedTables extends ConcurrentMapTableMappingStorage<Table> {

    /** OIDs from here on belong to types of users and extensions. */
    private static final int FIRST_USER_TYPE = 16384;

    /** Debezium gives this type a comment of its own, like the types of some extensions. */
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

    /** Returns the OID of the type of a column with this schema; -1 when there is none. */
    static int typeOf(Schema column) {
        String comment = column.doc();
        return comment != null && Character.isDigit(comment.charAt(0)) ? Integer.parseInt(comment) : UNKNOWN;
    }
}
