#!/bin/sh
# SPDX-License-Identifier: Apache-2.0
# check_manual.sh BUILD: every program has a manual page, every parameter is in the one that is made from their rows, and troff
# has nothing to say of them.
build=$(realpath "${1:?build directory}") || exit 2
cd "$(dirname "$0")/.." || exit 2
bad=0
for main in maps/*_main.c postconf/*_main.c master/*_main.c proxymap/*_main.c qmgr/*_main.c cleanup/*_main.c smtpd/*_main.c smtp/*_main.c local/*_main.c \
    bench/smtp_*_main.c; do
    name=$(basename "$main" _main.c | tr _ -)
    if [ ! -e "man/$name.1" ] && [ ! -e "man/$name.8" ]; then
        echo "$name: no manual page"
        bad=1
    fi
done
tab=$(printf '\t')
cut -f1 tests/data/main.cf-parameters.tsv | while IFS="$tab" read -r name; do
    grep -qF "\\fB$name\\fR" "$build/man/postconf.5" || echo "$name: not in postconf.5"
done > "$build/man/missing"
if [ -s "$build/man/missing" ]; then
    cat "$build/man/missing"
    bad=1
fi
for page in man/*.[1-8] "$build/man/postconf.5"; do
    if other=$(sed -n 's/^\.so //p;q' "$page") && [ -n "$other" ]; then
        said=$(ls "man/${other#*/}" 2>&1 >/dev/null)
    else # a default may be longer than a line
        said=$(groff -man -ww -z -Tutf8 "$page" 2>&1 | grep -vE "can't break line|cannot adjust line")
    fi
    if [ -n "$said" ]; then
        echo "$said" | head -5
        bad=1
    fi
done
exit $bad
