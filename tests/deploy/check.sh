#!/usr/bin/env bash
# Checks what is in deploy/ with the tools that will read it: systemd-analyze, promtool, plistlib, ldd.
#
#     tests/deploy/check.sh [PROGRAM]       the daemon's program, to see what it links to
#
# A tool that is missing is an error: what was not checked must not look as if it were.
set -euo pipefail
root=$(cd "$(dirname "${BASH_SOURCE[0]}")/../.." && pwd)
work=$(mktemp -d)
trap 'rm -rf "$work"' EXIT

# systemd wants the program to exist; where it will be installed it does not exist yet.
for unit in demuxai.service demuxai-system.service; do
    sed -E 's#^Exec(Start|Reload)=[^ ]+#Exec\1=/bin/true#' "$root/deploy/$unit" >"$work/$unit"
done
XDG_RUNTIME_DIR=$work systemd-analyze verify --user --man=no "$work/demuxai.service"
systemd-analyze verify --man=no "$work/demuxai-system.service"
echo "ok      systemd-analyze verify: demuxai.service, demuxai-system.service"

# 0 is as closed as can be, 10 is open; 100 means 10.0 here. What a user manager may forbid is little.
systemd-analyze security --offline=true --threshold=15 --no-pager "$work/demuxai-system.service" >"$work/exposure"
systemd-analyze security --offline=true --threshold=65 --no-pager "$work/demuxai.service" >>"$work/exposure"
grep -h "Overall exposure" "$work/exposure" | sed -E 's/^[^A-Z]*/ok      /; s/ [^ -~]+$//'

promtool check config "$root/deploy/prometheus.yml" >/dev/null
echo "ok      promtool check config: prometheus.yml"

python3 - "$root/deploy/com.demuxai.demuxai.plist" <<'PYTHON'
import plistlib, sys
with open(sys.argv[1], "rb") as file:
    agent = plistlib.load(file)
assert agent["ProgramArguments"][1:] == ["serve"] and agent["Label"] == "com.demuxai.demuxai", agent
print("ok      plistlib: com.demuxai.demuxai.plist")
PYTHON

if [[ $# -gt 0 ]]; then
    # One program and the C library's own family: nothing else to install.
    other=$(ldd "$1" | awk '{ print $1 }' | grep -vE '^(linux-vdso|libc|libm|libgcc_s|libpthread|libdl|librt)\.so|^/.*/ld-linux|^statically' || true)
    if [[ -n $other ]]; then
        echo "FAILED  $1 links to more than the C library:" "$other"
        exit 1
    fi
    echo "ok      ldd: the C library's family only"
fi
