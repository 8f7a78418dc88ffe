#!/usr/bin/env bash
# Rust's target for components, wasm32-wasip2, where rustup cannot be asked for it: Debian's
# compiler, and the standard library built from Debian's sources of it. Two minutes on two cores.
# It has no sockets: Debian's C library for WASI is of the preview before.
#
#   scripts/rust-wasi.sh OUT
#
# OUT/bin/rustc compiles for it then. Needs apt-get (no root), python3, cargo, and the linkers
# that rustup brings with each toolchain. Exit: 0 built, 1 failed, 2 usage, 99 not to be had here.
set -euo pipefail
[[ $# -eq 1 ]] || { echo "usage: rust-wasi.sh OUT" >&2; exit 2; }
OUT="$(realpath -m "$1")"
readonly OUT RUST_MIN=1.95 TARGET=wasm32-wasip2
readonly NOT_HERE=99

main() {
    local host linkers version
    host="$(rustc -vV | sed -n 's/^host: //p')"
    linkers="$(rustc --print sysroot)/lib/rustlib/$host/bin"
    [[ ! -d "$(rustc --print target-libdir --target $TARGET)" ]] || skip "rustup's has it"
    [[ -x "$linkers/wasm-component-ld" ]] || skip "no wasm-component-ld in $linkers"
    command -v apt-get >/dev/null || skip "no apt-get"
    version="$(candidate rustc-web)"
    [[ "$(printf '%s\n' $RUST_MIN "$version" | sort -V | head -n 1)" == "$RUST_MIN" ]] ||
        skip "apt has no Rust $RUST_MIN (after apt-get update)"
    rm -rf "$OUT" && mkdir -p "$OUT"/{debs,bin,linkers}
    fetch "$version"
    ln -s "$linkers/wasm-component-ld" "$linkers/gcc-ld/wasm-ld" "$OUT/linkers"
    wrap
    build_library
    rm -rf "$OUT"/{debs,std} "$OUT/usr/src" "$OUT/usr/share"
}

skip() { echo "$1"; exit $NOT_HERE; }

# The version that apt would install, its first two numbers.
candidate() {
    apt-cache policy "$1" | sed -n 's/ *Candidate: \([0-9]*\.[0-9]*\).*/\1/p'
}

fetch() {
    local deb driver="libstd-rust-web-$1" llvm
    llvm="$(apt-cache depends "$driver" | sed -n 's/.*Depends: \(libllvm[0-9]*\)$/\1/p')"
    (cd "$OUT/debs" && apt-get download rustc-web libstd-rust-web-dev "$driver" "$llvm" \
        rust-web-src wasi-libc)
    for deb in "$OUT"/debs/*.deb; do
        dpkg --fsys-tarfile "$deb" | tar -x -C "$OUT" --wildcards './usr/bin/*' './usr/lib/*' \
            './usr/src/rustc-*/library/*' 2>/dev/null || true
    done
    [[ -x "$OUT/usr/bin/rustc" && -f "$OUT/usr/lib/wasm32-wasi/libc.a" ]]
}

# The compiler, with its own libraries and the linkers of this target.
wrap() {
    cat >"$OUT/bin/rustc" <<'RUSTC'
#!/bin/sh
here="$(cd "$(dirname "$0")/.." && pwd)"
libraries="$(echo "$here"/usr/lib/*-linux-gnu)"
PATH="$here/linkers:$PATH" LD_LIBRARY_PATH="$libraries" exec "$here/usr/bin/rustc" "$@"
RUSTC
    chmod +x "$OUT/bin/rustc"
    "$OUT/bin/rustc" --version
}

# The standard library is built with features of the compiler that only it may use.
build_library() {
    local libraries="$OUT/usr/lib/rustlib/$TARGET/lib"
    mv "$OUT"/usr/src/rustc-*/library "$OUT/std"
    python3 - "$OUT/std" <<'PYTHON'
import pathlib, re, sys

# Its tests, and what only they need, are left out.
def change(name, pattern, by):
    file = pathlib.Path(sys.argv[1], name)
    file.write_text(re.sub(pattern, by, file.read_text(), flags=re.S))

change("Cargo.toml", r"members = \[.*?\]", 'members = ["std"]')
change("std/Cargo.toml", r"\[dev-dependencies\].*?(?=\n\[)", "")
change("std/Cargo.toml", r"\[\[(test|bench)\]\].*?(?=\n\[|\Z)", "")
PYTHON
    (
        cd "$OUT/std"
        RUSTC="$OUT/bin/rustc" RUSTC_BOOTSTRAP=1 \
            RUSTFLAGS="-Zforce-unstable-if-unmarked -Cembed-bitcode=yes" \
            __CARGO_DEFAULT_LIB_METADATA=edgescale \
            cargo rustc -p std --lib --crate-type rlib --release --target $TARGET \
            --target-dir target --no-default-features --features "panic-unwind backtrace"
    )
    mkdir -p "$libraries/self-contained"
    mv "$OUT"/std/target/$TARGET/release/deps/*.rlib "$libraries"
    mv "$OUT"/usr/lib/wasm32-wasi/{libc.a,crt1-*.o} "$libraries/self-contained"
}

main
