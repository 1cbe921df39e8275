"""Connections that are cut, fall silent, stand still, crawl or are refused, between the real server and its clients."""

import asyncio
import json
import os
import random
import re
import subprocess
import time
import unittest
import urllib.request

from processes import BOUND_SECONDS, Server, binary
from proxy import Proxy

SEED = int(os.environ.get("TICKETLOCK_SEED", "8476"))
LOAD_SECONDS = 28
TTL_SECONDS = 1.0
# The server's; that of the clients is longer, 10 s and 5 s by default.
KEEPALIVE_INTERVAL_SECONDS = 1.0
KEEPALIVE_TIMEOUT_SECONDS = 1.0
# A fault counts when so many locks were granted since the one before, and each kind is to count so often.
LOAD = 50
ROUNDS = 2
GRANTED = re.compile(r'^ticketlock_acquisitions_total\{.*outcome="granted".*\} (\d+)$', re.MULTILINE)


class Scene:
    """A server, a way to it that can be broken, and `ticketlock verify`, whose clients work over that for so long."""

    def __init__(self, test, seconds):
        flags = ["--keepalive-interval", f"{KEEPALIVE_INTERVAL_SECONDS:g}s"]
        flags += ["--keepalive-timeout", f"{KEEPALIVE_TIMEOUT_SECONDS:g}s"]
        self._server = test.enterContext(Server(*flags))
        self.proxy = Proxy(self._server.grpc)
        test.addAsyncCleanup(self.proxy.close)
        command = [binary("TICKETLOCK_BIN"), "verify", "--against", f"http://{self.proxy.address}", "--seed", str(SEED)]
        command += ["--for", f"{seconds}s", "--ttl", f"{TTL_SECONDS}s", "-o", "json"]
        verify = subprocess.Popen(command, stdout=subprocess.PIPE, stderr=subprocess.PIPE, text=True)
        test.addCleanup(verify.kill)
        self._verify = verify
        self._said = asyncio.create_task(asyncio.to_thread(verify.communicate, timeout=seconds + BOUND_SECONDS))

    def _granted(self):
        with urllib.request.urlopen(f"http://{self._server.http}/metrics", timeout=BOUND_SECONDS) as page:
            return sum(map(int, GRANTED.findall(page.read().decode())))

    async def load(self):
        """Waits until enough was granted."""
        before = await asyncio.to_thread(self._granted)
        while await asyncio.to_thread(self._granted) - before < LOAD:
            busy = asyncio.create_task(self.proxy.busy(LOAD))
            either = [busy, self._said]
            done, _ = await asyncio.wait(either, timeout=BOUND_SECONDS, return_when=asyncio.FIRST_COMPLETED)
            if busy not in done:
                busy.cancel()
                raise AssertionError(f"the load ended before the last fault, after {await self.grants()} grants")

    async def grants(self):
        """How many there were when the clients have ended, none of them against what is promised."""
        try:
            said, words = await self._said
        except subprocess.TimeoutExpired:
            raise AssertionError(f"a client waits for ever; the server has: {await self._listed()}") from None
        if self._verify.returncode != 0:
            raise AssertionError(words)
        return json.loads(said)["grants"]

    async def _listed(self):
        command = [binary("TICKETLOCK_BIN"), "ls", "-o", "json", "--endpoint", f"http://{self._server.grpc}"]
        options = {"stdout": subprocess.PIPE, "text": True, "check": True, "timeout": BOUND_SECONDS}
        return (await asyncio.to_thread(subprocess.run, command, **options)).stdout

    async def nothing_is_left(self):
        """Soon after the clients have gone: what they had they gave back."""
        until = time.monotonic() + TTL_SECONDS + KEEPALIVE_INTERVAL_SECONDS + KEEPALIVE_TIMEOUT_SECONDS
        while left := await self._listed():
            if time.monotonic() > until:
                raise AssertionError(f"left behind: {left}")


class Faults:
    """What can happen to connections."""

    def __init__(self, proxy, drawn):
        self._proxy, self._drawn = proxy, drawn

    def _some(self):
        """One connection or more."""
        links = [link for link in self._proxy.links if link.is_whole]
        return self._drawn.sample(links, self._drawn.randint(1, len(links)))

    async def _lasts(self, shortest, longest):
        """How long a fault lasts is the fault itself; nothing is waited for with it."""
        await asyncio.sleep(self._drawn.uniform(shortest, longest))

    def _cut(self, links):
        for link in links:
            self._drawn.choice([link.end, link.reset])()

    async def end(self):
        """FIN."""
        for link in self._some():
            link.end()

    async def reset(self):
        """RST."""
        for link in self._some():
            link.reset()

    async def mute_clients(self):
        """What clients send vanishes, for less or more than the server's keep-alive waits; then they are cut."""
        links = self._some()
        for link in links:
            link.up.swallows = True
        await self._lasts(0.3, 2.5)
        self._cut(links)

    async def mute_server(self):
        """The other way round."""
        links = self._some()
        for link in links:
            link.down.swallows = True
        await self._lasts(0.3, 2.5)
        self._cut(links)

    async def mute_clients_for_good(self):
        """The server finds it by its keep-alive."""
        links = self._some()
        for link in links:
            link.up.swallows = True
        async with asyncio.timeout(BOUND_SECONDS):
            await asyncio.wait([link.ended for link in links])

    async def _stall(self, shortest, longest):
        self._proxy.stall()
        await self._lasts(shortest, longest)
        self._proxy.go_on()

    async def stall_shortly(self):
        """Shorter than a lease."""
        await self._stall(0.2 * TTL_SECONDS, 0.8 * TTL_SECONDS)

    async def stall_for_long(self):
        """Longer than a lease, and perhaps than the server's keep-alive waits."""
        await self._stall(1.1 * TTL_SECONDS, 2.3 * TTL_SECONDS)

    async def refuse(self):
        """All connections are cut, and new ones are refused for a while."""
        await self._proxy.refuse()
        self._cut(list(self._proxy.links))
        await self._lasts(0.2, 0.8)
        self._proxy.accept()

    async def slow_down(self):
        """Each piece takes longer."""
        self._proxy.delay_seconds = self._drawn.uniform(0.005, 0.1)
        await self._lasts(0.3, 0.6)
        self._proxy.delay_seconds = 0.0

    def all(self):
        """By what they do."""
        kinds = [self.end, self.reset, self.mute_clients, self.mute_server, self.mute_clients_for_good]
        return [*kinds, self.stall_shortly, self.stall_for_long, self.refuse, self.slow_down]


class CutsTest(unittest.IsolatedAsyncioTestCase):
    async def asyncSetUp(self):
        print(f"seed {SEED}")
        # It would time every step of the proxy.
        asyncio.get_running_loop().set_debug(False)

    async def every_fault(self):
        scene, drawn = Scene(self, LOAD_SECONDS), random.Random(SEED)
        faults = ROUNDS * Faults(scene.proxy, drawn).all()
        drawn.shuffle(faults)
        began = time.monotonic()
        for fault in faults:
            await scene.load()
            await fault()
        await scene.load()
        took = time.monotonic() - began
        print(f"{len(faults)} faults in {took:.0f} s, {await scene.grants()} grants")
        await scene.nothing_is_left()

    async def a_server_that_is_not_heard(self):
        """What it sends to two of the clients vanishes for good; they find it by their own keep-alive."""
        scene = Scene(self, 8)
        for _ in range(ROUNDS):
            await scene.load()
            heard = next(link for link in scene.proxy.links if link.is_whole)
            heard.down.swallows = True
        await scene.load()
        print(f"{ROUNDS} clients that hear nothing, {await scene.grants()} grants")
        self.assertTrue(all(link.is_whole for link in scene.proxy.links))
        await scene.nothing_is_left()

    async def test_promises_are_kept_over_broken_connections(self):
        """Whatever happens to connections, no promise is broken, and nothing is left behind."""
        await asyncio.gather(self.every_fault(), self.a_server_that_is_not_heard())


if __name__ == "__main__":
    unittest.main()
