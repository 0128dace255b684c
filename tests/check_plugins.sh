#!/bin/sh
# SPDX-License-Identifier: Apache-2.0
#
# check_plugins.sh STAGE - every program that opens tables gives the modules what they ask for, and is linked with none of
# their libraries.

set -u
stage=${1:?usage: check_plugins.sh STAGE}
bad=0
programs=0

for plugin in "$stage"/libexec/postrider/postrider-*.so; do
    [ -e "$plugin" ] || { echo "check_plugins: no modules in $stage" >&2; exit 2; }
done
# what no library of theirs defines: ours
wanted=$(nm -D --undefined-only "$stage"/libexec/postrider/postrider-*.so |
    awk '$1 == "U" && $2 !~ /@/ && $2 !~ /^(__[atu]san|__ubsan|__sanitizer)/ { print $2 }' | sort -u |
    grep -E '^(x[mcr]|buf_|slice_|vec_|err_|mono_|num_|map_|config_|log_|file_|fd_|ascii_)')
for program in "$stage"/sbin/* "$stage"/libexec/postrider/*; do
    case $program in *.so) continue ;; esac
    exported=$(nm -D --defined-only "$program" 2>/dev/null | awk '{ print $3 }' | sort -u)
    echo "$exported" | grep -qx map_plugin_load || continue
    programs=$((programs + 1))
    missing=$(echo "$wanted" | grep -vxF "$exported")
    if [ -n "$missing" ]; then
        echo "$program: modules find no" $missing
        bad=1
    fi
    linked=$(ldd "$program" | grep -E 'lib(mariadb|mysqlclient|ldap|pq|sqlite3)\.')
    if [ -n "$linked" ]; then
        echo "$program: got linked with $linked, wanted none of the modules' libraries"
        bad=1
    fi
done
if [ "$programs" -lt 5 ]; then
    echo "check_plugins: only $programs programs that load modules" >&2
    bad=1
fi
exit $bad
