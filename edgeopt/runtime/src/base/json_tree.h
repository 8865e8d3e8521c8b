/* SPDX-FileCopyrightText: edgeopt contributors
 * SPDX-License-Identifier: Apache-2.0 */
/* Reads JSON (RFC 8259) into a flat array of nodes over the text, which must outlive it. */
#ifndef EO_JSON_TREE_H
#define EO_JSON_TREE_H

#include "base/failure.h"

#include <stdbool.h>

#define EO_JSON_MAX_DEPTH 64
#define EO_JSON_MAX_BYTES ((size_t)1 << 28) /* the largest tokenizers are some 20 MB */

enum eo_json_type {
    EO_JSON_NULL,
    EO_JSON_FALSE,
    EO_JSON_TRUE,
    EO_JSON_NUMBER,
    EO_JSON_STRING,
    EO_JSON_ARRAY,
    EO_JSON_OBJECT,
};

/* Nodes stand in the order of the text: an array is followed by its items, an object by key, value,
 * key, value. Node 0 is the document; as an answer, 0 means that there is none. */
struct eo_json_node {
    uint32_t type;  /* enum eo_json_type */
    uint32_t begin; /* bytes begin..end of the text; of a string, what is between the quotes */
    uint32_t end;
    uint32_t next; /* the node after this one and all that is in it */
};

struct eo_json_tree {
    const char *text;
    struct eo_json_node *nodes;
    uint32_t count;
};

/* Parses `text`, which must be UTF-8 with nothing after the document; `where` names it in failures.
 * Returns EO_OK, EO_EBUNDLE or EO_ENOMEM; the nodes are freed with eo_json_free, also after a
 * failure. */
int eo_json_parse(const char *text, size_t bytes, const char *where, struct eo_json_tree *tree,
                  struct eo_failure *failure);
void eo_json_free(struct eo_json_tree *tree);

/* The value of `key` in the object `node`, the first if it stands twice; 0 if it is not there
 * or `node` is no object. */
uint32_t eo_json_member(const struct eo_json_tree *tree, uint32_t node, const char *key);

/* How many items or members; 0 for what is neither array nor object. Counts them: not for loops. */
uint32_t eo_json_length(const struct eo_json_tree *tree, uint32_t node);

/* For loops: for (i = node + 1; i < nodes[node].next; i = nodes[i].next); in an object i is a key
 * and i + 1 its value, and the step is nodes[i + 1].next. */

/* Decodes a string into `out` with a NUL after it. Returns its bytes without the NUL, or -1 if
 * `node` is no string or it does not fit. A lone surrogate becomes U+FFFD. A string may hold NULs:
 * who keeps it as a C string compares with strlen. Decoding never makes it longer. */
int64_t eo_json_string(const struct eo_json_tree *tree, uint32_t node, char *out, size_t size);
bool eo_json_is(const struct eo_json_tree *tree, uint32_t node, const char *text);

/* False if `node` is no number, no whole number (-0 is none), or out of low..high. */
bool eo_json_integer(const struct eo_json_tree *tree, uint32_t node, int64_t low, int64_t high,
                     int64_t *value);
bool eo_json_number(const struct eo_json_tree *tree, uint32_t node, double *value);

#endif
