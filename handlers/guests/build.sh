#!/usr/bin/env bash
# Builds the guests that tests run into the folder OUT; what is newer than its sources stays.
#
#   handlers/guests/build.sh OUT [KIND]...
#
# Kinds are js, py, messages, older, topics, fetch, incoming, web, files, service, servicejs, rust
# and arm.
#
# Needs the tools that ./tools.sh installs (EDGESCALE_TOOLS names their folder).
# Exit: 0 built, 1 failed, 2 usage.
set -euo pipefail
here="$(cd "$(dirname "${BASH_SOURCE[0]}")" && pwd)"
root="$(cd "$here/../.." && pwd)"
TOOLS="${EDGESCALE_TOOLS:-$root/.tools}"
readonly here root TOOLS WIT="$root/handlers/wit"
readonly JCO="$TOOLS/node/node_modules/@bytecodealliance/jco" ZIG="$TOOLS/zig/ziglang/zig"

main() {
    [[ $# -ge 1 ]] || { echo "usage: build.sh OUT [KIND]..." >&2; exit 2; }
    mkdir -p "$1"
    local out kind
    out="$(cd "$1" && pwd)"
    shift
    [[ $# -gt 0 ]] || set -- js py messages older topics fetch incoming web \
        files service servicejs
    for kind in "$@"; do
        "build_$kind" "$out"
    done
}

build_js() {
    local source="$here/js/probe.js" out="$1/js.wasm"
    is_fresh "$out" "$source" && return
    "$root/handlers/guests/jco.sh" "$source" app "$out"
}

build_messages() { build_stock "$1" messages; }
build_older() { build_stock "$1" older; }
build_topics() { build_stock "$1" topics; }

# A component of a world of guests/stock/wit, from the file of the same name.
build_stock() {
    local source="$here/stock/$2.js" out="$1/$2.wasm"
    is_fresh "$out" "$source" && return
    EDGESCALE_WIT="$here/stock/wit" "$root/handlers/guests/jco.sh" "$source" "$2" "$out"
}

# As componentize-js makes a component of a service worker, and of the interfaces themselves.
build_fetch() { componentize_js "$1" fetch; }
build_incoming() { componentize_js "$1" incoming; }

# componentize_js OUT NAME. Its engine holds WASI 0.2.10.
componentize_js() {
    local source="$here/stock/$2.js" out="$1/$2.wasm"
    local partial="$1/$2.$$.tmp.wasm" wit="$1/$2.$$.wit"
    is_fresh "$out" "$source" && return
    standard_wit "$wit" 0.2.10
    (
        cd "$JCO"
        "$(node)" --input-type=module -e '
            import { writeFileSync } from "node:fs";
            const [from, source, wit, out] = process.argv.slice(1);
            const { componentize } = await import(from);
            const { component } =
                await componentize({ sourcePath: source, witPath: wit, worldName: "web" });
            writeFileSync(out, component);
        ' "$JCO/../componentize-js/src/componentize.js" "$source" "$wit" "$partial" >&2
    )
    rm -rf "$wit"
    mv "$partial" "$out"
}

build_web() {
    local out="$1/web.wasm" wit="$1/web.$$.wit"
    is_fresh "$out" "$here/stock/web.py" && return
    standard_wit "$wit" 0.2.12
    componentize_py "$here/stock" "$wit" web web "$out"
    rm -rf "$wit"
}

# A component of wasi:http/service, as Python makes one.
build_service() {
    local out="$1/service.wasm" wit="$1/service.$$.wit"
    is_fresh "$out" "$here/stock/service.py" && return
    standard_wit_03 "$wit" 0.3.0 "include wasi:http/service@0.3.0;"
    componentize_py "$here/stock" "$wit" web service "$out"
    rm -rf "$wit"
}

# The same in JavaScript, of a later version. Its compiler takes no imported function that is async,
# so it has no client.
build_servicejs() {
    local out="$1/servicejs.wasm" wit="$1/servicejs.$$.wit"
    is_fresh "$out" "$here/stock/service.js" && return
    standard_wit_03 "$wit" 0.3.1 \
        "import wasi:http/types@0.3.1; export wasi:http/handler@0.3.1;"
    sed "s/@0\.3\.0/@0.3.1/" "$here/stock/service.js" >"$wit/service.js"
    EDGESCALE_WIT="$wit" EDGESCALE_ASYNC=yes \
        "$root/handlers/guests/jco.sh" "$wit/service.js" web "$out"
    rm -rf "$wit"
}

# A component of wasi:blobstore, whose streams are those of wasi:io. It answers what the smallest
# guest in Python is asked as well: an interpreter more takes longer to build than all else here.
build_files() {
    local out="$1/files.wasm" wit="$1/files.$$.wit"
    is_fresh "$out" "$here/stock/files.py" "$here/python/probe.py" "$here"/stock/files/*.wit &&
        return
    standard_wit "$wit" 0.2.12
    mkdir "$wit/deps/blobstore"
    cp -r "$WIT" "$wit/deps/edgescale"
    cp "$here/stock/files/blobstore.wit" "$wit/deps/blobstore/package.wit"
    cp "$here/stock/files/world.wit" "$wit/world.wit"
    componentize_py "$here/stock" "$wit" files files "$out"
    rm -rf "$wit"
}

# componentize_py FOLDER WIT WORLD MODULE OUT
componentize_py() {
    local partial="$5.$$.tmp"
    (
        cd "$1"
        PYTHONPATH="$TOOLS/componentize" "$(python)" -B "$TOOLS/componentize/bin/componentize-py" \
            -d "$2" -w "$3" componentize -p . -p "$here/python" "$4" -o "$partial" >&2
    )
    mv "$partial" "$5"
}

# The WIT of wasi:http/proxy, out of the snapshot that jco brings, under a version number of 0.2:
# standard_wit FOLDER VERSION [MORE]
standard_wit() {
    local file
    mkdir -p "$1/deps"
    cp -r "$JCO"/lib/wit/builtin/0.2.12/wasi-{cli,clocks,filesystem,http,io,random,sockets} \
        "$1/deps"
    for file in "$1"/deps/*/package.wit; do
        # The engine's own WIT has what is marked as unstable in the snapshot.
        sed -i "s/@0\.2\.12/@$2/g; /@unstable(feature = network-error-code)/d" "$file"
    done
    printf "package edgescale:stock;\nworld web { include wasi:http/proxy@%s; %s }\n" \
        "$2" "${3:-}" >"$1/world.wit"
}

# The same of WASI 0.3: standard_wit_03 FOLDER VERSION WORLD
standard_wit_03() {
    mkdir -p "$1/deps"
    cp -r "$JCO"/lib/wit/builtin/0.3.0/wasi-{cli,clocks,filesystem,http,random,sockets} "$1/deps"
    sed -i "s/@0\.3\.0/@$2/g" "$1"/deps/*/package.wit
    printf "package edgescale:stock;\nworld web { %s }\n" "$3" >"$1/world.wit"
}

# Not a guest: runs compiled guests on another machine, in an emulator.
build_arm() {
    local out="$1/run-aarch64" lib="$TOOLS/wasmtimearm"
    is_fresh "$out" "$here/arm/run.c" "$lib/libwasmtime.so" && return
    ZIG_GLOBAL_CACHE_DIR="$1/zig" ZIG_LOCAL_CACHE_DIR="$1/zig" "$ZIG" cc \
        -target aarch64-linux-gnu.2.31 -O1 "$here/arm/run.c" -o "$out.$$.tmp" \
        "-L$lib" -lwasmtime
    mv "$out.$$.tmp" "$out"
}

# All examples of a crate, each a component; one that its library brings; and one in C, whose
# bindings the crate makes.
build_rust() {
    local name out="$1" crate="$here/rust" library
    [[ -e "$out/c-web.wasm" || ! -x "$ZIG" ]] &&
        is_fresh "$out/rust-http-proxy.wasm" "$crate"/{Cargo.toml,build.rs} \
            "$crate"/examples/*.rs "$here/stock/web.c" && return
    [[ ! -x "$TOOLS/rust/bin/rustc" ]] || export RUSTC="$TOOLS/rust/bin/rustc"
    library="$(cargo metadata --locked --format-version 1 --manifest-path "$crate/Cargo.toml" |
        "$(python)" -c 'import json, sys
for package in json.load(sys.stdin)["packages"]:
    if package["name"] == "wasip2": print(package["manifest_path"].removesuffix("/Cargo.toml"))')"
    rm -rf "$out/wasip2" && cp -r "$library" "$out/wasip2"
    printf "\n[workspace]\n" >>"$out/wasip2/Cargo.toml"
    export GUESTS_C_WIT="$out/c-web/wit" GUESTS_C_OUT="$out/c-web"
    rm -rf "$out/c-web"
    standard_wit "$GUESTS_C_WIT" 0.2.12 "import wasi:keyvalue/store@0.2.0-draft2;"
    cp -r "$here/stock/wit/deps/keyvalue2" "$GUESTS_C_WIT/deps"
    rust_examples "$crate" web topics
    [[ ! -x "$ZIG" ]] || c_component "$here/stock/web.c" "$out/c-web" web "$out/c-web.wasm"
    rust_examples "$out/wasip2" http-proxy
}

# c_component SOURCE BINDINGS WORLD OUT: by wit-bindgen's bindings, which hold the world's types.
c_component() {
    local partial="$4.$$.tmp" core="$2/core.wasm"
    ZIG_GLOBAL_CACHE_DIR="$2/../zig" ZIG_LOCAL_CACHE_DIR="$2/../zig" "$ZIG" cc \
        -target wasm32-wasi -mexec-model=reactor -Os -g -I"$2" \
        "$1" "$2/$3.c" "$2/$3_component_type.o" -o "$core"
    "$(node)" --liftoff-only "$JCO/dist/jco.js" new "$core" --wasi-reactor -o "$partial" >&2
    mv "$partial" "$4"
}

# rust_examples CRATE NAME...
rust_examples() {
    local name crate="$1"
    shift
    for name in "$@"; do
        # As examples/doorcam is built, with which this shares what runs here: most of the work.
        CARGO_PROFILE_RELEASE_LTO=true cargo build --quiet --locked --release \
            --example "$name" --target wasm32-wasip2 --manifest-path "$crate/Cargo.toml" \
            --target-dir "$out/rust" >&2
        cp "$out/rust/wasm32-wasip2/release/examples/${name//-/_}.wasm" "$out/rust-$name.$$.tmp"
        mv "$out/rust-$name.$$.tmp" "$out/rust-$name.wasm"
    done
}

build_py() {
    local out="$1/py.wasm"
    is_fresh "$out" "$here/python/probe.py" && return
    componentize_py "$here/python" "$WIT" on-call probe "$out"
}

node() {
    [[ -x "$TOOLS/bin/node" ]] && echo "$TOOLS/bin/node" || echo node
}

# The interpreter of the tools' folder, else the one of the path.
python() {
    [[ -x "$TOOLS/bin/python3" ]] && echo "$TOOLS/bin/python3" || echo python3
}

is_fresh() {
    local source out="$1"
    shift
    [[ -e "$out" ]] || return 1
    for source in "$@" "$WIT"/*.wit "$here"/stock/wit/*.wit "${BASH_SOURCE[0]}"; do
        [[ "$out" -nt "$source" ]] || return 1
    done
}

main "$@"
