#!/usr/bin/env bash
# The core's benches: time by criterion, instructions under valgrind where a bench counts them.
set -euo pipefail
cd "$(dirname "$0")/.."
exec cargo bench --locked -p ticketlock-core "$@"
