package rosetta.debezium;

import io.debezium.engine.ChangeEvent;
import io.debezium.engine.DebeziumEngine.RecordCommitter;
import java.util.List;
import org.apache.kafka.connect.source.SourceRecord;

/** A batch of events as bytes, in the form that {@link BatchWriter} describes. */
public final class Batch {

    private final byte[] heads;
    private final byte[] values;
    private final byte[] marks;
    private final List<Layout> layouts;
    private final RecordCommitter<ChangeEvent<SourceRecord, SourceRecord>> committer;
    private final ChangeEvent<SourceRecord, SourceRecord> lastBeat;

    Batch(
            byte[] heads,
            byte[] values,
            byte[] marks,
            List<Layout> layouts,
            RecordCommitter<ChangeEvent<SourceRecord, SourceRecord>> committer,
            ChangeEvent<SourceRecord, SourceRecord> lastBeat) {
        this.heads = heads;
        this.values = values;
        this.marks = marks;
        this.layouts = layouts;
        this.committer = committer;
        this.lastBeat = lastBeat;
    }

    public byte[] heads() {
        return heads;
    }

    public byte[] values() {
        return values;
    }

    public byte[] marks() {
        return marks;
    }

    /** The layouts that events refer to here for the first time. */
    public List<Layout> layouts() {
        return layouts;
    }

    /** Lets Debezium confirm the LSN of the batch's last heartbeat to PostgreSQL. */
    public void commit() throws InterruptedException {
        committer.markProcessed(lastBeat);
        committer.markBatchFinished();
    }
}
