#!/bin/sh
# SPDX-License-Identifier: Apache-2.0
# Every source file is as clang-format (.clang-format) would have it.
cd "$(dirname "$0")/.." || exit 2
find lib postconf maps master qmgr cleanup smtpd smtp local bench tests -name '*.[ch]' -print0 | xargs -0 clang-format --dry-run -Werror
