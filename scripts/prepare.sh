#!/usr/bin/env bash
# Installs what `make test`, `make verify` or `make bench` need and is not there yet. A second run does nothing.
#
# Into the system go only packages that cannot live elsewhere (by apt, as root). Prometheus is unpacked under target/,
# because its package would start a service; Python packages live in a virtual environment there too.
set -euo pipefail
cd "$(dirname "$0")/.."
goal=${1:?"usage: prepare.sh test|verify|bench"}
target=${CARGO_TARGET_DIR:-target}
tools=$target/tools
venv=$target/venv
PATH=$PATH:/usr/sbin:/sbin
mkdir -p "$tools"

apt_updated=
apt_update() {
  if [ -n "$apt_updated" ]; then return; fi
  if [ "$(id -u)" = 0 ]; then apt-get update -q; fi
  apt_updated=yes
}

# need COMMAND PACKAGE: the command is there, or its package is installed.
need() {
  if command -v "$1" >/dev/null; then return; fi
  if [ "$(id -u)" != 0 ]; then
    echo "prepare: '$1' is missing: install the package '$2', or run this as root" >&2
    exit 1
  fi
  apt_update
  DEBIAN_FRONTEND=noninteractive apt-get install -q -y --no-install-recommends "$2"
}

# Prometheus and promtool, as the distribution builds them, without their service.
prometheus() {
  if [ -x "$tools/prometheus/usr/bin/prometheus" ]; then return; fi
  apt_update
  rm -rf "$tools/prometheus" "$tools/prometheus.new"
  mkdir -p "$tools/prometheus.new"
  (cd "$tools/prometheus.new" && apt-get download -q prometheus && dpkg-deb -x prometheus_*.deb . && rm prometheus_*.deb)
  mv "$tools/prometheus.new" "$tools/prometheus"
}

# Redis and MariaDB, as the distribution builds them, with the libraries that are not there yet, and
# without their services.
servers() {
  if [ -x "$tools/servers/usr/bin/redis-server" ]; then return; fi
  apt_update
  local new
  new=$(realpath "$tools")/servers.new
  rm -rf "$tools/servers" "$new"
  mkdir -p "$new/archives/partial"
  apt-get install -q -y --no-install-recommends --download-only --reinstall -o Debug::NoLocking=1 \
    -o Dir::Cache::archives="$new/archives" redis-server redis-tools mariadb-server mariadb-server-core
  for package in "$new"/archives/{redis,mariadb,galera,lib}*.deb; do
    dpkg-deb -x "$package" "$new"
  done
  rm -r "$new/archives"
  mv "$new" "$tools/servers"
}

# The object store that the fencing kit is tried on: pinned with hashes, and no package runs a script.
azurite() {
  need node nodejs
  need npm npm
  local folder=$tools/azurite
  if cmp -s fencing/tests/azurite/package-lock.json "$folder/installed.json"; then return; fi
  rm -rf "$folder"
  mkdir -p "$folder"
  cp fencing/tests/azurite/{package.json,package-lock.json,.npmrc} "$folder"
  npm ci --prefix "$folder" --silent
  cp "$folder/package-lock.json" "$folder/installed.json"
}

# python REQUIREMENTS: the virtual environment holds what the file pins.
python() {
  need python3 python3
  if ! python3 -c 'import ensurepip' 2>/dev/null; then
    if [ "$(id -u)" != 0 ]; then
      echo "prepare: python3 cannot make virtual environments: install the package 'python3-venv'" >&2
      exit 1
    fi
    apt_update
    DEBIAN_FRONTEND=noninteractive apt-get install -q -y --no-install-recommends python3-venv
  fi
  local stamp
  stamp=$venv/installed.$(basename "$(dirname "$1")").txt
  if cmp -s "$1" "$stamp"; then return; fi
  if [ ! -x "$venv/bin/python" ]; then python3 -m venv "$venv"; fi
  "$venv/bin/python" -m pip install --quiet --disable-pip-version-check -r "$1"
  cp "$1" "$stamp"
}

case $goal in
  test)
    need ip iproute2
    need iptables iptables
    need strace strace
    need faketime faketime
    servers
    azurite
    prometheus
    python tests/python/requirements.txt
    ;;
  verify)
    prometheus
    python scripts/requirements.txt
    if ! "$tools/bin/cargo-deny" --version 2>/dev/null | grep -q ' 0\.20\.2$'; then
      # Its own target folder: its artefacts are of no use to anything else.
      cargo install cargo-deny --locked --version 0.20.2 --root "$tools" --target-dir "$tools/build"
      rm -rf "$tools/build"
    fi
    ;;
  bench)
    need valgrind valgrind
    servers
    ;;
  *)
    echo "prepare: unknown goal '$goal'" >&2
    exit 2
    ;;
esac
