# SPDX-License-Identifier: Apache-2.0
# Sourced by tools/run and tools/test: installs what tools/packages lists and is missing.
set -euo pipefail
top=$(cd "$(dirname "${BASH_SOURCE[0]}")/.." && pwd)

install_packages() {
    local missing=() p
    while read -r p; do
        dpkg-query -W -f '${db:Status-Status}' "$p" 2>/dev/null | grep -qx installed || missing+=("$p")
    done < <(sed 's/#.*//' "$top/tools/packages" | tr -s ' \t' '\n' | grep .)
    [ ${#missing[@]} -gt 0 ] || return 0
    local sudo=
    if [ "$(id -u)" != 0 ]; then
        command -v sudo >/dev/null || { echo "missing packages, and no right to install them: ${missing[*]}" >&2; exit 1; }
        sudo=sudo
    fi
    echo "installing: ${missing[*]}"
    $sudo env DEBIAN_FRONTEND=noninteractive apt-get -qq update
    $sudo env DEBIAN_FRONTEND=noninteractive apt-get -qq -y --no-install-recommends install "${missing[@]}" >/dev/null
}

# build PRESET: configures and builds into build/PRESET
build() {
    cmake --preset "$1" -S "$top" >"$top/build/$1.configure.log" 2>&1 || { cat "$top/build/$1.configure.log" >&2; exit 1; }
    ninja -C "$top/build/$1" >"$top/build/$1.build.log" 2>&1 || { tail -n 60 "$top/build/$1.build.log" >&2; exit 1; }
}
mkdir -p "$top/build"
