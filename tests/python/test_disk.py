"""The file store on a disk that fails: full, a write that fails, a sync that fails. The real program, real disks.

Needs root (for a small file system of its own in memory, mounted by the test alone) and strace (which makes one system
call of the server fail); without them it fails.
"""

import os
import pathlib
import subprocess
import tempfile
import time
import unittest

from processes import BOUND_SECONDS, Server, binary

UNAVAILABLE = 69


def ticketlock(server, *arguments):
    """Exit status and output of the command."""
    command = [binary("TICKETLOCK_BIN"), *arguments, "--endpoint", f"http://{server.grpc}"]
    done = subprocess.run(command, stdout=subprocess.PIPE, stderr=subprocess.STDOUT, text=True, timeout=BOUND_SECONDS)
    return done.returncode, done.stdout.strip()


def lock(server, key):
    return ticketlock(server, "lock", key, "--detach", "--ttl", "2m", "--no-wait")


def keys(server):
    status, listed = ticketlock(server, "ls", "-o", "json")
    assert status == 0, listed
    return {line.split('"key":"', 1)[1].split('"', 1)[0] for line in listed.splitlines()}


class DiskTest(unittest.TestCase):
    def directory(self):
        directory = tempfile.TemporaryDirectory(prefix="ticketlock-disk-")
        self.addCleanup(directory.cleanup)
        return pathlib.Path(directory.name)

    def serve(self, store, prefix=()):
        server = Server(store=f"file:{store}", prefix=prefix)
        self.addCleanup(server.stop)
        return server

    def until(self, what, condition):
        end = time.monotonic() + BOUND_SECONDS
        while not condition():
            self.assertLess(time.monotonic(), end, what)

    def test_a_full_disk_refuses_new_tickets_and_nothing_else(self):
        """Holders renew and unlock on a full disk; new tickets are refused until there is space; nothing is lost."""
        disk = self.directory() / "disk"
        disk.mkdir()
        mounted = subprocess.run(["mount", "-t", "tmpfs", "-o", "size=32m", "ticketlock-test", disk], check=False)
        self.assertEqual(mounted.returncode, 0, "this test needs root, to mount a small file system")
        self.addCleanup(subprocess.run, ["umount", disk], check=True)
        server = self.serve(disk / "store")
        tokens = {}
        for key in ("kept", "given back"):
            status, tokens[key] = lock(server, key)
            self.assertEqual(status, 0, tokens[key])
        filler = disk / "filler"
        with open(filler, "wb", buffering=0) as file, self.assertRaises(OSError):
            while True:
                file.write(bytes(65_536))

        taken = []

        def refused():
            status, said = lock(server, f"new {len(taken)}")
            if status == 0:
                taken.append(f"new {len(taken)}")
                return False
            self.assertEqual(status, UNAVAILABLE, said)
            self.assertIn("STORE_UNAVAILABLE", said)
            return True

        self.until("the disk is full, yet tickets are taken", refused)
        server.expect("the disk is full")
        renew = lambda key: ticketlock(server, "renew", key, "--token", tokens[key])[0] == 0
        self.until("no renewal on a full disk", lambda: renew("kept"))
        unlock = lambda key: ticketlock(server, "unlock", key, "--token", tokens[key])[0] == 0
        self.until("no unlock on a full disk", lambda: unlock("given back"))
        self.assertEqual(lock(server, "another")[0], UNAVAILABLE)

        filler.unlink()
        self.until("there is space, yet no ticket is taken", lambda: lock(server, "later")[0] == 0)
        self.assertEqual(keys(server), {"kept", "later", *taken})
        self.assertEqual(server.stop(), 0)
        server = self.serve(disk / "store")
        self.assertEqual(keys(server), {"kept", "later", *taken}, "after a restart")
        self.assertTrue(renew("kept"), "under its token")
        self.assertEqual(server.stop(), 0)

    def fails_at(self, call, when, error="EIO", words="Input/output error"):
        """One system call of the server fails: it ends at once with a message, and kept what it acknowledged."""
        store = self.directory() / "store"
        trace = self.directory() / "trace"
        strace = ["strace", "-f", "-qq", "-o", trace, "-e", f"trace={call}"]
        strace += ["-e", f"inject={call}:error={error}:when={when}"]
        server = self.serve(store, prefix=[*strace, "--"])
        taken = set()
        for number in range(1_000):
            key = f"key {number}"
            status, said = lock(server, key)
            if status != 0:
                self.assertEqual(status, UNAVAILABLE, said)
                break
            taken.add(key)
        self.assertGreater(len(taken), 0)
        server.expect(f"the data file failed: .*{words}.*nothing is acknowledged any more")
        self.assertEqual(server.process.wait(BOUND_SECONDS), 1)
        server = self.serve(store)
        kept = keys(server)
        self.assertLessEqual(taken, kept, "what was acknowledged is lost")
        self.assertLessEqual(len(kept - taken), 1, "more is there than was asked for")
        self.assertEqual(server.stop(), 0)

    def test_a_failed_sync_ends_the_server(self):
        self.fails_at("fdatasync", 60)

    def test_a_sync_that_finds_no_space_is_a_failed_sync(self):
        """Some file systems say so late only: what was written and not synced may be gone, so it is no full disk."""
        self.fails_at("fdatasync", 60, "ENOSPC", "No space left on device")

    def test_a_failed_write_ends_the_server(self):
        self.fails_at("pwrite64", 400)


if __name__ == "__main__":
    unittest.main()
