/* SPDX-License-Identifier: Apache-2.0 */
/* test_base_containers.c - lib/base/vec.h, htable.h, arena.h. */
#include "test_base.h"

#include <stdlib.h>

#include "base/arena.h"
#include "base/htable.h"
#include "base/vec.h"

static int by_first_letter(const void *a, const void *b)
{
    return *(const char *) a - *(const char *) b;
}

static void test_vec(void **state)
{
    static char words[][3] = {"d1", "b1", "a1", "d2", "c1", "b2", "a2"};
    static const char *sorted[] = {"a1", "a2", "b1", "b2", "c1", "d1", "d2"};
    struct vec v = VEC_INIT;

    (void) state;
    assert_null(vec_pop(&v));
    vec_sort(&v, by_first_letter);
    for (size_t i = 0; i < ARRAY_LEN(words); i++)
        vec_push(&v, words[i]);
    vec_sort(&v, by_first_letter);
    for (size_t i = 0; i < ARRAY_LEN(words); i++)
        check_str("sorted, equal ones in their order", v.items[i], sorted[i]);
    vec_remove(&v, 0);
    vec_remove(&v, 5);
    check_int("len", (long long) v.len, 5);
    check_str("first", v.items[0], "a2");
    check_str("last", vec_pop(&v), "d1");
    vec_clear(&v, NULL);
    check_int("cleared", (long long) v.len, 0);
    for (int i = 0; i < 1000; i++)
        vec_push(&v, xstrdup("x"));
    check_int("grown", (long long) v.len, 1000);
    vec_clear(&v, free);
    vec_fini(&v);
    check_int("storage is gone", (long long) v.cap, 0);
}

static bool count_up_to(struct slice key, void *value, void *arg)
{
    int *left = arg;

    assert_non_null(value);
    assert_true(key.len > 0);
    return --*left > 0;
}

static void test_htable(void **state)
{
    struct htable *t = htable_new(false);
    int one = 1;
    int two = 2;
    int left = 3;
    char key[32];
    static int values[5000];

    (void) state;
    assert_null(htable_get(t, SLICE_LIT("a")));
    assert_null(htable_remove(t, SLICE_LIT("a")));
    assert_null(htable_put(t, SLICE_LIT("a"), &one));
    assert_ptr_equal(htable_put(t, SLICE_LIT("a"), &two), &one);
    check_int("replaced", (long long) htable_len(t), 1);
    assert_null(htable_put(t, SLICE_EMPTY, &one));
    assert_ptr_equal(htable_get(t, slice_of(NULL, 0)), &one);
    assert_null(htable_get(t, SLICE_LIT("A")));
    assert_ptr_equal(htable_remove(t, SLICE_EMPTY), &one);
    assert_ptr_equal(htable_remove(t, SLICE_LIT("a")), &two);
    check_int("empty", (long long) htable_len(t), 0);
    for (int i = 0; i < 5000; i++) {
        snprintf(key, sizeof(key), "key %d", i);
        assert_null(htable_put(t, slice_str(key), &values[i]));
    }
    check_int("many", (long long) htable_len(t), 5000);
    for (int i = 0; i < 5000; i++) {
        snprintf(key, sizeof(key), "key %d", i);
        assert_ptr_equal(htable_get(t, slice_str(key)), &values[i]);
        if (i % 2 == 0)
            assert_ptr_equal(htable_remove(t, slice_str(key)), &values[i]);
    }
    check_int("half", (long long) htable_len(t), 2500);
    assert_null(htable_get(t, SLICE_LIT("key 10")));
    assert_ptr_equal(htable_get(t, SLICE_LIT("key 11")), &values[11]);
    htable_each(t, count_up_to, &left);
    check_int("stopped when told", left, 0);
    htable_free(&t, NULL);
    assert_null(t);
    htable_free(&t, NULL);
}

static void test_htable_fold(void **state)
{
    struct htable *t = htable_new(true);

    (void) state;
    assert_null(htable_put(t, SLICE_LIT("Example.COM, long enough"), xstrdup("1")));
    check_str("folded", htable_get(t, SLICE_LIT("eXAMPLE.com, LONG enough")), "1");
    assert_null(htable_get(t, SLICE_LIT("example.com, long enougH!")));
    assert_null(htable_put(t, slice_of("a\0b", 3), xstrdup("2")));
    check_str("NUL is a byte", htable_get(t, slice_of("A\0B", 3)), "2");
    assert_null(htable_get(t, slice_of("A\0C", 3)));
    htable_free(&t, free);
}

static void test_hash(void **state)
{
    uint64_t seen[64];
    char text[64] = "";

    (void) state;
    for (size_t len = 0; len < 64; len++) {
        memset(text, 'x', len);
        seen[len] = hash_bytes(slice_of(text, len));
        check_int("the same again", hash_bytes(slice_of(text, len)) == seen[len], true);
        for (size_t k = 0; k < len; k++)
            check_int("lengths differ", seen[k] == seen[len], false);
    }
}

static void test_arena(void **state)
{
    struct arena *a = arena_new(256);
    char *first;
    char *big;

    (void) state;
    for (int round = 0; round < 3; round++) {
        first = arena_alloc(a, 10);
        check_int("aligned", (uintptr_t) first % 16, 0);
        for (size_t i = 0; i < 10; i++)
            check_int("zeroed", first[i], 0);
        memset(first, 'f', 10);
        big = arena_alloc(a, 5000);
        check_int("aligned", (uintptr_t) big % 16, 0);
        for (size_t i = 0; i < 5000; i++)
            check_int("zeroed", big[i], 0);
        memset(big, 'b', 5000);
        check_str("strdup", arena_strdup(a, "text"), "text");
        check_str("slice", arena_slice(a, slice_of("abcdef", 3)).ptr, "abc");
        check_slice("empty slice", arena_slice(a, slice_of(NULL, 0)), "");
        check_str("printf", arena_printf(a, "%s-%d", "x", 5), "x-5");
        check_str("long printf", arena_printf(a, "%300d", 5) + 299, "5");
        for (size_t size = 0; size < 600; size++)
            memset(arena_alloc(a, size), 'x', size);
        check_int("others leave it alone", first[9], 'f');
        check_int("others leave it alone", big[4999], 'b');
        arena_reset(a);
    }
    arena_free(&a);
    assert_null(a);
    arena_free(&a);
}

int main(void)
{
    const struct CMUnitTest tests[] = {
        cmocka_unit_test(test_vec),         cmocka_unit_test(test_htable),
        cmocka_unit_test(test_htable_fold), cmocka_unit_test(test_hash),
        cmocka_unit_test(test_arena),
    };

    return cmocka_run_group_tests(tests, NULL, NULL);
}
