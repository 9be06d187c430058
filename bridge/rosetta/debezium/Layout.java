package rosetta.debezium;

import java.util.Arrays;
import java.util.List;
import org.apache.kafka.connect.data.Field;
import org.apache.kafka.connect.data.Schema;
import org.apache.kafka.connect.data.Struct;

/** What a table's rows look like in the events of one schema: the columns in order, and the form of each one's values. */
public final class Layout {

    /** Forms: decimal digits; PostgreSQL's {@code t} and {@code f}; the text itself; JSON, as Kafka's converter prints it. */
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

    /** Each column's type: its number, or that of the type behind a domain; -1 when it is not told. */
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
