#!/usr/bin/env python3
"""Plants twelve defects, one after the other, and fails unless each is found. See core/src/planted.rs.

One build with the feature `planted` serves all: the defect is chosen at run time. Without arguments each defect meets the
layer that is to find it; with --all every layer, and a table tells which did. First, without a defect, all must pass.
"""

import argparse
import json
import os
import shutil
import subprocess
import sys
import time
from pathlib import Path

ROOT = Path(__file__).resolve().parent.parent
BUILT = Path(os.environ.get("CARGO_TARGET_DIR", ROOT / "target")) / "planted"
FEATURES = "ticketlock-core/planted,ticketlock/planted,ticketlock-sim/planted"
TARGETS = ["rules", "wire_session_stuck", "seeds"]

# What finds each, quickest first.
DEFECTS = {
    "renewal-not-kept": "scripts",
    "last-in-first-out": "scripts",
    "token-reused": "simulation",
    "answered-before-sync": "simulation",
    "name-not-synced": "simulation",
    "waiter-left-behind": "scripts",
    "request-id-ignored": "scripts",
    "wall-clock": "process",
    "expiry-off-by-one": "scripts",
    "any-token-unlocks": "simulation",
    "wake-up-lost": "simulation",
    "outbox-unbounded": "wire",
}


def build():
    """The programs with all defects in them, in a folder of their own."""
    command = ["cargo", "test", "--no-run", "--locked", "--message-format=json-render-diagnostics"]
    command += ["-p", "ticketlock-core", "-p", "ticketlock", "-p", "ticketlock-sim", "--features", FEATURES]
    for target in TARGETS:
        command += ["--test", target]
    output = subprocess.run(command, cwd=ROOT, stdout=subprocess.PIPE, check=True, text=True).stdout
    BUILT.mkdir(parents=True, exist_ok=True)
    programs = {}
    for line in output.splitlines():
        artifact = json.loads(line)
        if artifact.get("reason") == "compiler-artifact" and artifact.get("executable"):
            name = artifact["target"]["name"]
            programs[name] = shutil.copy2(artifact["executable"], BUILT / name)
    # The programs of the usual build have the same names: they are put back.
    subprocess.run(["cargo", "build", "--locked", "--bins"], cwd=ROOT, check=True)
    return programs


def layers(programs):
    """What can find a defect, by name: a command that fails then."""
    clock = [sys.executable, "-m", "unittest", "--failfast", "test_clock"]
    return {
        "scripts": [programs["rules"], "script"],
        "model": [programs["rules"], "model"],
        "simulation": [programs["ticketlock-sim"], "0..60", "--stop"],
        "wire": [programs["wire_session_stuck"]],
        "process": clock,
    }


def found(command, defect, programs):
    """Whether the command fails with this defect, and how long that took."""
    environment = dict(os.environ, TICKETLOCK_BIN=str(programs["ticketlock"]), RUST_BACKTRACE="0")
    environment.pop("TICKETLOCK_PLANTED", None)
    if defect:
        environment["TICKETLOCK_PLANTED"] = defect
    began = time.monotonic()
    try:
        done = subprocess.run(
            command, cwd=ROOT / "tests/python", env=environment, capture_output=True, text=True, timeout=90
        )
    except subprocess.TimeoutExpired:
        return True, time.monotonic() - began, "it came to no end"
    return done.returncode != 0, time.monotonic() - began, done.stdout[-2000:] + done.stderr[-2000:]


def main():
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    parser.add_argument("--all", action="store_true", help="every defect meets every layer")
    parser.add_argument("--only", help="this defect alone")
    arguments = parser.parse_args()
    programs = build()
    commands = layers(programs)
    missed = []
    for name, command in commands.items():
        failed, took, words = found(command, None, programs)
        print(f"no defect           {name:<12} {'FAILED' if failed else 'passes'} ({took:.0f} s)", flush=True)
        if failed:
            sys.exit(f"{name} fails without a defect:\n{words}")
    for defect, layer in DEFECTS.items():
        if arguments.only not in (None, defect):
            continue
        caught = []
        for name in commands if arguments.all else [layer]:
            failed, took, _ = found(commands[name], defect, programs)
            if failed:
                caught.append(f"{name} ({took:.0f} s)")
        print(f"{defect:<20} {'found by ' + ', '.join(caught) if caught else 'NOT FOUND'}", flush=True)
        if not caught:
            missed.append(defect)
    if missed:
        sys.exit(f"planted: not found: {', '.join(missed)}")
    print(f"planted: {1 if arguments.only else len(DEFECTS)} of {1 if arguments.only else len(DEFECTS)} found")


if __name__ == "__main__":
    main()
