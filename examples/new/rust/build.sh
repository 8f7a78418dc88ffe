#!/usr/bin/env bash
# Makes app.wasm. Needs Rust and its target: rustup target add wasm32-wasip2.
set -euo pipefail
cd "$(dirname "${BASH_SOURCE[0]}")"
cargo build --quiet --release --target wasm32-wasip2 --target-dir target
cp target/wasm32-wasip2/release/app.wasm app.wasm
