"""Pauses of whole processes, shorter and longer than leases. The real program, stopped and continued by signals."""

import json
import os
import random
import signal
import subprocess
import sys
import tempfile
import threading
import unittest

import stubs
from processes import BOUND_SECONDS, Server, binary

DEMO = stubs.ROOT / "examples" / "fencing" / "demo.py"
TTL_SECONDS = 1.0
PAUSES = 5
# Fewer grants than this between pauses show nothing.
LOAD = 300


class PauseTest(unittest.TestCase):
    def pauses(self, whom):
        """`ticketlock verify` against a server with the file store while one of the two is stopped now and then."""
        seed = 8476
        print(f"seed {seed}")
        drawn = random.Random(seed)
        folder = self.enterContext(tempfile.TemporaryDirectory(prefix="ticketlock-pause-"))
        server = self.enterContext(Server(store=f"file:{folder}/store"))
        command = [binary("TICKETLOCK_BIN"), "verify", "--against", f"http://{server.grpc}", "--seed", str(seed)]
        command += ["--for", "20s", "--ttl", f"{TTL_SECONDS}s", "-o", "json"]
        verify = subprocess.Popen(command, stdout=subprocess.PIPE, stderr=subprocess.PIPE, text=True)
        self.addCleanup(verify.kill)
        pid = server.process.pid if whom == "server" else verify.pid
        # The length of a pause is the fault itself; nothing is waited for with it.
        passes = threading.Event()
        for _ in range(PAUSES):
            passes.wait(1)
            os.kill(pid, signal.SIGSTOP)
            passes.wait(drawn.uniform(0.5, 3) * TTL_SECONDS)
            os.kill(pid, signal.SIGCONT)
        said, words = verify.communicate(timeout=BOUND_SECONDS * 2)
        self.assertEqual(verify.returncode, 0, words)
        self.assertGreater(json.loads(said)["grants"], LOAD)

    def test_a_server_that_was_stopped_keeps_its_promises(self):
        """Leases that came due meanwhile get the chance to be renewed, and nobody overtakes."""
        self.pauses("server")

    def test_clients_that_were_stopped_believe_nothing_false(self):
        """A client that was stopped for longer than its lease does not count as holder what others were given."""
        self.pauses("client")

    def test_fencing_stops_what_a_pause_lets_through(self):
        """The example's accident happens each time with fencing off, and never with it on."""
        command = [sys.executable, DEMO, "--rounds", "5", "--ticketlock", binary("TICKETLOCK_BIN")]
        done = subprocess.run(command, stdout=subprocess.PIPE, stderr=subprocess.PIPE, text=True, timeout=120)
        self.assertEqual(done.returncode, 0, done.stderr)
        self.assertIn("fencing off: 5 paused writers, 5 updates lost", done.stdout)
        self.assertIn("fencing on: 5 paused writers, 0 updates lost, 5 stale writes refused", done.stdout)


if __name__ == "__main__":
    unittest.main()
