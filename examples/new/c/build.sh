#!/usr/bin/env bash
# Makes app.wasm. Needs Zig's C compiler and jco. The first build compiles the C library, which
# takes half a minute.
set -euo pipefail
cd "$(dirname "${BASH_SOURCE[0]}")"
readonly TOOLS="${EDGESCALE_TOOLS:?is set by edgescale build}"
readonly ZIG="$TOOLS/zig/ziglang/zig" JCO="$TOOLS/node/node_modules/@bytecodealliance"
node=node
[[ -x "$TOOLS/bin/node" ]] && node="$TOOLS/bin/node"

main() {
    need "$ZIG" "python3 -m pip install --target $TOOLS/zig ziglang==0.17.0"
    need "$JCO/jco" "./tools.sh of EdgeScale"
    mkdir -p target
    # With -g, for the names of functions; Zig leaves them out where nothing is debugged.
    "$ZIG" cc -target wasm32-wasi -mexec-model=reactor -Os -g1 -Wall -Wextra app.c \
        -o target/core.wasm
    cat wit/app.wit wit/world.wit >target/all.wit
    component target/core.wasm target/all.wit target/app.wasm
    # Whoever looks meanwhile sees the old component or the whole new one.
    mv target/app.wasm app.wasm
}

need() {
    [[ -e "$1" ]] || { echo "no $1; run $2" >&2; exit 1; }
}

# component CORE WIT OUT: notes the types of the world `mine` in a core module, and makes it a
# component; of what is there for debuggers, the names of functions stay. What `jco embed` and
# `jco new` do, by one start of node, which does not optimise their code: it runs once.
component() {
    "$node" --liftoff-only --input-type=module -e '
        import { readFile, writeFile } from "node:fs/promises";
        const [jco, core, wit, out] = process.argv.slice(1);
        const tools = await import(`${jco}-transpile/dist/wasm-tools.js`);
        const [module, witSource] = [await readFile(core), await readFile(wit, "utf8")];
        const sections = [module.subarray(0, 8)];
        let at = 8;
        const number = () => {
            let value = 0, shift = 0, byte;
            do {
                byte = module[at++];
                value |= (byte & 127) << shift;
                shift += 7;
            } while (byte & 128);
            return value;
        };
        while (at < module.length) {
            const [from, id, bytes] = [at, module[at++], number()];
            const end = at + bytes;
            const name = id === 0 ? module.toString("latin1", at + 1, at + 8) : "";
            if (!name.startsWith(".debug")) sections.push(module.subarray(from, end));
            at = end;
        }
        const binary = Buffer.concat(sections);
        const embedded = await tools.componentEmbed({ binary, witSource, world: "mine" });
        const adapter = await readFile(`${jco}/lib/wasi_snapshot_preview1.reactor.wasm`);
        const adapters = [["wasi_snapshot_preview1", adapter]];
        await writeFile(out, await tools.componentNew(embedded, adapters));
    ' "$JCO/jco" "$@"
}

main
