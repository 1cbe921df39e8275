"""A holder behind a cut connection: packets vanish, nothing is reset, and the lock passes on within the keep-alive bound.

Needs root, network namespaces and iptables; without them it fails. It touches only namespaces that it made itself.
"""

import os
import pathlib
import subprocess
import sys
import time
import unittest

from processes import Child, Server

LOCKER = pathlib.Path(__file__).with_name("locker.py")
KEEPALIVE_INTERVAL_SECONDS = 1.0
KEEPALIVE_TIMEOUT_SECONDS = 1.0
# A slow machine may be late by this much. The lease (30 s) is far longer, so that only the keep-alive explains a pass.
SLACK_SECONDS = 4.0


def run(*command):
    done = subprocess.run(command, stdout=subprocess.PIPE, stderr=subprocess.STDOUT, text=True)
    if done.returncode != 0:
        raise RuntimeError(f"{' '.join(command)}: status {done.returncode}: {done.stdout.strip()}")


class Namespace:
    """A network namespace of this test."""

    def __init__(self, test, name):
        self.name = f"ticketlock-{os.getpid()}-{name}"
        try:
            run("ip", "netns", "add", self.name)
        except (RuntimeError, FileNotFoundError) as error:
            raise AssertionError(f"this test needs root, network namespaces and iptables: {error}") from None
        test.addCleanup(run, "ip", "netns", "delete", self.name)
        self.run("ip", "link", "set", "lo", "up")

    def prefix(self):
        """What starts a command inside."""
        return ("ip", "netns", "exec", self.name)

    def run(self, *command):
        run(*self.prefix(), *command)

    def wire(self, name, other, network):
        """A cable to `other`: this end gets address 1 of the network, the other end 2. `name` is that of this end."""
        run("ip", "link", "add", name, "netns", self.name, "type", "veth", "peer", "name", "up0", "netns", other.name)
        for namespace, device, number in ((self, name, 1), (other, "up0", 2)):
            namespace.run("ip", "address", "add", f"{network}.{number}/24", "dev", device)
            namespace.run("ip", "link", "set", device, "up")

    def cut(self, device):
        """From now on every packet of the cable vanishes, both ways; nobody is told."""
        self.run("iptables", "--append", "INPUT", "--in-interface", device, "--jump", "DROP")
        self.run("iptables", "--append", "OUTPUT", "--out-interface", device, "--jump", "DROP")


class PartitionTest(unittest.TestCase):
    def test_a_silent_holder_is_given_up_within_the_keep_alive_bound(self):
        """The holder's packets are dropped; the waiter is granted after keep-alive interval + timeout, not the lease."""
        server_side, near, far = (Namespace(self, name) for name in ("server", "near", "far"))
        server_side.wire("to-near", near, "10.91.1")
        server_side.wire("to-far", far, "10.91.2")
        flags = ["--keepalive-interval", f"{KEEPALIVE_INTERVAL_SECONDS:g}s"]
        flags += ["--keepalive-timeout", f"{KEEPALIVE_TIMEOUT_SECONDS:g}s"]
        server = Server(*flags, listen="0.0.0.0:0", prefix=server_side.prefix())
        self.addCleanup(server.stop)
        port = server.grpc.rsplit(":", 1)[1]

        holder = Child(*far.prefix(), sys.executable, LOCKER, f"10.91.2.1:{port}", "cut", "far")
        self.addCleanup(holder.stop)
        first = int(holder.expect(r"^granted (\d+)")[1])
        waiter = Child(*near.prefix(), sys.executable, LOCKER, f"10.91.1.1:{port}", "cut", "near")
        self.addCleanup(waiter.stop)
        waiter.expect(r"^queued")

        server_side.cut("to-far")
        began = time.monotonic()
        bound = KEEPALIVE_INTERVAL_SECONDS + KEEPALIVE_TIMEOUT_SECONDS + SLACK_SECONDS
        second = int(waiter.expect(r"^granted (\d+)", seconds=bound)[1])
        self.assertLessEqual(time.monotonic() - began, bound)
        self.assertGreater(second, first)
        self.assertIsNone(holder.process.poll(), "the holder was told by a reset: the cut was not silent")
