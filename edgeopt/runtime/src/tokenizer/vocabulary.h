/* SPDX-FileCopyrightText: edgeopt contributors
 * SPDX-License-Identifier: Apache-2.0 */
/* Token texts by id, and ids by text. An id that no token has is a gap. */
#ifndef EO_VOCABULARY_H
#define EO_VOCABULARY_H

#include "base/json_tree.h"

#define EO_MAX_VOCABULARY ((1U << 24) - 2)
#define EO_NO_TOKEN UINT32_MAX

struct eo_vocabulary {
    char *text;        /* of all tokens, each with a NUL after it */
    uint32_t *offsets; /* count + 1 of them; text of id at text + offsets[id] */
    uint32_t *slots;   /* open addressing; 0: free, else the id + 1 below 8 bits of the hash */
    uint32_t mask;     /* slots - 1 */
    uint32_t count;
    uint32_t capacity;
    size_t text_capacity;
    uint32_t longest; /* bytes of the longest token */
};

/* Makes room for `capacity` ids and tokens of `bytes` bytes together; EO_ENOMEM leaves nothing to free. */
int eo_vocabulary_open(struct eo_vocabulary *vocabulary, uint32_t capacity, size_t bytes);
void eo_vocabulary_close(struct eo_vocabulary *vocabulary);

/* Decodes the string `node` and gives it the next id. Returns EO_OK, EO_EBUNDLE if the text has
 * an id already, or EO_EUNSUPPORTED if too many texts fall on one place of the hash table. */
int eo_vocabulary_add(struct eo_vocabulary *vocabulary, const struct eo_json_tree *tree,
                      uint32_t node);

/* The same for texts that may stand twice: the last id is the one that is found. */
int eo_vocabulary_replace(struct eo_vocabulary *vocabulary, const struct eo_json_tree *tree,
                          uint32_t node);

/* Leaves the next id without a token. */
void eo_vocabulary_skip(struct eo_vocabulary *vocabulary);

/* The text of `id`, NUL after it, empty for a gap; NULL if there is none. */
const char *eo_vocabulary_text(const struct eo_vocabulary *vocabulary, uint32_t id, size_t *bytes);

/* A hash is fed piece by piece, so that all starts of a word are looked up in one pass. */
#define EO_HASH_START 2166136261U
uint32_t eo_hash(uint32_t hash, const char *text, size_t bytes);

/* The id of `prefix` and `text` one after the other, whose hash is `hash`, or EO_NO_TOKEN. */
uint32_t eo_vocabulary_find_joined(const struct eo_vocabulary *vocabulary, uint32_t hash,
                                   const char *prefix, size_t prefix_bytes, const char *text,
                                   size_t bytes);
uint32_t eo_vocabulary_find(const struct eo_vocabulary *vocabulary, const char *text,
                            size_t bytes);

#endif
