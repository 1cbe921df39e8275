"""Stands between clients and a server, and breaks connections as networks do.

Bytes of a connection arrive in their order and without a gap, or no more at all: once some were swallowed, nothing that
goes the same way is passed on again, and the connection ends sooner or later.
"""

import asyncio
import contextlib
import socket
import struct

CHUNK_BYTES = 65_536
# A close with this sends a reset.
AT_ONCE = struct.pack("ii", 1, 0)


class Way:
    """One direction of a connection."""

    def __init__(self, source, target):
        self.source, self.target = source, target
        self.swallows = False


class Link:
    """One connection: the socket of the client, the socket of the server, and what goes both ways."""

    def __init__(self, proxy, near, far):
        self._proxy = proxy
        self._sockets = [near, far]
        self.up, self.down = Way(near, far), Way(far, near)
        self._up = asyncio.create_task(self._pass_on(self.up, self.down))
        self._down = asyncio.create_task(self._pass_on(self.down, self.up))
        self.ended = asyncio.gather(self._up, self._down, return_exceptions=True)
        self.ended.add_done_callback(lambda _: self._close())

    @property
    def is_whole(self):
        """Nothing was done to it."""
        return not self.up.swallows and not self.down.swallows and not self.ended.done()

    def end(self):
        """A FIN both ways; what still comes is read to its end, so that no reset follows."""
        for way in (self.up, self.down):
            way.swallows = True
            self._finish(way)

    def reset(self):
        """A reset both ways."""
        for one in self._sockets:
            with contextlib.suppress(OSError):
                one.setsockopt(socket.SOL_SOCKET, socket.SO_LINGER, AT_ONCE)
        self._up.cancel()
        self._down.cancel()

    def _close(self):
        self._proxy.links.remove(self)
        for one in self._sockets:
            one.close()

    @staticmethod
    def _finish(way):
        # It may have ended by itself.
        with contextlib.suppress(OSError):
            way.target.shutdown(socket.SHUT_WR)

    async def _pass_on(self, way, back):
        loop = asyncio.get_running_loop()
        try:
            while chunk := await loop.sock_recv(way.source, CHUNK_BYTES):
                await self._proxy.may_pass()
                if way.swallows:
                    continue
                try:
                    await loop.sock_sendall(way.target, chunk)
                except OSError:
                    if not back.swallows:
                        raise
                    # The answer to this would be a reset, and nothing comes back.
                    way.swallows = True
                self._proxy.passed()
            await self._proxy.may_pass()
            if not way.swallows:
                self._finish(way)
        except OSError:
            if not way.swallows:
                self.reset()


class Proxy:
    """Listens, and passes on to `target`, in the event loop that runs."""

    def __init__(self, target):
        host, port = target.rsplit(":", 1)
        self._target = (host, int(port))
        # In the order in which they came.
        self.links = []
        self.address = "127.0.0.1:0"
        # How long each piece takes longer.
        self.delay_seconds = 0.0
        self._flows = asyncio.Event()
        self._flows.set()
        # Until somebody is told that so many pieces were passed on.
        self._left = 0
        self._busy = asyncio.Event()
        self._accepting = None
        self.accept()

    def accept(self):
        """Takes connections, from the second time on under the same address."""
        listener = socket.socket()
        listener.setsockopt(socket.SOL_SOCKET, socket.SO_REUSEADDR, 1)
        host, port = self.address.rsplit(":", 1)
        listener.bind((host, int(port)))
        listener.listen()
        listener.setblocking(False)
        self.address = ":".join(map(str, listener.getsockname()))
        self._accepting = asyncio.create_task(self._accept(listener))

    async def refuse(self):
        """Whoever connects is refused; connections that are there stay."""
        self._accepting.cancel()
        await asyncio.gather(self._accepting, return_exceptions=True)

    async def _accept(self, listener):
        loop = asyncio.get_running_loop()
        with listener:
            while True:
                near, _ = await loop.sock_accept(listener)
                far = socket.socket()
                for one in (near, far):
                    one.setblocking(False)
                    one.setsockopt(socket.IPPROTO_TCP, socket.TCP_NODELAY, 1)
                try:
                    await loop.sock_connect(far, self._target)
                except OSError:
                    near.close()
                    far.close()
                    continue
                self.links.append(Link(self, near, far))

    def stall(self):
        """Nothing is passed on, nothing is lost, on no connection, old or new."""
        self._flows.clear()

    def go_on(self):
        """Ends a stall."""
        self._flows.set()

    async def may_pass(self):
        """Waits until a piece that has come may go on."""
        await self._flows.wait()
        if self.delay_seconds:
            await asyncio.sleep(self.delay_seconds)
            await self._flows.wait()

    def passed(self):
        """Counts a piece that has gone on."""
        self._left -= 1
        if self._left <= 0:
            self._busy.set()

    async def busy(self, pieces):
        """Waits until so many more were passed on. One may wait at a time."""
        self._left = pieces
        self._busy.clear()
        await self._busy.wait()

    async def close(self):
        """Ends all."""
        await self.refuse()
        links = list(self.links)
        for link in links:
            link.reset()
        await asyncio.gather(*(link.ended for link in links), return_exceptions=True)
