#!/usr/bin/env bash
# Checks that write nothing into the project: form, lints, documentation, API style, dependencies, rules.
set -euo pipefail
cd "$(dirname "$0")/.."
target=${CARGO_TARGET_DIR:-target}
promtool=$target/tools/prometheus/usr/bin/promtool
venv=$(realpath "$target")/venv/bin

step() { printf '\n== %s\n' "$*"; }

step formatting
cargo fmt --all --check
cargo fmt --manifest-path tests/outside/Cargo.toml --check
step lints
cargo clippy --workspace --all-targets --locked -- -D warnings
cargo clippy --all-targets --features shuttle,planted --locked -- -D warnings
step documentation
RUSTDOCFLAGS="-D warnings" cargo doc --workspace --no-deps --locked
step API style
for api in proto content/proto; do
  (cd "$api" && "$venv/buf" lint --config '{"version":"v2","lint":{"use":["STANDARD"]}}')
done
step image
"$venv/hadolint" Dockerfile
step alert rules
"$promtool" check rules grafana/alerts.yml
step dependencies
"$target/tools/bin/cargo-deny" --locked check bans licenses sources
advisories=${CARGO_HOME:-$HOME/.cargo}/advisory-dbs
if [ -d "$advisories" ]; then
  "$target/tools/bin/cargo-deny" --locked check advisories --disable-fetch
else
  echo "advisories: NOT CHECKED (no database at hand)"
fi
