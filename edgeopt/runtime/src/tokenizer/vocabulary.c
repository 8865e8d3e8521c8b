/* SPDX-FileCopyrightText: edgeopt contributors
 * SPDX-License-Identifier: Apache-2.0 */
#include "tokenizer/vocabulary.h"

#include <stdlib.h>
#include <string.h>

/* At most half of the slots are taken, so only a list made for it gets near to this. */
#define MAX_PROBES 1024

int eo_vocabulary_open(struct eo_vocabulary *vocabulary, uint32_t capacity, size_t bytes)
{
    uint32_t slots = 16;

    while (slots < capacity * 2) {
        slots *= 2;
    }
    *vocabulary = (struct eo_vocabulary){
        .text = malloc(bytes + capacity + 1),
        .offsets = calloc((size_t)capacity + 1, sizeof *vocabulary->offsets),
        .slots = calloc(slots, sizeof *vocabulary->slots),
        .mask = slots - 1,
        .capacity = capacity,
        .text_capacity = bytes + capacity + 1,
    };
    if (vocabulary->text == NULL || vocabulary->offsets == NULL || vocabulary->slots == NULL) {
        eo_vocabulary_close(vocabulary);
        return EO_ENOMEM;
    }
    return EO_OK;
}

void eo_vocabulary_close(struct eo_vocabulary *vocabulary)
{
    free(vocabulary->text);
    free(vocabulary->offsets);
    free(vocabulary->slots);
    *vocabulary = (struct eo_vocabulary){0};
}

/* FNV-1a; http://www.isthe.com/chongo/tech/comp/fnv/ */
uint32_t eo_hash(uint32_t hash, const char *text, size_t bytes)
{
    for (size_t i = 0; i < bytes; i++) {
        hash = (hash ^ (unsigned char)text[i]) * 16777619U;
    }
    return hash;
}

/* The end of MurmurHash3, since the low bits of FNV-1a are not spread well. */
static uint32_t spread(uint32_t hash)
{
    hash = (hash ^ hash >> 16) * 0x85ebca6bU;
    hash = (hash ^ hash >> 13) * 0xc2b2ae35U;
    return hash ^ hash >> 16;
}

const char *eo_vocabulary_text(const struct eo_vocabulary *vocabulary, uint32_t id, size_t *bytes)
{
    if (id >= vocabulary->count) {
        *bytes = 0;
        return NULL;
    }
    *bytes = vocabulary->offsets[id + 1] - vocabulary->offsets[id] - 1;
    return vocabulary->text + vocabulary->offsets[id];
}

static bool is_joined(const struct eo_vocabulary *vocabulary, uint32_t id, const char *prefix,
                      size_t prefix_bytes, const char *text, size_t bytes)
{
    size_t have;
    const char *token = eo_vocabulary_text(vocabulary, id, &have);

    return have == prefix_bytes + bytes && memcmp(token, prefix, prefix_bytes) == 0 &&
           memcmp(token + prefix_bytes, text, bytes) == 0;
}

uint32_t eo_vocabulary_find_joined(const struct eo_vocabulary *vocabulary, uint32_t hash,
                                   const char *prefix, size_t prefix_bytes, const char *text,
                                   size_t bytes)
{
    uint32_t place = spread(hash);
    uint32_t tag = place & 0xff000000U;

    for (uint32_t i = 0; i < MAX_PROBES; i++) {
        uint32_t slot = vocabulary->slots[(place + i) & vocabulary->mask];
        if (slot == 0) {
            return EO_NO_TOKEN;
        }
        if ((slot & 0xff000000U) == tag) {
            uint32_t id = (slot & 0xffffffU) - 1;
            if (is_joined(vocabulary, id, prefix, prefix_bytes, text, bytes)) {
                return id;
            }
        }
    }
    return EO_NO_TOKEN;
}

uint32_t eo_vocabulary_find(const struct eo_vocabulary *vocabulary, const char *text, size_t bytes)
{
    return eo_vocabulary_find_joined(vocabulary, eo_hash(EO_HASH_START, text, bytes), "", 0, text,
                                     bytes);
}

static int insert(struct eo_vocabulary *vocabulary, const char *text, size_t bytes, uint32_t id)
{
    uint32_t place = spread(eo_hash(EO_HASH_START, text, bytes));
    uint32_t tag = place & 0xff000000U;

    for (uint32_t i = 0; i < MAX_PROBES; i++) {
        uint32_t *slot = &vocabulary->slots[(place + i) & vocabulary->mask];
        if (*slot == 0 ||
            ((*slot & 0xff000000U) == tag &&
             is_joined(vocabulary, (*slot & 0xffffffU) - 1, "", 0, text, bytes))) {
            *slot = tag | (id + 1);
            return EO_OK;
        }
    }
    return EO_EUNSUPPORTED;
}

void eo_vocabulary_skip(struct eo_vocabulary *vocabulary)
{
    uint32_t used = vocabulary->offsets[vocabulary->count];

    vocabulary->text[used] = '\0';
    vocabulary->offsets[++vocabulary->count] = used + 1;
}

static int add(struct eo_vocabulary *vocabulary, const struct eo_json_tree *tree, uint32_t node,
               bool replace)
{
    uint32_t id = vocabulary->count;
    uint32_t used = vocabulary->offsets[id];
    char *text = vocabulary->text + used;
    int64_t bytes = eo_json_string(tree, node, text, vocabulary->text_capacity - used);
    int result;

    if (bytes < 0 || id == vocabulary->capacity ||
        (!replace && eo_vocabulary_find(vocabulary, text, (size_t)bytes) != EO_NO_TOKEN)) {
        return EO_EBUNDLE;
    }
    result = insert(vocabulary, text, (size_t)bytes, id);
    if (result == EO_OK) {
        vocabulary->count++;
        vocabulary->offsets[id + 1] = used + (uint32_t)bytes + 1;
        if ((uint32_t)bytes > vocabulary->longest) {
            vocabulary->longest = (uint32_t)bytes;
        }
    }
    return result;
}

int eo_vocabulary_add(struct eo_vocabulary *vocabulary, const struct eo_json_tree *tree,
                      uint32_t node)
{
    return add(vocabulary, tree, node, false);
}

int eo_vocabulary_replace(struct eo_vocabulary *vocabulary, const struct eo_json_tree *tree,
                          uint32_t node)
{
    return add(vocabulary, tree, node, true);
}
