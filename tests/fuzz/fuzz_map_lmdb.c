/* SPDX-License-Identifier: Apache-2.0 */
/*
 * fuzz_map_lmdb.c - LMDB files with damages of the usual kind: cut off, with blocks of zeros, with another beginning, with anything in the
 * two pages that say what the file is.
 */
#include "damaged.h"

int LLVMFuzzerTestOneInput(const uint8_t *data, size_t size);

int LLVMFuzzerTestOneInput(const uint8_t *data, size_t size)
{
#if PR_HAVE_LMDB
    static struct damaged_table tables[] = {{.type = &map_type_lmdb, .head = 8192}};

    if (damaged_cfg == NULL)
        damaged_begin(tables, ARRAY_LEN(tables));
    damaged_run(&tables[0], data, size);
#else
    (void) data;
    (void) size;
#endif
    return 0;
}
