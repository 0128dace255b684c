/* SPDX-License-Identifier: Apache-2.0 */
/*
 * test_map_cidr.c - the index of cidr tables answers as going through the rules does: by hand for the odd cases, and for random
 * tables and a million random keys. SEED=n makes a run again; KEYS=n sets how many.
 */
#include "test_patterns.h"

#include <arpa/inet.h>
#include <stdio.h>

#include "maps/map_cidr_index.h"

extern const struct map_type map_type_cidr;

/* "" for not found. */
static const char *ask(const struct pattern_table *t, const char *key, bool by_index,
                       struct buf *out)
{
    struct err err = ERR_INIT;
    enum map_result res;

    buf_reset(out);
    res = (by_index ? map_type_cidr.lookup : pattern_map_lookup)((void *) (uintptr_t) t,
                                                                 slice_str(key), out, &err);
    assert_true(res == (out->len > 0 ? MAP_FOUND : MAP_NOTFOUND));
    return buf_cstr(out);
}

static void test_by_hand(void **unused)
{
    static const struct {
        const char *table, *key, *value;
    } cases[] = {
        {"10.0.0.0/8 a\n", "10.255.255.255", "a"},
        {"10.0.0.0/8 a\n", "11.0.0.0", ""},
        {"10.0.0.0/8 a\n", "::a00:1", ""},
        {"10.0.0.0/8 a\n10.1.0.0/16 b\n", "10.1.2.3", "a"},
        {"10.1.0.0/16 b\n10.0.0.0/8 a\n", "10.1.2.3", "b"},
        {"10.1.0.0/16 b\n10.0.0.0/8 a\n", "10.2.0.0", "a"},
        {"10.1.255.0/24 b\n10.1.0.0/16 a\n", "10.1.255.255", "b"},
        {"10.1.255.0/24 b\n10.1.0.0/16 a\n", "10.2.0.0", ""},
        {"10.1.0.0/16 a\n10.1.0.0/16 b\n", "10.1.0.0", "a"},
        {"0.0.0.0/0 a\n", "255.255.255.255", "a"},
        {"255.255.255.255 a\n", "255.255.255.255", "a"},
        {"255.255.255.255 a\n", "255.255.255.254", ""},
        {"::/0 a\n", "ffff:ffff:ffff:ffff:ffff:ffff:ffff:ffff", "a"},
        {"2001:db8::/33 a\n", "2001:db8:7fff::", "a"},
        {"2001:db8::/33 a\n", "2001:db8:8000::", ""},
        {"2001:db8::/65 a\n", "2001:db8::7fff:ffff:ffff:ffff", "a"},
        {"2001:db8::/65 a\n", "2001:db8::8000:0:0:0", ""},
        {"2001:db8::/64 a\n", "2001:db8:0:0:ffff::", "a"},
        {"!10.0.0.0/8 a\n", "10.1.1.1", ""},
        {"!10.0.0.0/8 a\n", "9.255.255.255", "a"},
        /* an address of the other family matches neither way, as in Postfix */
        {"!10.0.0.0/8 a\n", "::1", ""},
        {"!::1 a\n::/0 b\n", "10.0.0.1", ""},
        {"if !10.0.0.0/8\n::/0 a\nendif\n", "::1", ""},
        {"if 10.0.0.0/8\n!::1 a\n!10.0.0.0/9 b\nendif\n", "10.0.0.1", ""},
        {"if 10.0.0.0/8\n!::1 a\n!10.0.0.0/9 b\nendif\n", "10.200.0.1", "b"},
        {"if 10.0.0.0/8\n10.1.0.0/16 a\n11.0.0.0/8 b\nendif\n0.0.0.0/0 c\n", "11.0.0.1", "c"},
        {"if 10.1.0.0/16\n10.0.0.0/8 a\nendif\n", "10.2.0.0", ""},
        {"if 10.1.0.0/16\n10.0.0.0/8 a\nendif\n", "10.1.3.0", "a"},
        {"if !10.0.0.0/8\n0.0.0.0/0 a\nendif\n", "10.0.0.0", ""},
        {"if !10.0.0.0/8\n0.0.0.0/0 a\nendif\n", "128.0.0.0", "a"},
        {"if !10.0.0.0/8\nif !11.0.0.0/8\n!12.0.0.0/8 a\nendif\nendif\n", "11.1.1.1", ""},
        {"if !10.0.0.0/8\nif !11.0.0.0/8\n!12.0.0.0/8 a\nendif\nendif\n", "13.1.1.1", "a"},
        {"if 10.0.0.0/8\n10.0.0.0/8 a\n", "10.0.0.1", "a"}, /* to the end of the table */
        {"", "10.0.0.1", ""},
        {"0.0.0.0/0 a\n::/0 b\n", "[10.0.0.1]", ""},
        {"0.0.0.0/0 a\n::/0 b\n", "10.0.0.0/8", ""},
        {"0.0.0.0/0 a\n::/0 b\n", "IPv6:::1", ""},
        {"0.0.0.0/0 a\n::/0 b\n", "10.0.0", ""},
        {"0.0.0.0/0 a\n::/0 b\n", "", ""},
    };
    struct buf out = BUF_INIT(65536);

    (void) unused;
    for (size_t i = 0; i < ARRAY_LEN(cases); i++) {
        struct pattern_table *t = load_table(&map_type_cidr, slice_str(cases[i].table));

        assert_non_null(t->index);
        for (int by_index = 0; by_index < 2; by_index++)
            if (strcmp(ask(t, cases[i].key, by_index != 0, &out), cases[i].value) != 0)
                fail_msg("case %zu, %s: \"%s\"", i, by_index ? "index" : "rules", buf_cstr(&out));
        pattern_map_close(t);
    }
    buf_fini(&out);
}

/* Few values, so that networks meet: nested, side by side, the same, at the ends of the space. */
static void random_network(struct network *n)
{
    static const unsigned char bytes[] = {0, 0, 1, 10, 127, 128, 192, 255, 255};
    int max;

    *n = (struct network){.family = random_below(3) == 0 ? AF_INET6 : AF_INET};
    max = n->family == AF_INET ? 32 : 128;
    for (int i = 0; i < max / 8; i++)
        n->addr[i] = random_below(4) != 0 ? bytes[random_below(ARRAY_LEN(bytes))]
                                          : (unsigned char) random_below(256);
    n->bits = random_below(3) == 0 ? max : (int) random_below((uint32_t) max + 1);
    for (int i = n->bits; i < max; i++)
        n->addr[i / 8] &= (unsigned char) ~(0x80 >> (i % 8));
}

static void print_network(const struct network *n, struct buf *out)
{
    char text[INET6_ADDRSTRLEN];

    inet_ntop(n->family, n->addr, text, sizeof(text));
    buf_printf(out, "%s/%d", text, n->bits);
}

static void random_table(struct buf *out, struct network *made, size_t rules)
{
    unsigned depth = 0;

    for (size_t i = 0; i < rules; i++) {
        /* often one that is there already, or a part of it */
        if (i > 0 && random_below(3) == 0)
            made[i] = made[random_below((uint32_t) i)];
        else
            random_network(&made[i]);
        if (depth > 0 && random_below(4) == 0) {
            buf_puts(out, "endif\n");
            depth--;
        }
        if (random_below(6) == 0) {
            buf_puts(out, random_below(3) == 0 ? "if !" : "if ");
            depth++;
            print_network(&made[i], out);
            buf_putc(out, '\n');
        } else {
            if (random_below(8) == 0)
                buf_putc(out, '!');
            print_network(&made[i], out);
            buf_printf(out, " r%zu\n", i);
        }
    }
    while (depth-- > 0)
        buf_puts(out, "endif\n");
}

/* An edge of one of the networks, one beside it, something in it, or anything. */
static void random_key(const struct network *made, size_t n, char *out)
{
    struct network a;
    int max;
    uint32_t kind = random_below(8);

    random_network(&a);
    if (kind != 0)
        a = made[random_below((uint32_t) n)];
    max = a.family == AF_INET ? 32 : 128;
    for (int i = a.bits; i < max; i++)
        if (kind == 1 || kind == 2 || (kind > 4 && random_below(2) == 0))
            a.addr[i / 8] |= (unsigned char) (0x80 >> (i % 8));
    for (int i = max / 8 - 1; i >= 0 && kind == 2; i--) /* the next one */
        if (++a.addr[i] != 0)
            break;
    for (int i = max / 8 - 1; i >= 0 && kind == 3; i--) /* the one before */
        if (a.addr[i]-- != 0)
            break;
    inet_ntop(a.family, a.addr, out, INET6_ADDRSTRLEN);
}

static void test_random(void **unused)
{
    long left = (long) random_keys(1000000);
    struct buf by_rules = BUF_INIT(65536);
    struct buf by_index = BUF_INIT(65536);
    long found = 0;

    (void) unused;
    random_begin();
    while (left > 0) {
        struct network made[60];
        size_t rules = 1 + random_below(ARRAY_LEN(made));
        struct buf text = BUF_INIT(1 << 20);
        struct pattern_table *t;

        random_table(&text, made, rules);
        t = load_table(&map_type_cidr, buf_view(&text));
        assert_non_null(t->index);
        for (int i = 0; i < 1000; i++, left--) {
            char key[INET6_ADDRSTRLEN];

            random_key(made, rules, key);
            ask(t, key, false, &by_rules);
            ask(t, key, true, &by_index);
            found += by_rules.len > 0;
            if (!slice_eq(buf_view(&by_rules), buf_view(&by_index)))
                fail_msg("key %s: rules \"%s\", index \"%s\"\n%s", key, buf_cstr(&by_rules),
                         buf_cstr(&by_index), buf_cstr(&text));
        }
        pattern_map_close(t);
        buf_fini(&text);
    }
    print_message("%ld keys had an answer\n", found);
    assert_true(found > 0);
    buf_fini(&by_rules);
    buf_fini(&by_index);
}

/* What the cost of an answer hangs on: two ranges for a network, not its rules. */
static void test_size(void **unused)
{
    struct buf text = BUF_INIT(4 << 20);
    struct buf answer = BUF_INIT(65536);
    struct pattern_table *t;

    (void) unused;
    for (unsigned i = 0; i < 50000; i++)
        buf_printf(&text, "%u.%u.%u.0/24 r%u\n", 1 + i / 30000, i / 200 % 150, i % 200, i);
    t = load_table(&map_type_cidr, buf_view(&text));
    assert_in_range(cidr_index_size(t->index), 50000, 100003);
    for (unsigned i = 0; i < 50000; i++) {
        char key[INET_ADDRSTRLEN];
        char wanted[16];

        (void) snprintf(key, sizeof(key), "%u.%u.%u.%u", 1 + i / 30000, i / 200 % 150, i % 200,
                        i % 256);
        (void) snprintf(wanted, sizeof(wanted), "r%u", i);
        assert_string_equal(ask(t, key, true, &answer), wanted);
    }
    assert_string_equal(ask(t, "0.255.255.255", true, &answer), "");
    assert_string_equal(ask(t, "255.255.255.255", true, &answer), "");
    pattern_map_close(t);
    buf_fini(&text);
    buf_fini(&answer);
}

int main(void)
{
    const struct CMUnitTest tests[] = {
        cmocka_unit_test(test_by_hand),
        cmocka_unit_test(test_random),
        cmocka_unit_test(test_size),
    };

    return cmocka_run_group_tests(tests, NULL, NULL);
}
