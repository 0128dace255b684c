/* SPDX-License-Identifier: Apache-2.0 */
/*
 * base.h - compiler attributes, and the calls that are kept out of this code.
 */
#ifndef PR_BASE_H
#define PR_BASE_H

#include <stdbool.h>
#include <stddef.h>
#include <stdint.h>

#define NODISCARD              __attribute__((warn_unused_result))
#define PRINTF_LIKE(fmt, args) __attribute__((format(printf, fmt, args)))
#define NORETURN               __attribute__((noreturn))
#define ARRAY_LEN(a)           (sizeof(a) / sizeof((a)[0]))

#if defined(__clang__)
#define CAPABILITY(x) __attribute__((capability(x)))
#define REQUIRES(x)   __attribute__((requires_capability(x)))
#define ACQUIRES(x)   __attribute__((acquire_capability(x)))
#define RELEASES(x)   __attribute__((release_capability(x)))
#else
#define CAPABILITY(x)
#define REQUIRES(x)
#define ACQUIRES(x)
#define RELEASES(x)
#endif

/* A word to the reader, unchecked: clang 14 cannot name a sibling member of a C struct. */
#define GUARDED_BY(x)

/* Small allocations: never NULL, the process ends when memory is out. Sizes from outside are checked
 * against their limit before they come here. */
NODISCARD void *xmalloc(size_t size);
NODISCARD void *xcalloc(size_t count, size_t size);
NODISCARD void *xrealloc(void *ptr, size_t size);
NODISCARD char *xstrdup(const char *s);
NODISCARD char *xstrndup(const char *s, size_t len);

#endif
