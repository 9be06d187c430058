package rosetta.debezium;

import java.util.Arrays;
import java.util.List;
import org.apache.kafka.connect.data.Field;
import org.apache.kafka.connect.data.Schema;
import org.apache.kafka.connect.data.Struct;

/** The columns of a table's rows in the events of one schema, in order, and the form of each column's values. */
public final class Layout {

    /** The forms: decimal digits; PostgreSQL's {@code t} and {@code f}; the text itself; JSON of Kafka's converter. */
    static final char INTEGER = 'i';
    static final char BOOLEAN = 'b';
    static final char TEXT = 's';
    static final char JSON = 'j';

    final Schema schema;
    final Field[] columns;
    final char[] forms;
    final Field before;
    final Field after;
    private final int number;
    private final String namespace;
    private final String table;

    Layout(int number, Struct envelope) {
        this.number = number;
        schema = envelope.schema();
        before = schema.field("before");
        after = schema.field("after");
        Struct source = envelope.getStruct("source");
        namespace = source.getString("schema");
        table = source.getString("table");
        columns = after.schema().fields().toArray(new Field[0]);
        forms = new char[columns.length];
        for (int index = 0; index < columns.length; index++) {
            forms[index] = formOf(columns[index].schema());
        }
    }

    private static char formOf(Schema schema) {
        switch (schema.type()) {
            case INT8:
            case INT16:
            case INT32:
            case INT64:
                return INTEGER;
            case BOOLEAN:
                return BOOLEAN;
            case STRING:
                return TEXT;
            default:
                return JSON;
        }
    }

    /** The number by which events refer to it. */
    public int number() {
        return number;
    }

    public String namespace() {
        return namespace;
    }

    public String table() {
        return table;
    }

    public List<String> columns() {
        return Arrays.stream(columns).map(Field::name).toList();
    }

    /** The OID of each column's type, for a domain of its base type; -1 when Debezium does not report it. */
    public int[] types() {
        return Arrays.stream(columns).mapToInt(column -> RememberedTables.typeOf(column.schema())).toArray();
    }

    boolean isOfTable(Layout other) {
        return namespace.equals(other.namespace) && table.equals(other.table);
    }

    /** One character for each column. */
    public String forms() {
        return new String(forms);
    }
}
