/* SPDX-FileCopyrightText: edgeopt contributors
 * SPDX-License-Identifier: Apache-2.0 */
#include "tokenizer/tokenizer_reader.h"

#include <stdio.h>
#include <stdlib.h>

/* Gaps come of a list with a word twice, or of words that were taken out; more than this is none
 * that anybody made. */
static uint32_t most_ids(uint32_t count)
{
    return 2 * count + 1000;
}

/* The key nodes of model.vocab by id, and how many ids there are. */
static int order_vocabulary(const struct eo_reader *reader, uint32_t vocab, uint32_t count,
                            uint32_t *by_id, uint32_t *ids, size_t *bytes)
{
    const struct eo_json_node *nodes = reader->tree.nodes;

    for (uint32_t i = vocab + 1; i < nodes[vocab].next; i = nodes[i + 1].next) {
        char name[MAX_QUOTE], key[MAX_KEY], expected[96];
        int64_t id;
        if (!eo_json_integer(&reader->tree, i + 1, 0, (int64_t)most_ids(count) - 1, &id)) {
            (void)snprintf(key, sizeof key, "model.vocab[%s]", eo_read_quote(reader, i, name));
            (void)snprintf(expected, sizeof expected,
                           "a whole number from 0 to %u, as there are %u tokens",
                           (unsigned)most_ids(count) - 1, (unsigned)count);
            return eo_read_damaged(reader, key, i + 1, expected);
        }
        if (by_id[id] != 0) {
            return eo_fail(reader->failure, EO_EBUNDLE, reader->where,
                           "model.vocab has the id %u twice", (unsigned)id);
        }
        by_id[id] = i;
        *ids = (uint32_t)id >= *ids ? (uint32_t)id + 1 : *ids;
        *bytes += nodes[i].end - nodes[i].begin;
    }
    return EO_OK;
}

static int add_token(const struct eo_reader *reader, uint32_t node)
{
    char text[MAX_QUOTE];
    int result = eo_vocabulary_add(&reader->tokenizer->vocabulary, &reader->tree, node);

    if (result == EO_EUNSUPPORTED) {
        return eo_read_crowded(reader, "model.vocab");
    }
    if (result != EO_OK) {
        return eo_fail(reader->failure, result, reader->where, "model.vocab has %s twice",
                       eo_read_quote(reader, node, text));
    }
    return EO_OK;
}

static int fill_vocabulary(const struct eo_reader *reader, uint32_t vocab, uint32_t count,
                           uint32_t *by_id, uint32_t added, size_t added_bytes)
{
    struct eo_tokenizer *tokenizer = reader->tokenizer;
    size_t bytes = added_bytes;
    uint32_t ids = 0;
    int result = order_vocabulary(reader, vocab, count, by_id, &ids, &bytes);

    if (result != EO_OK) {
        return result;
    }
    if (eo_vocabulary_open(&tokenizer->vocabulary, ids + added, bytes) != EO_OK) {
        return eo_read_no_memory(reader);
    }
    for (uint32_t id = 0; id < ids && result == EO_OK; id++) {
        if (by_id[id] == 0) {
            eo_vocabulary_skip(&tokenizer->vocabulary);
        } else {
            result = add_token(reader, by_id[id]);
        }
    }
    tokenizer->model_count = ids;
    tokenizer->has_gaps = ids > count;
    return result;
}

int eo_read_vocabulary(const struct eo_reader *reader, uint32_t model, uint32_t added)
{
    const struct eo_json_node *nodes = reader->tree.nodes;
    uint32_t vocab = eo_read_child(reader, model, "vocab");
    uint32_t count = eo_json_length(&reader->tree, vocab);
    uint32_t added_count =
        eo_read_is_null(reader, added) ? 0 : eo_json_length(&reader->tree, added);
    uint32_t *by_id;
    int result;

    if (vocab == 0 || nodes[vocab].type != EO_JSON_OBJECT || count == 0) {
        return eo_read_damaged(reader, "model.vocab", vocab, "an object of tokens and their ids");
    }
    if ((uint64_t)most_ids(count) + added_count > EO_MAX_VOCABULARY || count > EO_MAX_VOCABULARY) {
        return eo_fail(reader->failure, EO_EUNSUPPORTED, reader->where,
                       "model.vocab has %u tokens, supported: up to %u", (unsigned)count,
                       (unsigned)(EO_MAX_VOCABULARY / 2 - 1000));
    }
    by_id = calloc(most_ids(count), sizeof *by_id);
    if (by_id == NULL) {
        return eo_read_no_memory(reader);
    }
    result = fill_vocabulary(reader, vocab, count, by_id, added_count,
                             added_count == 0 ? 0 : nodes[added].end - nodes[added].begin);
    free(by_id);
    return result;
}
