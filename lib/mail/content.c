/* SPDX-License-Identifier: Apache-2.0 */
/* content.c - see content.h. */
#include "mail/content.h"

#if defined(__x86_64__)
#include <immintrin.h>
#endif

#include "mail/envelope.h"

void content_facts_init(struct content_facts *f)
{
    *f = (struct content_facts){.at_line_start = true};
}

/* --- many bytes at a time ---------------------------------------------------------------------------------- */

enum { BLOCK = 64 };

/* What stands where in a block: a bit for each byte, the first one the lowest. */
struct marks {
    uint64_t lf, cr, dot;
    bool high, nul; /* somewhere */
};

typedef void mark_fn(const char *block, struct marks *m);

/* CONTENT_VECTORS (0: none, 16, 32 bytes) is chosen for the machine; tests choose it to see the other ways. */
#ifndef CONTENT_VECTORS
#if defined(__x86_64__)
#define CONTENT_VECTORS 32
#else
#define CONTENT_VECTORS 0
#endif
#endif

#if CONTENT_VECTORS == 0
static void mark_bytes(const char *p, struct marks *m)
{
    *m = (struct marks){0};
    for (unsigned i = 0; i < BLOCK; i++) {
        m->lf |= (uint64_t) (p[i] == '\n') << i;
        m->cr |= (uint64_t) (p[i] == '\r') << i;
        m->dot |= (uint64_t) (p[i] == '.') << i;
        m->high |= (p[i] & 0x80) != 0;
        m->nul |= p[i] == '\0';
    }
}
#else

static inline uint64_t equal16(const __m128i v[4], char c)
{
    const __m128i wanted = _mm_set1_epi8(c);

    return (uint64_t) (unsigned) _mm_movemask_epi8(_mm_cmpeq_epi8(v[0], wanted)) |
           (uint64_t) (unsigned) _mm_movemask_epi8(_mm_cmpeq_epi8(v[1], wanted)) << 16 |
           (uint64_t) (unsigned) _mm_movemask_epi8(_mm_cmpeq_epi8(v[2], wanted)) << 32 |
           (uint64_t) (unsigned) _mm_movemask_epi8(_mm_cmpeq_epi8(v[3], wanted)) << 48;
}

static inline void mark_sse2(const char *p, struct marks *m)
{
    const __m128i *from = (const __m128i *) (const void *) p;
    const __m128i v[4] = {_mm_loadu_si128(from), _mm_loadu_si128(from + 1),
                          _mm_loadu_si128(from + 2), _mm_loadu_si128(from + 3)};
    __m128i any = _mm_or_si128(_mm_or_si128(v[0], v[1]), _mm_or_si128(v[2], v[3]));
    __m128i least = _mm_min_epu8(_mm_min_epu8(v[0], v[1]), _mm_min_epu8(v[2], v[3]));

    m->lf = equal16(v, '\n');
    m->cr = equal16(v, '\r');
    m->dot = equal16(v, '.');
    m->high = _mm_movemask_epi8(any) != 0;
    m->nul = _mm_movemask_epi8(_mm_cmpeq_epi8(least, _mm_setzero_si128())) != 0;
}

#if CONTENT_VECTORS == 32
#define AVX2 __attribute__((target("avx2,bmi")))

AVX2 static inline uint64_t equal32(const __m256i v[2], char c)
{
    const __m256i wanted = _mm256_set1_epi8(c);

    return (uint64_t) (unsigned) _mm256_movemask_epi8(_mm256_cmpeq_epi8(v[0], wanted)) |
           (uint64_t) (unsigned) _mm256_movemask_epi8(_mm256_cmpeq_epi8(v[1], wanted)) << 32;
}

AVX2 static inline void mark_avx2(const char *p, struct marks *m)
{
    const __m256i *from = (const __m256i *) (const void *) p;
    const __m256i v[2] = {_mm256_loadu_si256(from), _mm256_loadu_si256(from + 1)};
    __m256i least = _mm256_min_epu8(v[0], v[1]);

    m->lf = equal32(v, '\n');
    m->cr = equal32(v, '\r');
    m->dot = equal32(v, '.');
    m->high = _mm256_movemask_epi8(_mm256_or_si256(v[0], v[1])) != 0;
    m->nul = _mm256_movemask_epi8(_mm256_cmpeq_epi8(least, _mm256_setzero_si256())) != 0;
}
#endif
#endif

#define INLINE static inline __attribute__((always_inline))

/* The next block of the rest, its end filled up with what means nothing; how many bytes of it are the rest's. */
INLINE size_t mark_next(mark_fn *mark, const char *p, size_t left, struct marks *m)
{
    char last[BLOCK];

    if (left >= BLOCK) {
        mark(p, m);
        return BLOCK;
    }
    memset(last, 'x', sizeof(last));
    memcpy(last, p, left);
    mark(last, m);
    return left;
}

INLINE size_t plain_lines(mark_fn *mark, struct slice text)
{
    uint64_t after_cr = 0; /* bit 0: the byte before the block was one */
    uint64_t after_lf = 1;
    size_t run = 0;

    for (size_t at = 0; at < text.len;) {
        struct marks m;
        size_t n = mark_next(mark, text.ptr + at, text.len - at, &m);
        uint64_t bad = (m.lf & ~(m.cr << 1 | after_cr)) | (m.dot & (m.lf << 1 | after_lf));
        uint64_t good = bad == 0 ? m.lf : m.lf & ((bad & -bad) - 1);

        if (good != 0)
            run = at + (size_t) (BLOCK - __builtin_clzll(good));
        if (bad != 0)
            break;
        after_cr = m.cr >> (BLOCK - 1);
        after_lf = m.lf >> (BLOCK - 1);
        at += n;
    }
    return run;
}

INLINE void scan(mark_fn *mark, struct content_facts *f, struct slice piece)
{
    uint64_t line = f->line_len; /* bytes of the line before the block */
    uint64_t longest = f->longest_line;
    bool last_cr = f->last_cr;
    bool at_line_start = f->at_line_start;
    uint32_t flags = 0;

    for (size_t at = 0; at < piece.len;) {
        struct marks m;
        size_t n = mark_next(mark, piece.ptr + at, piece.len - at, &m);
        uint64_t after_cr = m.cr << 1 | (last_cr ? 1U : 0U);
        uint64_t after_lf = m.lf << 1 | (at_line_start ? 1U : 0U);
        uint64_t real = UINT64_MAX >> (BLOCK - n);
        size_t begin = 0; /* of the line, in the block; what comes before it is in `line` */

        flags |= ((m.dot & after_lf) != 0 ? MAIL_FACT_DOT : 0U) |
                 ((after_cr & ~m.lf & real) != 0 ? MAIL_FACT_BARE_CR : 0U) |
                 (m.high ? MAIL_FACT_8BIT : 0U) | (m.nul ? MAIL_FACT_NUL : 0U);
        for (uint64_t lf = m.lf; lf != 0; lf &= lf - 1) {
            unsigned end = (unsigned) __builtin_ctzll(lf);
            uint64_t length = line + (end - begin) - (after_cr >> end & 1); /* without its CR */

            longest = length > longest ? length : longest;
            line = 0;
            begin = end + 1;
        }
        line += n - begin;
        last_cr = (m.cr >> (n - 1) & 1) != 0;
        at_line_start = (m.lf >> (n - 1) & 1) != 0;
        at += n;
    }
    f->flags |= flags;
    f->longest_line = longest < UINT32_MAX ? (uint32_t) longest : UINT32_MAX;
    f->line_len = line < UINT32_MAX ? (uint32_t) line : UINT32_MAX;
    f->last_cr = last_cr;
    f->at_line_start = at_line_start;
    f->bytes += piece.len;
}

#if CONTENT_VECTORS == 0
#define mark_any mark_bytes
#else
#define mark_any mark_sse2
#endif

#if CONTENT_VECTORS == 32
AVX2 static size_t plain_lines_avx2(struct slice text)
{
    return plain_lines(mark_avx2, text);
}

AVX2 static void scan_avx2(struct content_facts *f, struct slice piece)
{
    scan(mark_avx2, f, piece);
}

static bool has_avx2(void)
{
    return __builtin_cpu_supports("avx2") && __builtin_cpu_supports("bmi");
}
#endif

size_t content_plain_lines(struct slice text)
{
#if CONTENT_VECTORS == 32
    if (has_avx2())
        return plain_lines_avx2(text);
#endif
    return plain_lines(mark_any, text);
}

void content_facts_scan(struct content_facts *f, struct slice piece)
{
#if CONTENT_VECTORS == 32
    if (has_avx2()) {
        scan_avx2(f, piece);
        return;
    }
#endif
    scan(mark_any, f, piece);
}

void content_facts_end(struct content_facts *f)
{
    if (f->last_cr)
        f->flags |= MAIL_FACT_BARE_CR;
    f->last_cr = false;
    if (f->line_len > f->longest_line)
        f->longest_line = f->line_len;
}

void content_to_wire(struct slice piece, bool *last_cr, struct buf *out)
{
    while (piece.len > 0) {
        ptrdiff_t nl = slice_find(piece, '\n');
        size_t n = nl == -1 ? piece.len : (size_t) nl;

        buf_put(out, piece.ptr, n);
        if (nl == -1) {
            *last_cr = piece.ptr[n - 1] == '\r';
            return;
        }
        buf_puts(out, (n > 0 ? piece.ptr[n - 1] == '\r' : *last_cr) ? "\n" : "\r\n");
        *last_cr = false;
        piece = slice_sub(piece, n + 1, piece.len);
    }
}

void content_to_unix(struct slice piece, bool *last_cr, struct buf *out)
{
    while (piece.len > 0) {
        ptrdiff_t cr;

        /* a CR at the end of the last piece waits for what follows */
        if (*last_cr) {
            if (piece.ptr[0] != '\n')
                buf_putc(out, '\r');
            *last_cr = false;
        }
        cr = slice_find(piece, '\r');
        if (cr == -1) {
            buf_put_slice(out, piece);
            return;
        }
        buf_put(out, piece.ptr, (size_t) cr);
        *last_cr = true;
        piece = slice_sub(piece, (size_t) cr + 1, piece.len);
    }
}

void content_dot_stuff(struct slice piece, bool *at_line_start, struct buf *out)
{
    while (piece.len > 0) {
        ptrdiff_t nl = slice_find(piece, '\n');
        size_t n = nl == -1 ? piece.len : (size_t) nl + 1;

        if (*at_line_start && piece.ptr[0] == '.')
            buf_putc(out, '.');
        buf_put(out, piece.ptr, n);
        *at_line_start = nl != -1;
        piece = slice_sub(piece, n, piece.len);
    }
}

bool header_is_field(struct slice line, struct slice *name)
{
    size_t i = 0;
    size_t end;

    while (i < line.len && (unsigned char) line.ptr[i] > ' ' && (unsigned char) line.ptr[i] < 127 &&
           line.ptr[i] != ':')
        i++;
    end = i;
    /* obsolete syntax: white space before the colon */
    while (i < line.len && (line.ptr[i] == ' ' || line.ptr[i] == '\t'))
        i++;
    if (end == 0 || i >= line.len || line.ptr[i] != ':')
        return false;
    *name = slice_sub(line, 0, end);
    return true;
}

bool header_next(struct slice *rest, struct slice *field, struct slice *name, struct slice *value)
{
    size_t end = 0;
    ptrdiff_t colon;

    if (rest->len == 0 || !header_is_field(slice_sub(*rest, 0, 1000), name))
        return false;
    do {
        ptrdiff_t nl = slice_find(slice_sub(*rest, end, rest->len), '\n');

        end = nl == -1 ? rest->len : end + (size_t) nl + 1;
    } while (end < rest->len && (rest->ptr[end] == ' ' || rest->ptr[end] == '\t'));
    *field = slice_sub(*rest, 0, end);
    colon = slice_find(*field, ':');
    *value = slice_sub(*field, (size_t) colon + 1, field->len);
    *rest = slice_sub(*rest, end, rest->len);
    return true;
}
