#!/usr/bin/env python3
"""One hour of mixed load on a server with the file store: its memory, its files and its descriptors must not grow, and
`ticketlock verify` must find nothing. Prints one line with the figures; --minutes for less."""

import argparse
import json
import os
import pathlib
import subprocess
import sys
import tempfile
import time

EVERY_SECONDS = 10
# What is filled once, caches and pools, is full by then.
WARM = 1 / 6
RSS_SLOPE_KIB_PER_HOUR = 1024
FILE_GROWTH = 1.25


def field(pid, name):
    for line in pathlib.Path(f"/proc/{pid}/status").read_text(encoding="ascii").splitlines():
        if line.startswith(name + ":"):
            return int(line.split()[1])
    raise RuntimeError(f"no {name} in /proc/{pid}/status")


def slope(samples):
    """Least squares: change per second."""
    mean_x = sum(x for x, _ in samples) / len(samples)
    mean_y = sum(y for _, y in samples) / len(samples)
    spread = sum((x - mean_x) ** 2 for x, _ in samples)
    return sum((x - mean_x) * (y - mean_y) for x, y in samples) / spread


def main():
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("--minutes", type=float, default=60)
    parser.add_argument("--ticketlock", default="target/release/ticketlock")
    arguments = parser.parse_args()
    seconds = arguments.minutes * 60
    folder = tempfile.TemporaryDirectory(prefix="ticketlock-soak-")
    store = pathlib.Path(folder.name) / "store"
    serve = [arguments.ticketlock, "serve", "--store", f"file:{store}", "--log", "error"]
    serve += ["--listen", "127.0.0.1:0", "--http", "127.0.0.1:0"]
    server = subprocess.Popen(serve, stdout=subprocess.PIPE, text=True)
    children = [server]
    try:
        endpoint = "http://" + server.stdout.readline().split("grpc=")[1].split()[0]
        environment = dict(os.environ, TICKETLOCK_ENDPOINT=endpoint)
        span = f"{int(seconds)}s"
        verify = [arguments.ticketlock, "verify", "--for", span, "--rate", "500", "-o", "json"]
        bench = [arguments.ticketlock, "bench", "mixed", "--duration", span, "--rate", "1000", "-o", "json"]
        load = [subprocess.Popen(one, stdout=subprocess.PIPE, text=True, env=environment) for one in (verify, bench)]
        children += load
        samples = sample(server, load, store)
        verified, benched = [json.loads(one.communicate()[0]) for one in load]
    finally:
        for child in children:
            if child.poll() is None:
                child.terminate()
                child.wait(30)
        folder.cleanup()
    judge(samples, verified, benched)


def sample(server, load, store):
    """(seconds, resident KiB, descriptors, bytes of the data file), until the load has ended."""
    samples, began = [], time.monotonic()
    while any(one.poll() is None for one in load):
        descriptors = len(os.listdir(f"/proc/{server.pid}/fd"))
        size = (store / "locks.redb").stat().st_size
        samples.append((time.monotonic() - began, field(server.pid, "VmRSS"), descriptors, size))
        time.sleep(EVERY_SECONDS)
    return samples


def judge(samples, verified, benched):
    end = samples[-1][0]
    # The last look may come after the first load has ended.
    warm = [one for one in samples if end * WARM < one[0] < end - EVERY_SECONDS * 2]
    if len(warm) < 10:
        sys.exit("soak: too short to say anything")
    growth = slope([(at, rss) for at, rss, _, _ in warm]) * 3600
    descriptors = [count for _, _, count, _ in warm]
    sizes = [size for _, _, _, size in warm]
    pairs = benched["phases"][0]["count"]
    print(
        f"soak: {end / 60:.0f} min, {verified['grants']} grants verified, {pairs} pairs beside them; "
        f"violations {len(verified['violations'])}, errors {benched['errors']}; "
        f"RSS {warm[0][1]} -> {warm[-1][1]} KiB, slope {growth:+.0f} KiB/h; "
        f"descriptors {min(descriptors)} to {max(descriptors)}; "
        f"data file {sizes[0] >> 10} -> {sizes[-1] >> 10} KiB",
        flush=True,
    )
    problems = []
    if verified["violations"] or benched["errors"]:
        problems += [*verified["violations"][:20], f"{benched['errors']} errors"]
    if growth > RSS_SLOPE_KIB_PER_HOUR:
        problems.append(f"memory grows by {growth:.0f} KiB/h, more than {RSS_SLOPE_KIB_PER_HOUR}")
    if max(descriptors) > min(descriptors) + 8:
        problems.append("descriptors are not flat")
    if sizes[-1] > sizes[0] * FILE_GROWTH:
        problems.append("the data file grows")
    if problems:
        sys.exit("\n".join(["soak: failed", *problems]))


if __name__ == "__main__":
    main()
