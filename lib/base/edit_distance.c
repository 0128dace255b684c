/* SPDX-License-Identifier: Apache-2.0 */
/* edit_distance.c - how far one word is from another. See edit_distance.h. */
#include "base/edit_distance.h"

#include <string.h>

unsigned edit_distance(const char *a, const char *b, unsigned limit)
{
    size_t n = strlen(a);
    size_t m = strlen(b);
    unsigned rows[3][128];

    if (n >= 127 || m >= 127 || (n > m ? n - m : m - n) > limit)
        return limit + 1;
    for (size_t j = 0; j <= m; j++)
        rows[0][j] = (unsigned) j;
    for (size_t i = 1; i <= n; i++) {
        unsigned *now = rows[i % 3];
        const unsigned *last = rows[(i + 2) % 3];
        const unsigned *before = rows[(i + 1) % 3];
        unsigned least = now[0] = (unsigned) i;

        for (size_t j = 1; j <= m; j++) {
            unsigned best = last[j - 1] + (a[i - 1] != b[j - 1]);

            if (last[j] + 1 < best)
                best = last[j] + 1;
            if (now[j - 1] + 1 < best)
                best = now[j - 1] + 1;
            if (i > 1 && j > 1 && a[i - 1] == b[j - 2] && a[i - 2] == b[j - 1] &&
                before[j - 2] + 1 < best)
                best = before[j - 2] + 1;
            now[j] = best;
            if (best < least)
                least = best;
        }
        if (least > limit)
            return limit + 1;
    }
    return rows[n % 3][m];
}
