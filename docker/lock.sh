#!/bin/sh
# Writes requirements.lock (what the container installs) and build.lock (what builds it), each
# with the checksum of every file, from pyproject.toml. Needs uv (pip install uv) and a network.
# Without arguments the versions that are already locked stay; --upgrade takes the newest.
set -eu
cd "$(dirname "$0")/.."
lock() {
  uv pip compile --quiet --generate-hashes --no-annotate --no-emit-index-url \
    --python-version 3.11 --python-platform linux --custom-compile-command docker/lock.sh "$@"
}
lock "$@" --output-file docker/requirements.lock pyproject.toml
# docopt, a dependency of pybids, comes as source only; alsflow itself is built too
printf 'setuptools>=77\nwheel\npip\n' | lock "$@" --output-file docker/build.lock -
