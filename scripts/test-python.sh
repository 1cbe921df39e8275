#!/usr/bin/env bash
# The tests that a foreign client, a cut network and a real Prometheus need, against the binary that cargo just built.
set -euo pipefail
cd "$(dirname "$0")/.."
target=$(realpath "${CARGO_TARGET_DIR:-target}")
export PATH=$PATH:/usr/sbin:/sbin
export TICKETLOCK_BIN=$target/debug/ticketlock
export PROMETHEUS_BIN=$target/tools/prometheus/usr/bin/prometheus
export PROMTOOL_BIN=$target/tools/prometheus/usr/bin/promtool
export PYTHONDONTWRITEBYTECODE=1
exec "$target/venv/bin/python" -m unittest discover --start-directory tests/python --failfast --verbose
