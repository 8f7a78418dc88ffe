#!/usr/bin/env bash
# Builds the doorcam app into the folder OUT, which is this one unless said: its manifest and its
# code, ready to be registered. What is newer than its sources stays.
#
#   examples/doorcam/build.sh [OUT]
#
# Needs the tools that ./tools.sh installs (EDGESCALE_TOOLS names their folder).
set -euo pipefail
[[ $# -le 1 ]] || { echo "usage: build.sh [OUT]" >&2; exit 2; }
here="$(cd "$(dirname "${BASH_SOURCE[0]}")" && pwd)"
root="$(cd "$here/../.." && pwd)"
mkdir -p "${1:-$here}"
out="$(cd "${1:-$here}" && pwd)"
TOOLS="${EDGESCALE_TOOLS:-$root/.tools}"
readonly here root out TOOLS

main() {
    copy app.toml
    copy summary.py
    javascript
    rust
}

copy() {
    cmp -s "$here/$1" "$out/$1" || cp "$here/$1" "$out/$1"
}

javascript() {
    is_fresh "$out/motion.wasm" "$here/motion.js" && return
    "$root/handlers/guests/jco.sh" "$here/motion.js" on-frame "$out/motion.wasm"
}

# The same handler in Rust, where its target is installed.
rust() {
    local libraries
    [[ ! -x "$TOOLS/rust/bin/rustc" ]] || export RUSTC="$TOOLS/rust/bin/rustc"
    libraries="$("${RUSTC:-rustc}" --print target-libdir --target wasm32-wasip2 2>&1 || true)"
    if [[ ! -d "$libraries" ]]; then
        echo "skipped: no wasm32-wasip2 target for motion-rs (rustup target add wasm32-wasip2)" >&2
        return
    fi
    local crate="$here/motion-rs"
    is_fresh "$out/motion-rs.wasm" "$crate/src/lib.rs" "$crate/Cargo.toml" && return
    # Where other guests are built as well: what all are built with is compiled once.
    local target="${CARGO_TARGET_DIR:-$root/target}/guests/rust"
    cargo build --quiet --locked --manifest-path "$crate/Cargo.toml" --target wasm32-wasip2 \
        --release --target-dir "$target" >&2
    cp "$target/wasm32-wasip2/release/motion.wasm" "$out/motion-rs.wasm"
}

# Whether OUT is newer than all its sources.
is_fresh() {
    local built="$1" source
    shift
    [[ -e "$built" ]] || return 1
    for source in "$@" "$root"/handlers/wit/*.wit; do
        [[ "$built" -nt "$source" ]] || return 1
    done
}

main
