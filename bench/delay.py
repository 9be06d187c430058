"""A network distance on one machine: a TCP proxy in a process of its own that delivers every byte a while later."""

import argparse
import asyncio
import subprocess
import sys
from collections.abc import Iterator
from contextlib import contextmanager, suppress
from typing import Final

from psycopg.conninfo import conninfo_to_dict, make_conninfo

#: Bytes read at once, and chunks on their way in one direction: more than a fast network holds at 50 ms.
_CHUNK: Final = 256 * 1024
_CHUNKS: Final = 1_000


@contextmanager
def delayed(url: str, milliseconds: float) -> Iterator[str]:
    """Yield a URL of the same database that is so far away, each way. Owns the proxy's process until the block ends."""
    command = [sys.executable, "-m", "bench.delay", str(conninfo_to_dict(url)["port"]), str(milliseconds)]
    with subprocess.Popen(command, stdout=subprocess.PIPE, text=True) as process:
        try:
            assert process.stdout is not None, "it is a pipe"
            yield make_conninfo(url, port=int(process.stdout.readline()))
        finally:
            process.terminate()


async def _forward(reader: asyncio.StreamReader, writer: asyncio.StreamWriter, delay: float) -> None:
    """Deliver what is read, each chunk `delay` seconds after it came. End the other side when this one ends."""
    loop = asyncio.get_running_loop()
    chunks: asyncio.Queue[tuple[float, bytes]] = asyncio.Queue(_CHUNKS)

    async def deliver() -> None:
        while True:
            due, chunk = await chunks.get()
            await asyncio.sleep(max(0.0, due - loop.time()))
            if not chunk:
                break
            writer.write(chunk)
            await writer.drain()
        writer.close()

    delivery = asyncio.create_task(deliver())
    with suppress(ConnectionError):
        while chunk := await reader.read(_CHUNK):
            await chunks.put((loop.time() + delay, chunk))
    await chunks.put((loop.time() + delay, b""))
    with suppress(ConnectionError):
        await delivery


async def _serve(port: int, delay: float) -> None:
    async def connect(reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
        far_reader, far_writer = await asyncio.open_connection("127.0.0.1", port)
        await asyncio.gather(_forward(reader, far_writer, delay), _forward(far_reader, writer, delay))

    server = await asyncio.start_server(connect, "127.0.0.1", 0)
    sys.stdout.write(f"{server.sockets[0].getsockname()[1]}\n")
    sys.stdout.flush()
    async with server:
        await server.serve_forever()


def main() -> None:
    parser = argparse.ArgumentParser(prog="python -m bench.delay", description=__doc__)
    parser.add_argument("port", type=int, help="of the server on the loopback interface")
    parser.add_argument("milliseconds", type=float, help="in each direction")
    arguments = parser.parse_args()
    asyncio.run(_serve(arguments.port, arguments.milliseconds / 1000))


if __name__ == "__main__":
    main()
