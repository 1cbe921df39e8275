"""kill -9 at named points: system calls of the file store, each before it is done and after. The real program and disk.

Needs root and strace, which ends the server at a call: by SIGKILL, so that the kernel never carries the call out, or by
SIGUSR1, which nobody handles, so that the call is done and its thread never gets on; without them it fails.
"""

import json
import os
import pathlib
import random
import re
import signal
import subprocess
import tempfile
import time
import unittest
from typing import NamedTuple

from processes import BOUND_SECONDS, Child, Server, binary

SEED = int(os.environ.get("TICKETLOCK_SEED", "8476"))
ENDED_BY = {"before": signal.SIGKILL, "after": signal.SIGUSR1}
# As strace writes a call down, and its result: a question mark where it was not carried out.
CALL = re.compile(r"^\w+\(.*\) += (\?|\d+)$", re.MULTILINE)
LOAD_SECONDS = 22
# Every point is come to at least once; until then again and again.
KILLING_SECONDS = 14
# Fewer grants than this for each kill under load show nothing.
LOAD = 50


class Point(NamedTuple):
    """The n-th of these calls of one thread on this file, if only one counts; n is drawn from `least` to `most`."""

    name: str
    call: str
    file: str | None
    least: int
    most: int


# The file is made under another name, synced and renamed; then the names are synced, the file is opened and checked.
CREATION = [
    Point("a page of the new file", "pwrite64", "locks.redb.new", 1, 14),
    Point("a sync of the new file", "fdatasync", "locks.redb.new", 1, 7),
    Point("the rename", "rename", None, 1, 1),
    Point("the sync of the names", "fsync", None, 1, 1),
    Point("a sync of the first check", "fdatasync", "locks.redb", 1, 4),
    Point("the first note", "pwrite64", "progress", 1, 1),
    Point("the reserve", "fallocate", None, 1, 1),
]

# Calls of the committer, counted from when the server listens. A commit is some eight pages, one sync, one note.
LOADED = [
    Point("a page", "pwrite64", "locks.redb", 800, 2_400),
    Point("the sync of a commit", "fdatasync", "locks.redb", 100, 300),
    Point("the note of a commit", "pwrite64", "progress", 100, 300),
]

# Calls of whatever thread is the first to come so far.
ANSWERS = [Point("what a connection is told", "writev", None, 50, 150)]

# Of a server that was told to stop: each of 32 shards is given back by a commit, then the data file is closed. So many
# that what was under way before is past.
DRAIN = [
    Point("a sync of a drain", "fdatasync", "locks.redb", 24, 36),
    Point("the note of a drain", "pwrite64", "progress", 24, 32),
]

# Each follows one of the kills above, so that it is a recovery that is killed. Each shard is taken by a commit.
START = [
    Point("a page of the check", "pwrite64", "locks.redb", 1, 6),
    Point("a sync of the check", "fdatasync", "locks.redb", 1, 7),
    Point("the note of the check", "pwrite64", "progress", 1, 1),
    Point("the note of a shard that is taken", "pwrite64", "progress", 2, 30),
]


class PointsTest(unittest.TestCase):
    def setUp(self):
        print(f"seed {SEED}")
        self.drawn = random.Random(SEED)
        self.folder = pathlib.Path(self.enterContext(tempfile.TemporaryDirectory(prefix="ticketlock-points-")))

    def strace(self, point, side, store, *whom):
        """The command that ends a server there, the folder of what it writes down, and which of the calls it is."""
        when = self.drawn.randint(point.least, point.most)
        folder = pathlib.Path(tempfile.mkdtemp(dir=self.folder))
        command = ["strace", "-ff", "-y", "-o", folder / "calls", "-e", f"trace={point.call}"]
        command += ["-e", f"inject={point.call}:signal={ENDED_BY[side].name}:when={when}"]
        if point.file:
            command += ["-P", store / point.file]
        return [*command, *whom], folder, when

    def ended_there(self, point, side, server, watching, folder, when):
        """The call was the last of its thread, and was done or was not."""
        what = f"{side} {point.name}: {point.call} {when}"
        try:
            self.assertEqual(server.process.wait(BOUND_SECONDS), -ENDED_BY[side], what)
        except subprocess.TimeoutExpired:
            self.fail(f"not reached: {what}")
        # It has written all down when its output ends.
        watching.stop()
        threads = [CALL.findall(calls.read_text()) for calls in folder.iterdir()]
        there = [calls[-1] for calls in threads if len(calls) == when]
        self.assertIn(side == "after", [result != "?" for result in there], what)
        print(f"  {what}", flush=True)

    def killed_while_starting(self, point, side, store, listen="127.0.0.1:0"):
        command, folder, when = self.strace(point, side, store, "-D", "-f", "--")
        command += [binary("TICKETLOCK_BIN"), "serve", "--store", f"file:{store}"]
        with Child(*command, "--listen", listen, "--http", "127.0.0.1:0") as server:
            self.ended_there(point, side, server, server, folder, when)

    def killed(self, point, side, store, server):
        """Under load, or, for those points, while it drains."""
        pid = server.process.pid
        whom = ["-f", "-p", pid] if point in ANSWERS else ["-p", committer(pid)]
        command, folder, when = self.strace(point, side, store, *whom)
        if point in DRAIN:
            # So that it is watched from the moment when it is told.
            os.kill(pid, signal.SIGSTOP)
        with Child(*command) as watching:
            watching.expect("attached")
            if point in DRAIN:
                os.kill(pid, signal.SIGTERM)
                os.kill(pid, signal.SIGCONT)
            self.ended_there(point, side, server, watching, folder, when)
        if point in DRAIN:
            server.expect("stopping")

    def inspect(self, store):
        command = [binary("TICKETLOCK_BIN"), "inspect", store, "-o", "json"]
        return subprocess.run(command, stdout=subprocess.PIPE, stderr=subprocess.PIPE, text=True, timeout=BOUND_SECONDS)

    def intact(self, store):
        done = self.inspect(store)
        self.assertEqual(done.returncode, 0, done.stderr)
        return json.loads(done.stdout)

    def grants(self, verify):
        """How many there were, none of them against what is promised."""
        said, words = verify.communicate(timeout=BOUND_SECONDS * 2)
        self.assertEqual(verify.returncode, 0, words)
        return json.loads(said)["grants"]

    def test_kills_while_a_store_is_made(self):
        """Whatever a start leaves in the directory, the next one makes a whole store of it."""
        for number, point in enumerate(CREATION):
            for side in ENDED_BY:
                store = self.folder / f"store {number} {side}"
                self.killed_while_starting(point, side, store)
                done = self.inspect(store)
                if (store / "locks.redb").exists():
                    self.assertEqual(done.returncode, 0, done.stderr)
                else:
                    self.assertIn("there is no store", done.stderr)
                with Server(store=f"file:{store}") as server:
                    lock = [binary("TICKETLOCK_BIN"), "lock", "a key", "--detach", "--endpoint", server.grpc]
                    token = int(subprocess.check_output(lock, timeout=BOUND_SECONDS))
                    self.assertEqual(server.stop(), 0)
                (holder,) = self.intact(store)["holders"]
                self.assertEqual(holder["fencing_token"], token)

    def test_kills_under_load(self):
        """Nothing acknowledged is lost at any point, by clients that work on all the while."""
        store = self.folder / "store"
        server = self.enterContext(Server(store=f"file:{store}"))
        listen = server.grpc
        command = [binary("TICKETLOCK_BIN"), "verify", "--against", f"http://{listen}", "--seed", str(SEED)]
        command += ["--for", f"{LOAD_SECONDS}s", "--ttl", "1s", "-o", "json"]
        verify = subprocess.Popen(command, stdout=subprocess.PIPE, stderr=subprocess.PIPE, text=True)
        self.addCleanup(verify.kill)
        sides = lambda points: [(point, side) for point in points for side in ENDED_BY]
        points, starts = sides(LOADED + ANSWERS + DRAIN), sides(START)
        self.drawn.shuffle(points)
        self.drawn.shuffle(starts)
        began, kills = time.monotonic(), 0
        try:
            while kills < len(points) or time.monotonic() - began < KILLING_SECONDS:
                self.killed(*points[kills % len(points)], store, server)
                self.killed_while_starting(*starts[kills % len(starts)], store, listen)
                commits = self.intact(store)["commits"]
                self.assertIsNone(verify.poll(), "the load ended before the last kill")
                server = self.enterContext(Server(store=f"file:{store}", listen=listen))
                kills += 1
        except AssertionError:
            # What it says may be why.
            self.grants(verify)
            raise
        grants = self.grants(verify)
        print(f"{kills} kills under load, {kills} of a start, {grants} grants")
        self.assertGreater(grants, LOAD * kills)
        self.assertEqual(server.stop(), 0)
        self.assertGreater(self.intact(store)["commits"], commits)


def committer(pid):
    """The thread of a server that writes."""
    for thread in pathlib.Path(f"/proc/{pid}/task").iterdir():
        if (thread / "comm").read_text().strip() == "committer":
            return thread.name
    raise AssertionError("no thread is called committer")


if __name__ == "__main__":
    unittest.main()
