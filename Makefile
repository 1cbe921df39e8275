# run: a server, release build. test: everything, installs what it needs. verify: checks, writes nothing.
# fix: what can be mended by a tool. bench: the core's benches with their bounds, then Ticketlock beside others.
# sim: runs of the simulation, SEEDS=A..B or one seed. soak: an hour of mixed load, then
# 10,000 locks of one client for ten minutes.
# torture: a thousand cut connections and 500 killed servers under load.

SHELL := /bin/bash
.SHELLFLAGS := -euo pipefail -c
.DEFAULT_GOAL := help
.PHONY: help run test verify fix bench sim soak torture

help:
	@echo "make run | test | verify | fix | bench | sim | soak | torture"

run:
	cargo run --release --locked -- serve

test:
	scripts/prepare.sh test
	cargo test --locked
	cargo test --locked --features shuttle --test interleavings
	scripts/planted.py
	scripts/test-python.sh
	@echo "make test: passed"

verify:
	scripts/prepare.sh verify
	scripts/verify.sh
	@echo "make verify: passed"

SEEDS ?= 0..1000
sim:
	cargo run --release --locked -p ticketlock-sim -- $(SEEDS)

soak:
	cargo build --release --locked --bin ticketlock
	scripts/soak.py --ticketlock $${CARGO_TARGET_DIR:-target}/release/ticketlock
	TICKETLOCK_SOAK=400 cargo test --release --locked --test sessions ten_thousand -- --nocapture

torture:
	TICKETLOCK_CUTS=1000 cargo test --locked --test sessions cuts -- --nocapture
	TICKETLOCK_KILLS=500 cargo test --locked --test killed -- --nocapture

fix:
	cargo fmt --all
	cargo clippy --workspace --all-targets --locked --fix --allow-dirty --allow-staged

bench:
	scripts/prepare.sh bench
	scripts/bench.sh
	scripts/compare.sh
