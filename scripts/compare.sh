#!/usr/bin/env bash
# Ticketlock beside a bare gRPC service, Redis and MariaDB, alternating, in one run. Arguments go to the program: --help.
set -euo pipefail
cd "$(dirname "$0")/.."
target=$(realpath "${CARGO_TARGET_DIR:-target}")
cargo build --release --locked --bin ticketlock
cargo build --release --locked -p ticketlock-benches
export TICKETLOCK_BIN=$target/release/ticketlock
export TICKETLOCK_SERVERS=$target/tools/servers
exec "$target/release/ticketlock-benches" "$@"
