#!/bin/sh
# SPDX-License-Identifier: Apache-2.0
# Every program has a manual page.
cd "$(dirname "$0")/.." || exit 2
bad=0
for main in maps/*_main.c postconf/*_main.c master/*_main.c qmgr/*_main.c cleanup/*_main.c smtpd/*_main.c smtp/*_main.c local/*_main.c; do
    name=$(basename "$main" _main.c | tr _ -)
    if [ ! -e "man/$name.1" ] && [ ! -e "man/$name.8" ]; then
        echo "$name: no manual page"
        bad=1
    fi
done
exit $bad
