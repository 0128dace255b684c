#!/bin/sh
# SPDX-License-Identifier: Apache-2.0
#
# check_symbols.sh BUILD_DIR - no object of our libraries may call what this code does not use.
#
# Two looks, since each misses something: at the undefined symbols of the built libraries (what the compiler
# made of macros), and at the sources without comments (what it turned into something else, such as atoi).
# epoll belongs to lib/base/loop.c and lib/base/poller.c alone.

set -u
build=${1:?usage: check_symbols.sh BUILD_DIR}
source=$(cd "$(dirname "$0")/.." && pwd) || exit 2
bad=0

calls='strcpy strcat sprintf vsprintf strncpy strncat strtok atoi atol atoll atof
       scanf sscanf fscanf vscanf vsscanf vfscanf gets alloca
       localtime gmtime ctime asctime strerror gethostbyname gethostbyaddr getservbyname
       setenv putenv unsetenv'

pattern=
for call in $calls; do
    pattern="$pattern${pattern:+|}$call"
done

libs=$(find "$build" -maxdepth 1 -name 'libpr_*.a')
if [ -z "$libs" ]; then
    echo "check_symbols: no libpr_*.a in $build" >&2
    exit 2
fi
for lib in $libs; do
    # glibc's spellings: __strcpy_chk of _FORTIFY_SOURCE, __isoc99_sscanf
    found=$(nm -A -u "$lib" 2>/dev/null |
        grep -E " U (__)?(isoc[0-9]+_)?($pattern)(_chk)?(@.*)?\$")
    if [ -n "$found" ]; then
        echo "got calls that are not allowed, wanted none:"
        echo "$found"
        bad=1
    fi
    found=$(nm -A -u "$lib" 2>/dev/null | grep -E ' U epoll_' |
        grep -Ev ':(loop|poller)\.c\.o:')
    if [ -n "$found" ]; then
        echo "got epoll outside of lib/base/loop.c and poller.c, wanted none:"
        echo "$found"
        bad=1
    fi
done

sources=$(find "$source" -name '*.c' -not -path '*/build/*' -not -path "$source/tests/*" -not -path '*/.*')
for file in $sources; do
    # without comments and strings; -fpreprocessed: no macros, no includes
    found=$(${CC:-cc} -fpreprocessed -dD -E -P "$file" 2>/dev/null | sed 's/"[^"]*"/""/g' |
        grep -nE "(^|[^A-Za-z0-9_.>])($pattern)[[:space:]]*\\(")
    if [ -n "$found" ]; then
        echo "$file: got calls that are not allowed, wanted none:"
        echo "$found"
        bad=1
    fi
done
exit $bad
