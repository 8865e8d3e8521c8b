#include "json_digest.h"

#include "sha256.h"

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

static int add_value(const struct eo_json_tree *tree, uint32_t node, const char *left_out,
                     struct eo_sha256 *sha);

static int add_members(const struct eo_json_tree *tree, uint32_t node, const char *left_out,
                       struct eo_sha256 *sha)
{
    uint32_t count = eo_json_length(tree, node), used = 0;
    struct key *keys = malloc((count + (size_t)1) * sizeof *keys);
    int result = EO_OK;

    if (keys == NULL) {
        return EO_ENOMEM;
    }
    for (uint32_t i = node + 1; i < tree->nodes[node].next; i = tree->nodes[i + 1].next) {
        const struct eo_json_node *found = &tree->nodes[i];
        if (left_out == NULL || !eo_json_is(tree, i, left_out)) {
            keys[used++] = (struct key){tree->text + found->begin, found->end - found->begin, i};
        }
    }
    qsort(keys, used, sizeof *keys, compare_keys);
    eo_sha256_add(sha, "{", 1);
    for (uint32_t i = 0; result == EO_OK && i < used; i++) {
        eo_sha256_add(sha, ",", i == 0 ? 0 : 1);
        eo_sha256_add(sha, "\"", 1);
        eo_sha256_add(sha, keys[i].text, keys[i].bytes);
        eo_sha256_add(sha, "\":", 2);
        result = add_value(tree, keys[i].node + 1, NULL, sha);
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
    return EO_OK;
}

int eo_json_digest(const struct eo_json_tree *tree, const char *left_out, uint8_t digest[32],
                   struct eo_failure *failure)
{
    struct eo_sha256 sha;

    eo_sha256_begin(&sha);
    if (add_value(tree, 0, left_out, &sha) != EO_OK) {
        return eo_fail(failure, EO_ENOMEM, left_out, "no memory to sort the members");
    }
    eo_sha256_end(&sha, digest);
    return EO_OK;
}
