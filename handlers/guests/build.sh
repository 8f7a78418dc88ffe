#!/usr/bin/env bash
# Builds the guests that tests run into the folder OUT; what is newer than its sources stays.
#
#   handlers/guests/build.sh OUT [js|py]...
#
# Needs the tools that ./tools.sh installs (EDGESCALE_TOOLS names their folder).
# Exit: 0 built, 1 failed, 2 usage.
set -euo pipefail
here="$(cd "$(dirname "${BASH_SOURCE[0]}")" && pwd)"
root="$(cd "$here/../.." && pwd)"
TOOLS="${EDGESCALE_TOOLS:-$root/.tools}"
readonly here root TOOLS WIT="$root/handlers/wit"

main() {
    [[ $# -ge 1 ]] || { echo "usage: build.sh OUT [js|py]..." >&2; exit 2; }
    mkdir -p "$1"
    local out kind
    out="$(cd "$1" && pwd)"
    shift
    [[ $# -gt 0 ]] || set -- js py
    for kind in "$@"; do
        "build_$kind" "$out"
    done
}

build_js() {
    local source="$here/js/probe.js" out="$1/js-probe.wasm"
    is_fresh "$out" "$source" && return
    "$root/handlers/guests/jco.sh" "$source" app "$out"
}

build_py() {
    local out="$1/py-probe.wasm" partial="$1/py-probe.$$.tmp"
    is_fresh "$out" "$here/python/probe.py" && return
    (
        cd "$here/python"
        PYTHONPATH="$TOOLS/componentize" "$(python)" -B "$TOOLS/componentize/bin/componentize-py" \
            -d "$WIT" -w on-call componentize probe -o "$partial" >&2
    )
    mv "$partial" "$out"
}

# The interpreter of the tools' folder, else the one of the path.
python() {
    [[ -x "$TOOLS/bin/python3" ]] && echo "$TOOLS/bin/python3" || echo python3
}

is_fresh() {
    local source
    [[ -e "$1" ]] || return 1
    for source in "$2" "$WIT"/*.wit "${BASH_SOURCE[0]}"; do
        [[ "$1" -nt "$source" ]] || return 1
    done
}

main "$@"
