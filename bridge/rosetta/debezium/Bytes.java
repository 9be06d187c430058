package rosetta.debezium;

import java.nio.ByteBuffer;
import java.nio.charset.StandardCharsets;
import java.util.Arrays;

/** A growing array of bytes; numbers are big-endian. */
final class Bytes {

    private static final int KEPT = 1 << 20;

    private byte[] array = new byte[1 << 16];
    private ByteBuffer buffer = ByteBuffer.wrap(array);
    private int size;

    int size() {
        return size;
    }

    void putByte(int value) {
        reserve(1);
        array[size++] = (byte) value;
    }

    void putInt(int value) {
        reserve(Integer.BYTES);
        buffer.putInt(size, value);
        size += Integer.BYTES;
    }

    void putLong(long value) {
        reserve(Long.BYTES);
        buffer.putLong(size, value);
        size += Long.BYTES;
    }

    void putAll(byte[] bytes) {
        reserve(bytes.length);
        System.arraycopy(bytes, 0, array, size, bytes.length);
        size += bytes.length;
    }

    void putDigits(long number) {
        putAll(Long.toString(number).getBytes(StandardCharsets.ISO_8859_1));
    }

    /** Writes a text in UTF-8. It has no zero byte, as no text in PostgreSQL has one: the reader relies on that. */
    void putText(String text) {
        if (text.indexOf(0) >= 0) {
            throw new IllegalArgumentException("a text from Debezium has a zero byte");
        }
        putAll(text.getBytes(StandardCharsets.UTF_8));
    }

    /** Returns the bytes that were written since the last call. */
    byte[] take() {
        byte[] taken = Arrays.copyOf(array, size);
        size = 0;
        if (array.length > KEPT) {
            grow(KEPT);
        }
        return taken;
    }

    private void reserve(int count) {
        if (array.length - size < count) {
            grow(Math.max(array.length * 2, Math.addExact(size, count)));
        }
    }

    private void grow(int length) {
        array = Arrays.copyOf(array, length);
        buffer = ByteBuffer.wrap(array);
    }
}
