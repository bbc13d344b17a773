# SPDX-License-Identifier: BSD-3-Clause
#
# Sourced by ./run and ./test from the top of the source tree: installs missing packages, configures
# and builds. The lists are of plain words, so they are split at blanks.
# shellcheck shell=sh disable=SC2046,SC2086,SC2015
#
# Says what it does on standard error, so that standard output stays the program's.
# Each step first asks whether there is anything to do, and is silent if not.

PATH=$PATH:/usr/local/sbin:/usr/sbin:/sbin
export PATH

say() { printf '%s\n' "$*" >&2; }

top=$(pwd -P)

# packages_in LIST...: the names in the lists, comments taken out.
packages_in() { sed -e 's/#.*//' -e '/^[[:space:]]*$/d' "$@"; }

missing_packages() {
    packages_in "$@" | while read -r package; do
        case $(dpkg-query -W -f '${db:Status-Status}' "$package" 2>/dev/null) in
            installed) ;;
            *) printf '%s ' "$package" ;;
        esac
    done
}

# need_packages LIST...: returns when all are installed, or exits with the line that installs them.
need_packages() {
    stamp=build/.packages-$(cat "$@" | cksum | tr -d ' ')
    [ -e "$stamp" ] && return
    if command -v dpkg-query >/dev/null; then
        missing=$(missing_packages "$@")
        [ -z "$missing" ] || install_packages "$missing"
    else
        say "This is no Debian: it is up to you that these are installed:" $(packages_in "$@")
    fi
    mkdir -p build
    rm -f build/.packages-"${stamp##*-}"
    : >"$stamp"
}

install_packages() {
    if [ "$(id -u)" = 0 ]; then
        as_root=
    elif sudo -n true 2>/dev/null; then
        as_root='sudo -n'
    else
        say "Packages are missing, and installing them takes root. Run this line, then try again:"
        say "  sudo apt-get update && sudo apt-get install -y --no-install-recommends $1"
        exit 1
    fi
    say "Installing: $1"
    $as_root apt-get -q update </dev/null >&2 &&
        $as_root env DEBIAN_FRONTEND=noninteractive \
            apt-get -q install -y --no-install-recommends $1 </dev/null >&2 || {
        say "apt-get could not install the packages; its message is above."
        exit 1
    }
}

# configure PRESET [OPTION...]: unless build/PRESET stands and is of this source tree.
configure() {
    preset=$1
    shift
    cache=build/$preset/CMakeCache.txt
    if [ -e "$cache" ] && ! grep -qxF "CMAKE_HOME_DIRECTORY:INTERNAL=$top" "$cache"; then
        say "build/$preset was made for another folder; starting it anew."
        rm -rf "build/$preset"
    fi
    stale=
    [ -e "build/$preset/build.ninja" ] || stale=yes
    [ -z "$stale" ] && [ -n "$(find CMakePresets.json -newer "$cache")" ] && stale=yes
    for option; do
        setting=${option#-D}
        [ -n "$stale" ] || grep -q "^${setting%%=*}:[A-Z]*=${setting#*=}\$" "$cache" || stale=yes
    done
    [ -n "$stale" ] || return 0
    say "Configuring build/$preset"
    cmake --preset "$preset" "$@" </dev/null >&2 || exit 1
}

# build PRESET TARGET: a second call looks at the times of the sources and is done.
build() {
    stamp=build/$1/.built-$2
    if [ -e "$stamp" ] && [ -z "$(find CMakeLists.txt CMakePresets.json cmake include src modules plugins \
        sim examples bench tests -newer "$stamp" -print -quit 2>/dev/null)" ]; then
        return 0
    fi
    : >"$stamp.started"
    if [ "$2" = all ]; then say "Building build/$1"; else say "Building $2 in build/$1"; fi
    ninja -C "build/$1" "$2" </dev/null >&2 || exit 1
    mv "$stamp.started" "$stamp"
}
