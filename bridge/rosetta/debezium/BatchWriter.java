package rosetta.debezium;

import io.debezium.engine.ChangeEvent;
import io.debezium.engine.DebeziumEngine.RecordCommitter;
import java.util.ArrayList;
import java.util.IdentityHashMap;
import java.util.List;
import java.util.Map;
import org.apache.kafka.connect.data.Field;
import org.apache.kafka.connect.data.Schema;
import org.apache.kafka.connect.data.Struct;
import org.apache.kafka.connect.json.JsonConverter;
import org.apache.kafka.connect.source.SourceRecord;

/**
 * Writes Debezium's events as bytes that Python reads with few calls.
 *
 * <p>There are three arrays; numbers are big-endian. <em>Heads</em>, 42 bytes for each event: the operation as Debezium's
 * letter, or {@code h} for a heartbeat; which images of the row exist (1 before, 2 after); the number of the layout; the
 * transaction; the LSN of the change; the LSN of the last COMMIT before it, or -1; the time of the commit in microseconds; the
 * count of marks. <em>Values</em>: for each image a value of every column, ended by a zero byte, which no value contains.
 * <em>Marks</em>, 4 bytes each: the index of a value of the event, with {@link #UNSENT} if it was not sent again, otherwise it
 * is NULL. A marked value is empty.
 */
final class BatchWriter {

    static final int BEFORE = 1;
    static final int AFTER = 2;
    static final int UNSENT = 1 << 30;
    static final char BEAT = 'h';
    private static final char MESSAGE = 'm';

    /** A batch ends at this many bytes of values: several batches wait in a small heap. */
    private static final int LIMIT = 1 << 22;

    private final String placeholder;
    private final JsonConverter json = new JsonConverter();
    private final Map<Schema, Layout> layouts = new IdentityHashMap<>();
    private int layoutCount;

    private final Bytes heads = new Bytes();
    private final Bytes values = new Bytes();
    private final Bytes marks = new Bytes();
    private List<Layout> newLayouts = new ArrayList<>();
    private ChangeEvent<SourceRecord, SourceRecord> lastBeat;

    BatchWriter(String placeholder) {
        this.placeholder = placeholder;
        json.configure(Map.of("schemas.enable", "false"), false);
    }

    void add(ChangeEvent<SourceRecord, SourceRecord> event) {
        if (write(event.value()) == BEAT) {
            lastBeat = event;
        }
    }

    boolean isFull() {
        return values.size() >= LIMIT;
    }

    /** Returns the events that were added since the last call. */
    Batch take(RecordCommitter<ChangeEvent<SourceRecord, SourceRecord>> committer) {
        Batch batch = new Batch(heads.take(), values.take(), marks.take(), newLayouts, committer, lastBeat);
        newLayouts = new ArrayList<>();
        lastBeat = null;
        return batch;
    }

    /** Writes an event, unless it is a logical message. Returns its operation. */
    private char write(SourceRecord record) {
        Struct value = (Struct) record.value();
        Field operation = value.schema().field("op");
        if (operation == null) {
            writeHead(BEAT, 0, 0, record.sourceOffset(), 0);
            return BEAT;
        }
        char letter = ((String) value.get(operation)).charAt(0);
        if (letter != MESSAGE) {
            writeChange(letter, value, record.sourceOffset());
        }
        return letter;
    }

    private void writeChange(char letter, Struct value, Map<String, ?> offset) {
        Layout layout = layoutOf(value);
        Struct before = (Struct) value.get(layout.before);
        Struct after = (Struct) value.get(layout.after);
        int first = marks.size();
        int images = 0;
        if (before != null) {
            images |= BEFORE;
            writeRow(layout, before, 0);
        }
        if (after != null) {
            images |= AFTER;
            writeRow(layout, after, before == null ? 0 : layout.columns.length);
        }
        writeHead(letter, images, layout.number(), offset, (marks.size() - first) / Integer.BYTES);
    }

    private void writeHead(char letter, int images, int layout, Map<String, ?> offset, int markCount) {
        heads.putByte(letter);
        heads.putByte(images);
        heads.putInt(layout);
        heads.putLong(number(offset, "txId"));
        heads.putLong(number(offset, "lsn"));
        heads.putLong(number(offset, "lsn_commit"));
        heads.putLong(number(offset, "ts_usec"));
        heads.putInt(markCount);
    }

    private static long number(Map<String, ?> offset, String name) {
        Object number = offset.get(name);
        return number == null ? -1 : ((Number) number).longValue();
    }

    private void writeRow(Layout layout, Struct row, int firstIndex) {
        for (int index = 0; index < layout.columns.length; index++) {
            Field column = layout.columns[index];
            Object value = row.get(column);
            if (value == null) {
                marks.putInt(firstIndex + index);
            } else if (value instanceof String text && text.equals(placeholder)) {
                marks.putInt(firstIndex + index | UNSENT);
            } else {
                writeValue(layout.forms[index], column.schema(), value);
            }
            values.putByte(0);
        }
    }

    private void writeValue(char form, Schema schema, Object value) {
        switch (form) {
            case Layout.INTEGER:
                values.putDigits(((Number) value).longValue());
                break;
            case Layout.BOOLEAN:
                values.putByte((Boolean) value ? 't' : 'f');
                break;
            case Layout.TEXT:
                values.putText((String) value);
                break;
            default:
                values.putAll(json.fromConnectData("", schema, value));
        }
    }

    private Layout layoutOf(Struct value) {
        Layout known = layouts.get(value.schema());
        return known != null ? known : learn(value);
    }

    /** Adds the layout of a new schema. If its table was altered, the earlier layout is no longer needed. */
    private Layout learn(Struct value) {
        Layout layout = new Layout(layoutCount++, value);
        layouts.values().removeIf(other -> other.isOfTable(layout));
        layouts.put(value.schema(), layout);
        newLayouts.add(layout);
        return layout;
    }
}
