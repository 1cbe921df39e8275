"""Child processes of the tests: a real server on free ports, and reading what a child prints, with a bound."""

import os
import queue
import re
import signal
import subprocess
import threading

BOUND_SECONDS = 30.0


def binary(variable):
    """The program that an environment variable names; scripts/test-python.sh sets them."""
    path = os.environ.get(variable, "")
    if not os.path.isfile(path):
        raise RuntimeError(f"{variable} does not name a program: run `make test`")
    return path


class Child:
    """A process whose output is read line by line. Leaving the `with` block ends it."""

    def __init__(self, *command, **options):
        self.command = [str(part) for part in command]
        self.process = subprocess.Popen(
            self.command, stdout=subprocess.PIPE, stderr=subprocess.STDOUT, text=True, errors="replace", **options
        )
        self.seen = []
        self._lines = queue.Queue()
        self._reader = threading.Thread(target=self._read, daemon=True)
        self._reader.start()

    def _read(self):
        for line in self.process.stdout:
            self._lines.put(line.rstrip("\n"))
        self._lines.put(None)

    def expect(self, pattern, seconds=BOUND_SECONDS):
        """The match of the next line that matches; fails when the child ends or the time passes before."""
        while True:
            try:
                line = self._lines.get(timeout=seconds)
            except queue.Empty:
                raise AssertionError(self._report(pattern, "did not say it in time")) from None
            if line is None:
                self._lines.put(None)
                raise AssertionError(self._report(pattern, "ended before"))
            self.seen.append(line)
            match = re.search(pattern, line)
            if match:
                return match

    def _report(self, pattern, what):
        return "\n".join([f"{' '.join(self.command)}: {what}: {pattern!r}; it said:", *self.seen[-40:]])

    def stop(self):
        """SIGTERM, and SIGKILL where that does not help. Returns the exit status."""
        if self.process.poll() is None:
            self.process.send_signal(signal.SIGTERM)
            try:
                self.process.wait(BOUND_SECONDS)
            except subprocess.TimeoutExpired:
                self.process.kill()
        self._reader.join(BOUND_SECONDS)
        self.process.stdout.close()
        return self.process.wait()

    def __enter__(self):
        return self

    def __exit__(self, *_):
        self.stop()


class Server(Child):
    """`ticketlock serve` on ports that the system chose; `grpc` and `http` are its addresses."""

    def __init__(self, *flags, listen="127.0.0.1:0", http="127.0.0.1:0", store="memory:", prefix=()):
        command = [*prefix, binary("TICKETLOCK_BIN"), "serve", "--store", store, "--listen", listen, "--http", http, *flags]
        super().__init__(*command)
        try:
            match = self.expect(r"listening grpc=(\S+) http=(\S+)")
        except AssertionError:
            self.stop()
            raise
        self.grpc, self.http = match.groups()
