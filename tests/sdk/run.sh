#!/usr/bin/env bash
# Drives the daemon with the real OpenAI Python SDK and a real inference server; arguments go to run.py.
#
# Sets up a virtual environment under tests/.cache once for each requirements.txt and Python. Exits 0 when all
# cases pass, 1 when one fails. Where there is no PyPI it says so loudly and exits 0, unless DEMUXAI_SDK_REQUIRED
# is set. The daemon's program is $DEMUXAI, else target/debug/demuxai, which is built when it is missing.
set -euo pipefail
here=$(cd "$(dirname "${BASH_SOURCE[0]}")" && pwd)
root=$(cd "$here/../.." && pwd)
cache="$root/tests/.cache"
mkdir -p "$cache"

missing() {
    echo "==============================================================================="
    echo "THE SDK TEST DID NOT RUN: $1"
    echo "==============================================================================="
    if [[ -n ${DEMUXAI_SDK_REQUIRED:-} ]]; then
        echo "0 passed, 1 failed"
        exit 1
    fi
    echo "0 passed, 0 failed, 1 skipped"
    exit 0
}

failed() {
    echo "THE SDK TEST CANNOT RUN: $1"
    echo "0 passed, 1 failed"
    exit 1
}

command -v python3 >/dev/null || failed "there is no python3 (apt-get install python3-venv)"
state=$({ python3 --version; cat "$here/requirements.txt"; } | sha256sum | cut -c1-12)
venv="$cache/sdk-$state"

# One run sets it up, others wait; a set-up that was cut off is begun anew.
exec 9>"$cache/sdk.lock"
flock 9
if [[ ! -e $venv/ready ]]; then
    rm -rf "$venv"
    python3 -m venv "$venv" || failed "python3 -m venv failed (apt-get install python3-venv)"
    for attempt in 1 2 3; do
        if "$venv/bin/pip" install --quiet --disable-pip-version-check -r "$here/requirements.txt" >"$cache/pip.log" 2>&1; then
            touch "$venv/ready"
            break
        fi
        echo "pip failed, attempt $attempt of 3:" >&2
        tail -n 3 "$cache/pip.log" >&2
        sleep $((attempt * 2))
    done
    if [[ ! -e $venv/ready ]]; then
        # Nothing could be fetched: no PyPI here. Anything else is a fault of ours.
        if grep -qE "from versions: none|NewConnectionError|Connection(Refused|Reset)?Error|Temporary failure|Max retries|ReadTimeout" "$cache/pip.log"; then
            missing "PyPI cannot be reached; see $cache/pip.log"
        fi
        tail -n 30 "$cache/pip.log"
        echo "0 passed, 1 failed"
        exit 1
    fi
fi
flock -u 9
exec 9>&-

export DEMUXAI=${DEMUXAI:-$root/target/debug/demuxai}
if [[ ! -x $DEMUXAI ]]; then
    (cd "$root" && cargo build --locked --bin demuxai)
fi
PYTHONDONTWRITEBYTECODE=1 exec "$venv/bin/python" "$here/run.py" "$@"
