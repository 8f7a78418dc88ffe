#!/usr/bin/env bash
# Makes a component of one world of handlers/wit from a JavaScript file, with the QuickJS backend.
#
#   handlers/guests/jco.sh FILE.js WORLD OUT.wasm
#
# Needs the tools that ./tools.sh installs (EDGESCALE_TOOLS names their folder). EDGESCALE_WIT is
# another folder of worlds; EDGESCALE_ASYNC=yes says that they are of WASI 0.3.
set -euo pipefail
[[ $# -eq 3 ]] || { echo "usage: jco.sh FILE.js WORLD OUT.wasm" >&2; exit 2; }
root="$(cd "$(dirname "${BASH_SOURCE[0]}")/../.." && pwd)"
TOOLS="${EDGESCALE_TOOLS:-$root/.tools}"
out="$(cd "$(dirname "$3")" && pwd)/$(basename "$3")"
partial="$out.$$.tmp"
trap 'rm -f "$partial"' EXIT
node=node
calls=(--backend-qjs-disable-async)
[[ "${EDGESCALE_ASYNC:-}" == yes ]] && calls=()
[[ -x "$TOOLS/bin/node" ]] && node="$TOOLS/bin/node"

# jco looks for the file from the file's own folder.
cd "$(dirname "$1")"
jco="$TOOLS/node/node_modules/@bytecodealliance/jco/dist/jco.js"
"$node" "$jco" componentize "$(basename "$1")" \
    --wit "${EDGESCALE_WIT:-$root/handlers/wit}" -n "$2" -o "$partial" \
    --backend qjs "${calls[@]}" | sed "s,$partial,$out," >&2
# Whoever looks meanwhile sees the old component or the whole new one.
mv "$partial" "$out"
