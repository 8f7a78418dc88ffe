#!/usr/bin/env bash
# Makes app.wasm. Needs Rust and its target: rustup target add wasm32-wasip2.
set -euo pipefail
cd "$(dirname "${BASH_SOURCE[0]}")"
# Where rustup cannot be asked for the target, ./tools.sh test has made it.
own="${EDGESCALE_TOOLS:-}/rust/bin/rustc"
[[ ! -x "$own" ]] || export RUSTC="$own"
libraries="$("${RUSTC:-rustc}" --print target-libdir --target wasm32-wasip2)"
[[ -d "$libraries" ]] ||
    { echo "no wasm32-wasip2; run rustup target add wasm32-wasip2" >&2; exit 1; }
target="${CARGO_TARGET_DIR:-target}"
cargo build --quiet --release --target wasm32-wasip2 --target-dir "$target"
cp "$target"/wasm32-wasip2/release/app.wasm app.wasm
