"""A TCP proxy that cuts, delays and holds what passes through it, as it is told.

Runs as a process of its own: `python -m chaos.proxy`, with a JSON line on stdin for each order and a JSON line on stdout for
each that is carried out:

  {"listen": PORT or 0, "to": PORT}        -> {"port": PORT}
  {"set": PORT, "mode": MODE, "ms": N}     -> {}

Modes: `pass`; `delay` by `ms` each way; `hold` (connections stay, nothing passes); `refuse` (new connections are closed at once,
and those that are there too); `cut_replies` (what clients send passes; what comes back is dropped, and the connection is cut a
moment after); `cut` closes all connections and goes on passing."""

from __future__ import annotations

import asyncio
import json
import socket
import sys

CHUNK = 256 * 1024
#: From the first answer that was dropped to the cut: what was asked has been done by then, and the client knows nothing.
CUT_AFTER_S = 0.05


class Lane:
    """One listening port."""

    def __init__(self, to):
        self.to = to
        self.mode = "pass"
        self.delay_s = 0.0
        self.open = asyncio.Event()
        self.open.set()
        self.pipes = set()

    def set(self, mode, ms):
        self.delay_s = ms / 1000 if mode == "delay" else 0.0
        if mode in ("cut", "refuse"):
            for pipe in list(self.pipes):
                pipe.cut()
        self.mode = "pass" if mode == "cut" else mode
        if self.mode == "hold":
            self.open.clear()
        else:
            self.open.set()

    async def serve(self, reader, writer):
        if self.mode == "refuse":
            writer.transport.abort()
            return
        pipe = Pipe(self, writer)
        self.pipes.add(pipe)
        try:
            await pipe.run(reader)
        finally:
            self.pipes.discard(pipe)


class Pipe:
    """One connection, both ways."""

    def __init__(self, lane, client):
        self.lane, self.client, self.server = lane, client, None

    def cut(self):
        for writer in (self.client, self.server):
            if writer is not None:
                writer.transport.abort()

    async def run(self, reader):
        try:
            answers, self.server = await asyncio.open_connection("127.0.0.1", self.lane.to)
        except OSError:
            self.cut()
            return
        for writer in (self.client, self.server):
            writer.get_extra_info("socket").setsockopt(socket.IPPROTO_TCP, socket.TCP_NODELAY, 1)
        await asyncio.gather(self.pump(reader, self.server, False), self.pump(answers, self.client, True))

    async def pump(self, reader, writer, are_replies):
        """Copies until one side ends. A delay keeps order and does not slow the flow: each chunk is due so much later."""
        loop = asyncio.get_running_loop()
        queue = asyncio.Queue(64)

        async def pour():
            while True:
                due, chunk = await queue.get()
                if due > loop.time():
                    await asyncio.sleep(due - loop.time())
                await self.lane.open.wait()
                if chunk is None:
                    writer.close()
                    return
                try:
                    writer.write(chunk)
                    await writer.drain()
                except OSError:
                    # Both sides end; what still comes in goes nowhere.
                    self.cut()

        pouring = asyncio.ensure_future(pour())
        try:
            while True:
                chunk = await reader.read(CHUNK)
                if are_replies and self.lane.mode == "cut_replies" and chunk:
                    loop.call_later(CUT_AFTER_S, self.cut)
                    continue
                await queue.put((loop.time() + self.lane.delay_s, chunk or None))
                if not chunk:
                    break
            await pouring
        except (OSError, asyncio.CancelledError):
            self.cut()
        finally:
            pouring.cancel()
            # Its own failure is the connection's end, and no more.
            await asyncio.gather(pouring, return_exceptions=True)


async def main():
    lanes = {}
    orders = asyncio.StreamReader(limit=1 << 20)
    loop = asyncio.get_running_loop()
    await loop.connect_read_pipe(lambda: asyncio.StreamReaderProtocol(orders), sys.stdin)
    while True:
        line = await orders.readline()
        if not line:
            return
        order = json.loads(line)
        if "listen" in order:
            lane = Lane(order["to"])
            server = await asyncio.start_server(lane.serve, "127.0.0.1", order["listen"], limit=CHUNK, backlog=256)
            port = server.sockets[0].getsockname()[1]
            lanes[port] = lane
            answer = {"port": port}
        else:
            lane = lanes[order["set"]]
            lane.to = order.get("to", lane.to)
            lane.set(order["mode"], order.get("ms", 0))
            answer = {}
        print(json.dumps(answer), flush=True)


if __name__ == "__main__":
    asyncio.run(main())
