#!/usr/bin/env bash
# Makes app.jar. Needs a JDK, and the Lambda libraries that ./tools.sh of EdgeScale installs.
set -euo pipefail
cd "$(dirname "${BASH_SOURCE[0]}")"
readonly LIBRARIES="${EDGESCALE_TOOLS:?is set by edgescale build}/java"
[[ -d "$LIBRARIES" ]] ||
    { echo "no $LIBRARIES; run ./tools.sh of EdgeScale where Maven is" >&2; exit 1; }
classes="$(mktemp -d)"
trap 'rm -rf "$classes"' EXIT
javac -cp "$LIBRARIES/*" -d "$classes" App.java
jar --create --file app.jar -C "$classes" .
