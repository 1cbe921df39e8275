#!/usr/bin/env python3
"""The accident and the cure: a holder that is paused for longer than its lease overwrites what its successor wrote,
unless the data's guard checks the fencing token.

    python3 examples/fencing/demo.py --ticketlock target/release/ticketlock

`Resource` is what to copy, `worker` is a client that does all a client can do, the rest stages the accident.
"""

import argparse
import contextlib
import fcntl
import json
import os
import pathlib
import shutil
import signal
import subprocess
import sys
import tempfile

KEY = "counter"
TTL = "500ms"
NOT_HELD = 76  # Exit status of `ticketlock` where a lock is not held any more.
ROUND_SECONDS_MAX = 60


class Stale(Exception):
    """The request came with a smaller token than an earlier one."""


class Resource:
    """A text, and the highest token that ever came with a request, in one file. It stands for a storage service."""

    def __init__(self, folder, fencing):
        self.file = pathlib.Path(folder, f"fencing-{fencing}.json")
        self.fencing = fencing == "on"

    def create(self, text):
        self._replace({"highest_token": 0, "text": text})

    def read(self, token):
        """A read shows the token, too: what an older holder writes after it would be lost with the reader's write."""
        return self._request(token)

    def write(self, token, text):
        self._request(token, text)

    def _request(self, token, text=None):
        # Nothing comes between check and change. It is not the clients' lock: that one spans read, work and write.
        with open(self.file.with_suffix(".turn"), "w") as turn:
            fcntl.flock(turn, fcntl.LOCK_EX)
            state = json.loads(self.file.read_text())
            if self.fencing and token < state["highest_token"]:
                raise Stale(f"token {token}, after {state['highest_token']}")
            text = state["text"] if text is None else text
            self._replace({"highest_token": max(token, state["highest_token"]), "text": text})
            return text

    def _replace(self, state):
        # Token and text change in one step, and are on the disk before the answer: a guard that forgets is none.
        new = self.file.with_suffix(".new")
        with open(new, "w") as file:
            json.dump(state, file)
            file.flush()
            os.fsync(file.fileno())
        os.replace(new, self.file)
        folder = os.open(self.file.parent, os.O_RDONLY)
        os.fsync(folder)
        os.close(folder)


def worker(ticketlock, folder, fencing):
    """Adds one under the lock. Says its token when it is sure of its lock, and in the end what became of its write."""
    resource = Resource(folder, fencing)
    while True:
        token = int(call(ticketlock, "lock", KEY, "--detach", "--ttl", TTL))
        value = int(resource.read(token))
        # The last check before the write: the lock is held, for a full lease from here.
        if call(ticketlock, "renew", KEY, f"--token={token}") is not None:
            break
    print(token, flush=True)
    # A pause can come before any instruction. Waiting for a line lets the demo choose the one after the check.
    sys.stdin.readline()
    try:
        resource.write(token, str(value + 1))
        print("written", flush=True)
    except Stale:
        print("refused", flush=True)  # And a real client would start again from the lock.
    call(ticketlock, "unlock", KEY, f"--token={token}")


def call(ticketlock, *arguments):
    """What the command prints, or None where the lock is not held any more."""
    done = subprocess.run([ticketlock, *arguments], stdin=subprocess.DEVNULL, capture_output=True, text=True)
    if done.returncode not in (0, NOT_HELD):
        sys.exit(f"`ticketlock {' '.join(arguments)}` ended with {done.returncode}: {done.stderr.strip()}")
    return done.stdout if done.returncode == 0 else None


@contextlib.contextmanager
def running(command, **options):
    """A process that is gone, with all it started, when the block ends."""
    with subprocess.Popen(command, stdout=subprocess.PIPE, text=True, start_new_session=True, **options) as process:
        try:
            yield process
        finally:
            if process.poll() is None:
                os.killpg(process.pid, signal.SIGKILL)


@contextlib.contextmanager
def server(ticketlock):
    """A server on free ports; yields the environment that leads its clients to it."""
    # The caller's own settings may name the caller's own server.
    environment = {name: value for name, value in os.environ.items() if not name.startswith("TICKETLOCK_")}
    command = "serve --store memory: --listen 127.0.0.1:0 --http 127.0.0.1:0 --log error"
    with running([ticketlock, *command.split()], env=environment) as process:
        address = process.stdout.readline().partition("grpc=")[2].split()
        if not address:
            sys.exit(f"`{ticketlock} {command}` did not start; see above")
        yield {**environment, "TICKETLOCK_ENDPOINT": f"http://{address[0]}"}


def play(start):
    """One round: A is paused between its check and its write, and B does its work meanwhile. What both were told."""
    with start("A") as a:
        token_a = int(say(a))
        os.killpg(a.pid, signal.SIGSTOP)
        if not os.WIFSTOPPED(os.waitpid(a.pid, os.WUNTRACED)[1]):
            sys.exit("worker A ended where it should have been paused")
        # B waits in line: its grant is the proof that the pause has outlasted the lease.
        with start("B") as b:
            token_b, told_b = int(say(b)), finish(b)
        if token_b <= token_a or told_b != "written":
            sys.exit(f"worker B came after token {token_a}, got {token_b}, and its write was {told_b}")
        return [finish(a), told_b]


def say(process):
    """The next line that a worker says."""
    return process.stdout.readline().strip() or sys.exit("a worker ended early; see above")


def finish(process):
    """Lets a worker go on, paused or not, to its write; answers what became of it."""
    print(file=process.stdin, flush=True)
    os.killpg(process.pid, signal.SIGCONT)
    told = say(process)
    return told if process.wait() == 0 else sys.exit("a worker failed; see above")


def paused_writers(ticketlock, folder, environment, fencing, rounds):
    """Plays all rounds; answers how many updates were lost, and how many refused."""
    resource = Resource(folder, fencing)
    resource.create("0")

    def start(name):
        command = [sys.executable, __file__, "worker", ticketlock, folder, fencing]
        return running(command, stdin=subprocess.PIPE, env={**environment, "TICKETLOCK_OWNER": name})

    told = []
    for _ in range(rounds):
        signal.alarm(ROUND_SECONDS_MAX)
        told += play(start)
    signal.alarm(0)
    # Lost is what somebody was told is written, and is not there.
    return told.count("written") - int(json.loads(resource.file.read_text())["text"]), told.count("refused")


def main():
    parser = argparse.ArgumentParser(description="A paused lock holder corrupts a file; a fencing token prevents it.")
    parser.add_argument("--ticketlock", metavar="PATH", default="ticketlock", help="the command (default: on PATH)")
    parser.add_argument("--rounds", type=int, default=20, help="paused writers per mode (default: 20)")
    arguments = parser.parse_args()
    ticketlock = shutil.which(arguments.ticketlock)
    if ticketlock is None:
        parser.error(f"no command {arguments.ticketlock}; build it, and say --ticketlock target/release/ticketlock")
    if (n := arguments.rounds) < 1:
        parser.error("--rounds: at least 1")
    # As exceptions, so that everything that was started ends.
    signal.signal(signal.SIGINT, lambda *_: sys.exit(130))
    signal.signal(signal.SIGTERM, lambda *_: sys.exit(143))
    signal.signal(signal.SIGALRM, lambda *_: sys.exit(f"a round took longer than {ROUND_SECONDS_MAX} s"))
    temporary = tempfile.TemporaryDirectory(prefix="ticketlock-fencing-")
    with temporary as folder, server(ticketlock) as environment:
        off = paused_writers(ticketlock, folder, environment, "off", n)
        print(f"fencing off: {n} paused writers, {off[0]} updates lost", flush=True)
        on = paused_writers(ticketlock, folder, environment, "on", n)
        print(f"fencing on: {n} paused writers, {on[0]} updates lost, {on[1]} stale writes refused", flush=True)
    if off != (n, 0) or on != (0, n):
        sys.exit(f"expected {n} lost and 0 refused without fencing, 0 lost and {n} refused with it; got {off} and {on}")


if __name__ == "__main__":
    if sys.argv[1:2] == ["worker"]:
        worker(*sys.argv[2:])
    else:
        main()
