package rosetta.debezium;

import io.debezium.embedded.Connect;
import io.debezium.engine.ChangeEvent;
import io.debezium.engine.DebeziumEngine;
import java.io.IOException;
import java.util.List;
import java.util.Properties;
import java.util.concurrent.ArrayBlockingQueue;
import java.util.concurrent.BlockingQueue;
import java.util.concurrent.TimeUnit;
import org.apache.kafka.connect.source.SourceRecord;

/**
 * A running engine of Debezium, and a queue of up to two batches.
 *
 * <p>Threads. The thread {@code debezium} is inside {@code engine.run()} from the start until the engine and all of Debezium's
 * own threads have ended. One of these calls {@link #handleBatch}, which writes the events into the queue and waits while the
 * queue is full: that is the back-pressure. So the next batch is written while the reader of the queue works on this one.
 * Nothing is committed here: the reader does that.
 */
public final class RunningEngine
        implements DebeziumEngine.ChangeConsumer<ChangeEvent<SourceRecord, SourceRecord>>, DebeziumEngine.CompletionCallback {

    private static final long POLL_MILLIS = 200;

    private final BlockingQueue<Batch> batches = new ArrayBlockingQueue<>(2);
    private final BatchWriter writer;
    private DebeziumEngine<?> engine;
    private Thread thread;
    private volatile boolean closing;
    private volatile String failure;

    private RunningEngine(String placeholder) {
        writer = new BatchWriter(placeholder);
    }

    /** Starts an engine with these properties. The placeholder stands for a value that was not sent again. */
    public static RunningEngine start(Properties properties, String placeholder) {
        RunningEngine running = new RunningEngine(placeholder);
        running.engine = DebeziumEngine.create(Connect.class)
                .using(properties)
                .using((DebeziumEngine.CompletionCallback) running)
                .notifying((DebeziumEngine.ChangeConsumer<ChangeEvent<SourceRecord, SourceRecord>>) running)
                .build();
        running.thread = new Thread(running.engine, "debezium");
        running.thread.setDaemon(true);
        running.thread.start();
        return running;
    }

    /** Returns the next batch; null when none came within the time. */
    public Batch receive(long millis) throws InterruptedException {
        return batches.poll(millis, TimeUnit.MILLISECONDS);
    }

    public boolean isAlive() {
        return thread.isAlive();
    }

    /** Returns why the engine ended; null when it was closed, or gave no reason. */
    public String failure() {
        return failure;
    }

    /**
     * Stops the engine, and its walsender with it. Returns whether it ended within the time.
     *
     * <p>Debezium refuses to close while the engine is starting, so this repeats the call until the thread has ended.
     */
    public boolean close(long millis) throws InterruptedException {
        closing = true;
        long deadline = System.nanoTime() + TimeUnit.MILLISECONDS.toNanos(millis);
        while (thread.isAlive() && System.nanoTime() < deadline) {
            try {
                engine.close();
            } catch (IOException | RuntimeException notStartedOrStoppingAlready) {
                // The thread's end is what counts.
            }
            thread.join(POLL_MILLIS);
        }
        return !thread.isAlive();
    }

    @Override
    public void handleBatch(
            List<ChangeEvent<SourceRecord, SourceRecord>> events,
            DebeziumEngine.RecordCommitter<ChangeEvent<SourceRecord, SourceRecord>> committer)
            throws InterruptedException {
        for (ChangeEvent<SourceRecord, SourceRecord> event : events) {
            writer.add(event);
            if (writer.isFull()) {
                handOver(writer.take(committer));
            }
        }
        handOver(writer.take(committer));
    }

    private void handOver(Batch batch) throws InterruptedException {
        while (!closing && !batches.offer(batch, POLL_MILLIS, TimeUnit.MILLISECONDS)) {
            // Still full.
        }
    }

    @Override
    public boolean supportsTombstoneEvents() {
        return false;
    }

    @Override
    public void handle(boolean success, String message, Throwable error) {
        if (!success) {
            Throwable cause = error;
            while (cause != null && cause.getCause() != null) {
                cause = cause.getCause();
            }
            failure = cause == null ? message : cause.getMessage();
        }
    }
}
