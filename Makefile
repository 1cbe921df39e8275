# run: a server, release build. test: everything, installs what it needs. verify: checks, writes nothing.
# fix: what can be mended by a tool. bench: the core's benches with their bounds, then Ticketlock beside others.

SHELL := /bin/bash
.SHELLFLAGS := -euo pipefail -c
.DEFAULT_GOAL := help
.PHONY: help run test verify fix bench

help:
	@echo "make run | test | verify | fix | bench"

run:
	cargo run --release --locked -- serve

test:
	scripts/prepare.sh test
	cargo test --workspace --locked
	scripts/test-python.sh
	@echo "make test: passed"

verify:
	scripts/prepare.sh verify
	scripts/verify.sh
	@echo "make verify: passed"

fix:
	cargo fmt --all
	cargo clippy --workspace --all-targets --locked --fix --allow-dirty --allow-staged

bench:
	scripts/prepare.sh bench
	scripts/bench.sh
	scripts/compare.sh
