/* SPDX-FileCopyrightText: edgeopt contributors
 * SPDX-License-Identifier: Apache-2.0 */
#include "base/json_digest.h"

#include "base/sha256.h"

#include <stdbool.h>
#include <stdlib.h>
#include <string.h>

struct key {
    const char *text; /* as it stands: escapes sort like their characters, all of ours are ASCII */
    uint32_t bytes;
    uint32_t node;
};

static int compare_keys(const void *left, const void *right)
{
    const struct key *a = left, *b = right;
    int order = memcmp(a->text, b->text, a->bytes < b->bytes ? a->bytes : b->bytes);

    return order != 0 ? order : (a->bytes > b->bytes) - (a->bytes < b->bytes);
}

/* The value of four lower-case hex digits, else 0xffff, which no escape of ours is. */
static uint32_t hex_unit(const char *at)
{
    uint32_t unit = 0;

    for (int i = 0; i < 4; i++) {
        int digit = at[i] >= '0' && at[i] <= '9'   ? at[i] - '0'
                    : at[i] >= 'a' && at[i] <= 'f' ? at[i] - 'a' + 10
                                                   : -1;
        if (digit < 0) {
            return 0xffff;
        }
        unit = unit << 4 | (uint32_t)digit;
    }
    return unit;
}

/* Whether a string is spelt as json.dumps of Python does, so that two spellings are two texts: in
 * printable ASCII, all else escaped, in the short form if there is one. */
static bool is_our_spelling(const char *at, const char *end)
{
    while (at < end) {
        unsigned char c = (unsigned char)*at++;
        uint32_t unit;
        if (c != '\\') {
            if (c >= 0x7f) {
                return false;
            }
            continue;
        }
        if (*at++ != 'u') { /* the parser has checked that all of an escape is there */
            if (at[-1] == '/') {
                return false;
            }
            continue;
        }
        unit = hex_unit(at);
        at += 4;
        if ((unit >= 0x20 && unit < 0x7f) || (unit >= '\b' && unit <= '\r' && unit != '\v') ||
            (unit >= 0xdc00 && unit < 0xe000) || unit == 0xffff) {
            return false;
        }
        if (unit >= 0xd800 && unit < 0xdc00) { /* half of a pair */
            if (end - at < 6 || at[0] != '\\' || at[1] != 'u') {
                return false;
            }
            unit = hex_unit(at + 2);
            at += 6;
            if (unit < 0xdc00 || unit >= 0xe000) {
                return false;
            }
        }
    }
    return true;
}

static int add_value(const struct eo_json_tree *tree, uint32_t node, const char *left_out,
                     struct eo_sha256 *sha);

static int add_members(const struct eo_json_tree *tree, uint32_t node, const char *left_out,
                       struct eo_sha256 *sha)
{
    uint32_t count = eo_json_length(tree, node), used = 0, left = 0;
    struct key *keys = malloc((count + (size_t)1) * sizeof *keys);
    int result = EO_OK;

    if (keys == NULL) {
        return EO_ENOMEM;
    }
    for (uint32_t i = node + 1; i < tree->nodes[node].next; i = tree->nodes[i + 1].next) {
        const struct eo_json_node *found = &tree->nodes[i];
        if (left_out == NULL || !eo_json_is(tree, i, left_out)) {
            keys[used++] = (struct key){tree->text + found->begin, found->end - found->begin, i};
        } else if (left++ > 0) {
            result = EO_EBUNDLE;
        }
        if (!is_our_spelling(tree->text + found->begin, tree->text + found->end)) {
            result = EO_EBUNDLE;
        }
    }
    qsort(keys, used, sizeof *keys, compare_keys);
    eo_sha256_add(sha, "{", 1);
    for (uint32_t i = 0; result == EO_OK && i < used; i++) {
        if (i > 0 && compare_keys(&keys[i - 1], &keys[i]) == 0) {
            result = EO_EBUNDLE;
        }
        eo_sha256_add(sha, ",", i == 0 ? 0 : 1);
        eo_sha256_add(sha, "\"", 1);
        eo_sha256_add(sha, keys[i].text, keys[i].bytes);
        eo_sha256_add(sha, "\":", 2);
        result = result == EO_OK ? add_value(tree, keys[i].node + 1, NULL, sha) : result;
    }
    eo_sha256_add(sha, "}", 1);
    free(keys);
    return result;
}

static int add_items(const struct eo_json_tree *tree, uint32_t node, struct eo_sha256 *sha)
{
    int result = EO_OK;

    eo_sha256_add(sha, "[", 1);
    for (uint32_t i = node + 1; result == EO_OK && i < tree->nodes[node].next;
         i = tree->nodes[i].next) {
        eo_sha256_add(sha, ",", i == node + 1 ? 0 : 1);
        result = add_value(tree, i, NULL, sha);
    }
    eo_sha256_add(sha, "]", 1);
    return result;
}

/* As deep as the parser allows. */
static int add_value(const struct eo_json_tree *tree, uint32_t node, const char *left_out,
                     struct eo_sha256 *sha)
{
    const struct eo_json_node *found = &tree->nodes[node];
    size_t quote = found->type == EO_JSON_STRING;

    if (found->type == EO_JSON_OBJECT) {
        return add_members(tree, node, left_out, sha);
    }
    if (found->type == EO_JSON_ARRAY) {
        return add_items(tree, node, sha);
    }
    eo_sha256_add(sha, "\"", quote);
    eo_sha256_add(sha, tree->text + found->begin, found->end - found->begin);
    eo_sha256_add(sha, "\"", quote);
    return quote == 0 || is_our_spelling(tree->text + found->begin, tree->text + found->end)
               ? EO_OK
               : EO_EBUNDLE;
}

int eo_json_digest(const struct eo_json_tree *tree, const char *left_out, uint8_t digest[32],
                   struct eo_failure *failure)
{
    struct eo_sha256 sha;
    int result;

    eo_sha256_begin(&sha);
    result = add_value(tree, 0, left_out, &sha);
    if (result != EO_OK) {
        return result == EO_ENOMEM
                   ? eo_fail(failure, result, left_out, "no memory to sort the members")
                   : eo_fail(failure, result, left_out,
                             "a key stands there twice, or a text is not spelt as edgeopt does");
    }
    eo_sha256_end(&sha, digest);
    return EO_OK;
}
