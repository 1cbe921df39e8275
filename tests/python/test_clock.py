"""A wall clock that jumps changes nothing: leases run on the server's monotonic clock. The real program, whose wall clock
alone is set forth and back (libfaketime, from the package faketime; without it this fails)."""

import glob
import json
import os
import pathlib
import subprocess
import tempfile
import time
import unittest

from processes import BOUND_SECONDS, Server, binary

JUMPS = 50
OFFSETS = ["+3600", "-3600", "+86400", "-86400", "+1", "+0"]
# Of what a busy machine needs between two looks.
TOLERANCE_SECONDS = 1.0


class ClockTest(unittest.TestCase):
    def setUp(self):
        found = glob.glob("/usr/lib/*/faketime/libfaketime.so.1")
        self.assertTrue(found, "libfaketime is missing: install the package faketime")
        directory = tempfile.TemporaryDirectory(prefix="ticketlock-clock-")
        self.addCleanup(directory.cleanup)
        self.offset = pathlib.Path(directory.name) / "offset"
        self.set_clock("+0")
        fake = {
            "LD_PRELOAD": found[0],
            "FAKETIME_TIMESTAMP_FILE": str(self.offset),
            "FAKETIME_NO_CACHE": "1",
            "FAKETIME_DONT_FAKE_MONOTONIC": "1",
        }
        prefix = ["env", *(f"{name}={value}" for name, value in fake.items())]
        store = f"file:{directory.name}/store"
        self.server = Server(store=store, prefix=prefix)
        self.addCleanup(self.server.stop)

    def set_clock(self, offset):
        """Renamed into place, so that no reader sees half of it."""
        new = self.offset.with_suffix(".new")
        new.write_text(offset + "\n", encoding="ascii")
        os.replace(new, self.offset)

    def ticketlock(self, *arguments):
        command = [binary("TICKETLOCK_BIN"), *arguments, "--endpoint", f"http://{self.server.grpc}"]
        done = subprocess.run(command, stdout=subprocess.PIPE, text=True, timeout=BOUND_SECONDS, check=True)
        return done.stdout

    def holders(self, key):
        return json.loads(self.ticketlock("show", key, "-o", "json"))["holders"]

    def test_leases_run_on_while_the_wall_clock_jumps(self):
        """Fifty jumps of up to a day: what is left of a lease shrinks by the time that passed, and by nothing else."""
        began = time.monotonic()
        self.ticketlock("lock", "long", "--detach", "--ttl", "10m")
        for jump in range(JUMPS):
            self.set_clock(OFFSETS[jump % len(OFFSETS)])
            (holder,) = self.holders("long")
            expected = 600 - (time.monotonic() - began)
            self.assertAlmostEqual(holder["lease_left_ms"] / 1000, expected, delta=TOLERANCE_SECONDS)

    def test_a_lease_ends_in_its_own_time(self):
        """A jump forth ends no lease early, a jump back keeps none for longer."""
        for offset in ("+86400", "-86400"):
            began = time.monotonic()
            self.ticketlock("lock", f"key {offset}", "--detach", "--ttl", "2s")
            self.set_clock(offset)
            while self.holders(f"key {offset}"):
                self.assertLess(time.monotonic() - began, 2 + BOUND_SECONDS)
            took = time.monotonic() - began
            self.assertGreater(took, 2, "it ended early")
            self.assertLess(took, 2 + TOLERANCE_SECONDS * 2, "it ended late")


if __name__ == "__main__":
    unittest.main()
