"""The example does what its first lines say."""

import os
import subprocess
import sys
import tempfile
import unittest

import stubs
from processes import BOUND_SECONDS, Server

EXAMPLE = stubs.ROOT / "examples" / "python" / "lock.py"


class ExampleTest(unittest.TestCase):
    def test_runs_a_command_under_a_lock(self):
        """The command sees its token, its status is passed on, and the next run gets a greater token."""
        server = self.enterContext(Server())
        folder = self.enterContext(tempfile.TemporaryDirectory(prefix="ticketlock-stubs-"))
        stubs.generate(folder)
        script = 'echo "$TICKETLOCK_FENCING_TOKEN"; exit 7'
        tokens = []
        for _ in range(2):
            done = subprocess.run(
                [sys.executable, EXAMPLE, server.grpc, "example", "--", "sh", "-c", script],
                env={**os.environ, "PYTHONPATH": folder},
                stdout=subprocess.PIPE,
                stderr=subprocess.PIPE,
                text=True,
                timeout=BOUND_SECONDS,
            )
            self.assertEqual(done.returncode, 7, done.stderr)
            tokens.append(int(done.stdout))
        self.assertGreater(tokens[1], tokens[0])
