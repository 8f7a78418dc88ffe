#!/usr/bin/env bash
# Rust's targets for components (wasm32-wasip2) and for aarch64, where rustup cannot be asked for
# them: Debian's compiler with its libraries for both machines, unpacked without root, and the
# standard library for components built from Debian's sources of it. Two minutes on two cores. That
# one has no sockets: Debian's C library for WASI is of the preview before.
#
#   scripts/rust-targets.sh OUT
#
# OUT/bin/rustc compiles for both then; OUT/bin/aarch64-cc links, by the zig beside OUT. Needs
# apt-get, python3, cargo, and the linkers that rustup brings with each toolchain.
# Exit: 0 built, 1 failed, 2 usage, 99 not to be had here.
set -euo pipefail
[[ $# -eq 1 ]] || { echo "usage: rust-targets.sh OUT" >&2; exit 2; }
OUT="$(realpath -m "$1")"
readonly OUT RUST_MIN=1.95 WASI=wasm32-wasip2 ARM=aarch64-unknown-linux-gnu
readonly NOT_HERE=99

main() {
    rm -rf "$OUT" && mkdir -p "$OUT/bin"
    if has $WASI && has $ARM; then
        printf '#!/bin/sh\nexec rustc "$@"\n' >"$OUT/bin/rustc"
    else
        debians
    fi
    cat >"$OUT/bin/aarch64-cc" <<'CC'
#!/bin/sh
tools="$(dirname "$(readlink -f "$0")")/../.."
exec "$tools/zig/ziglang/zig" cc -target aarch64-linux-gnu.2.31 "$@"
CC
    chmod +x "$OUT"/bin/*
    "$OUT/bin/rustc" --version
}

has() { [[ -d "$(rustc --print target-libdir --target "$1")" ]]; }

skip() { echo "$1"; exit $NOT_HERE; }

# The compiler of Debian, with its own libraries and the linkers of components.
debians() {
    local driver linkers
    linkers="$(rustc --print sysroot)/lib/rustlib/$(rustc -vV | sed -n 's/^host: //p')/bin"
    [[ -x "$linkers/wasm-component-ld" ]] || skip "no wasm-component-ld in $linkers"
    command -v apt-get >/dev/null || skip "no apt-get"
    fetch
    mkdir "$OUT/linkers"
    ln -s "$linkers/wasm-component-ld" "$linkers/gcc-ld/wasm-ld" "$OUT/linkers"
    driver="$(find "$OUT/usr/lib" -maxdepth 2 -name 'librustc_driver-*.so' -printf '%P\n')"
    cat >"$OUT/bin/rustc" <<RUSTC
#!/bin/sh
here="\$(cd "\$(dirname "\$0")/.." && pwd)"
PATH="\$here/linkers:\$PATH" LD_LIBRARY_PATH="\$here/usr/lib/$(dirname "$driver")" \\
    exec "\$here/usr/bin/rustc" "\$@"
RUSTC
    chmod +x "$OUT/bin/rustc"
    build_library
    rm -rf "$OUT"/{apt,std} "$OUT"/usr/{src,share,libexec}
}

# By lists and settings of apt that are our own: the machine's may be old, and know one machine.
fetch() {
    local apt="$OUT/apt" deb driver llvm version host
    host="$(dpkg --print-architecture)"
    mkdir -p "$apt"/{debs,lists}/partial
    cat >"$apt/conf" <<CONF
APT::Architectures { "$host"; "arm64"; };
APT::Sandbox::User "";
Acquire::Languages "none";
Acquire::IndexTargets::deb::DEP-11::DefaultEnabled "false";
Dir::State::lists "$apt/lists";
Dir::Cache::archives "$apt/debs";
Dir::Cache::pkgcache "";
Dir::Cache::srcpkgcache "";
CONF
    export APT_CONFIG="$apt/conf"
    apt-get update
    version="$(apt-cache policy rustc-web | sed -n 's/ *Candidate: \([0-9]*\.[0-9]*\).*/\1/p')"
    [[ "$(printf '%s\n' $RUST_MIN "$version" | sort -V | head -n 1)" == "$RUST_MIN" ]] ||
        skip "apt has no Rust $RUST_MIN"
    driver="$(depends libstd-rust-web-dev 'libstd-rust-web-[0-9.]*')"
    llvm="$(depends "$driver" 'libllvm[0-9]*')"
    (cd "$apt/debs" && apt-get download rustc-web libstd-rust-web-dev libstd-rust-web-dev:arm64 \
        "$driver" "$llvm" rust-web-src wasi-libc)
    # Not each of them has all of these.
    for deb in "$apt"/debs/*.deb; do
        dpkg --fsys-tarfile "$deb" | tar -x -C "$OUT" --wildcards './usr/bin/rustc' './usr/lib/*' \
            './usr/src/rustc-*/library/*' 2>/dev/null || true
    done
    [[ -x "$OUT/usr/bin/rustc" && -f "$OUT/usr/lib/wasm32-wasi/libc.a" ]]
    [[ -d "$OUT/usr/lib/rustlib/$ARM/lib" ]]
}

# depends PACKAGE PATTERN: what of such a name it depends on.
depends() {
    apt-cache depends --important "$1" | sed -n "s/^ *Depends: \($2\)\$/\1/p" | grep -m 1 .
}

# The standard library is built with features of the compiler that only it may use.
build_library() {
    local libraries="$OUT/usr/lib/rustlib/$WASI/lib"
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
            cargo rustc -p std --lib --crate-type rlib --release --target $WASI \
            --target-dir target --no-default-features --features "panic-unwind backtrace"
    )
    mkdir -p "$libraries/self-contained"
    mv "$OUT"/std/target/$WASI/release/deps/*.rlib "$libraries"
    mv "$OUT"/usr/lib/wasm32-wasi/{libc.a,crt1-*.o} "$libraries/self-contained"
}

main
