/* SPDX-FileCopyrightText: edgeopt contributors
 * SPDX-License-Identifier: Apache-2.0 */
#include "tokenizer/tokenizer_reader.h"

#include "base/utf8.h"

#include <stdio.h>
#include <stdlib.h>
#include <string.h>

/* Reads the suffix of words' ends, and refuses what is not computed here. */
static int check_bpe_options(const struct eo_reader *reader, uint32_t model)
{
    char *suffix = reader->tokenizer->bpe.suffix;
    uint32_t dropout = eo_read_child(reader, model, "dropout");
    uint32_t prefix = eo_read_child(reader, model, "continuing_subword_prefix");
    uint32_t end = eo_read_child(reader, model, "end_of_word_suffix");
    const size_t room = sizeof reader->tokenizer->bpe.suffix;
    int64_t bytes = 0;
    double share;

    if (!eo_read_is_null(reader, dropout) &&
        (!eo_json_number(&reader->tree, dropout, &share) || share != 0)) {
        return eo_read_unsupported(reader, "model.dropout", dropout, "null or 0");
    }
    if (!eo_read_is_null(reader, prefix) && !eo_json_is(&reader->tree, prefix, "")) {
        return eo_read_unsupported(reader, "model.continuing_subword_prefix", prefix,
                                   "null or \"\"");
    }
    if (!eo_read_is_null(reader, end)) {
        bytes = eo_json_string(&reader->tree, end, suffix, room);
    }
    if (bytes < 0 || strlen(suffix) != (size_t)bytes) {
        return eo_read_unsupported(reader, "model.end_of_word_suffix", end,
                                   "null or up to 15 bytes");
    }
    if (suffix[0] != '\0' && reader->tokenizer->bpe.byte_fallback) {
        return eo_read_unsupported(reader, "model.end_of_word_suffix", end,
                                   "none with byte_fallback");
    }
    return EO_OK;
}

/* The tokens of single bytes; returns the first byte that has none, 256 if each has one. */
static uint32_t find_bytes(const struct eo_reader *reader)
{
    struct eo_bpe *bpe = &reader->tokenizer->bpe;
    uint32_t byte = 0;

    if (!bpe->byte_level) {
        eo_read_byte_ids(reader, bpe->byte_ids);
    }
    for (uint32_t i = 0; bpe->byte_level && i < 256; i++) {
        char text[4];
        uint32_t bytes = eo_utf8_write(eo_byte_char((uint8_t)i), text);
        bpe->byte_ids[i] = eo_vocabulary_find(&reader->tokenizer->vocabulary, text, bytes);
    }
    while (byte < 256 && bpe->byte_ids[byte] != EO_NO_TOKEN) {
        byte++;
    }
    return byte;
}

/* What stands for a byte or character without a token of its own. */
static int find_unknown(const struct eo_reader *reader, uint32_t model)
{
    struct eo_tokenizer *tokenizer = reader->tokenizer;
    uint32_t node = eo_read_child(reader, model, "unk_token"), missing = find_bytes(reader);
    bool whole = missing == 256 && (tokenizer->bpe.byte_level || tokenizer->bpe.byte_fallback);
    char text[256];

    tokenizer->unknown = EO_NO_TOKEN;
    if (!eo_read_is_null(reader, node)) {
        tokenizer->unknown = eo_read_token(reader, node, text, sizeof text);
        if (tokenizer->unknown == EO_NO_TOKEN && !whole) {
            return eo_read_damaged(reader, "model.unk_token", node, "a token of model.vocab");
        }
    }
    if (tokenizer->unknown == EO_NO_TOKEN && tokenizer->bpe.byte_level && !whole) {
        return eo_fail(reader->failure, EO_EUNSUPPORTED, reader->where,
                       "model.vocab has no token for byte %u, supported without model.unk_token: "
                       "one for each of 256",
                       (unsigned)missing);
    }
    if (tokenizer->bpe.byte_level && tokenizer->bpe.byte_fallback) {
        return eo_read_unsupported(reader, "model.byte_fallback",
                                   eo_read_child(reader, model, "byte_fallback"),
                                   "false with ByteLevel");
    }
    return EO_OK;
}

/* The two texts of a merge: the first at `text`, the second after it. */
struct pair {
    char *text;
    size_t first;
    size_t second;
};

/* Reads "a b" or ["a", "b"]; false if it is neither. */
static bool read_pair(const struct eo_reader *reader, uint32_t node, bool legacy, size_t size,
                      struct pair *pair)
{
    const struct eo_json_tree *tree = &reader->tree;
    int64_t first, second;

    if (legacy) {
        int64_t bytes = eo_json_string(tree, node, pair->text, size);
        char *space = bytes < 0 ? NULL : memchr(pair->text, ' ', (size_t)bytes);
        if (space == NULL) {
            return false;
        }
        pair->first = (size_t)(space - pair->text);
        pair->second = (size_t)bytes - pair->first - 1;
        memmove(space, space + 1, pair->second);
        return memchr(space, ' ', pair->second) == NULL;
    }
    if (eo_read_node(reader, node)->type != EO_JSON_ARRAY || eo_json_length(tree, node) != 2) {
        return false;
    }
    first = eo_json_string(tree, node + 1, pair->text, size);
    if (first < 0) {
        return false;
    }
    second = eo_json_string(tree, tree->nodes[node + 1].next, pair->text + first,
                            size - (size_t)first);
    pair->first = (size_t)first;
    pair->second = second < 0 ? 0 : (size_t)second;
    return second >= 0;
}

/* Lines such as "#version: 0.2" come from a merges.txt and are none. */
static bool is_comment(const struct eo_reader *reader, uint32_t node)
{
    const struct eo_json_node *found = eo_read_node(reader, node);

    return found->type == EO_JSON_STRING && found->end - found->begin >= 8 &&
           memcmp(reader->tree.text + found->begin, "#version", 8) == 0;
}

static int add_merge(const struct eo_reader *reader, uint32_t node, const struct pair *pair)
{
    const struct eo_vocabulary *vocabulary = &reader->tokenizer->vocabulary;
    struct eo_bpe *bpe = &reader->tokenizer->bpe;
    struct eo_merge *merge = &bpe->merges[bpe->merge_count];
    char key[MAX_KEY];

    merge->left = eo_vocabulary_find(vocabulary, pair->text, pair->first);
    merge->right = eo_vocabulary_find(vocabulary, pair->text + pair->first, pair->second);
    merge->merged = eo_vocabulary_find(vocabulary, pair->text, pair->first + pair->second);
    if (merge->left == EO_NO_TOKEN || merge->right == EO_NO_TOKEN ||
        merge->merged == EO_NO_TOKEN) {
        (void)snprintf(key, sizeof key, "model.merges[%u]", (unsigned)bpe->merge_count);
        return eo_read_damaged(reader, key, node,
                               "two tokens of model.vocab that make a third one");
    }
    return eo_bpe_index(bpe, bpe->merge_count++) == EO_OK
               ? EO_OK
               : eo_read_crowded(reader, "model.merges");
}

static int fill_merges(const struct eo_reader *reader, uint32_t merges, char *text, size_t size)
{
    const struct eo_json_node *nodes = reader->tree.nodes;
    bool legacy = nodes[merges].next > merges + 1 && nodes[merges + 1].type == EO_JSON_STRING;
    int result = EO_OK;

    for (uint32_t i = merges + 1; i < nodes[merges].next && result == EO_OK; i = nodes[i].next) {
        struct pair pair = {.text = text};
        if (legacy && is_comment(reader, i)) {
            continue;
        }
        if (!read_pair(reader, i, legacy, size, &pair)) {
            char key[MAX_KEY];
            (void)snprintf(key, sizeof key, "model.merges[%u]",
                           (unsigned)reader->tokenizer->bpe.merge_count);
            return eo_read_damaged(reader, key, i,
                           legacy ? "two tokens with one space between" : "two tokens");
        }
        result = add_merge(reader, i, &pair);
    }
    return result;
}

static int read_merges(const struct eo_reader *reader, uint32_t model)
{
    const struct eo_json_node *nodes = reader->tree.nodes;
    struct eo_bpe *bpe = &reader->tokenizer->bpe;
    uint32_t merges = eo_read_child(reader, model, "merges");
    uint32_t count = eo_json_length(&reader->tree, merges), slots = 16;
    size_t size = 1;
    char *text;
    int result;

    if (merges == 0 || nodes[merges].type != EO_JSON_ARRAY) {
        return eo_read_damaged(reader, "model.merges", merges, "an array");
    }
    for (uint32_t i = merges + 1; i < nodes[merges].next; i = nodes[i].next) {
        size_t bytes = nodes[i].end - nodes[i].begin + 1;
        size = bytes > size ? bytes : size;
    }
    while (slots / 2 < count) {
        slots *= 2;
    }
    text = malloc(size);
    bpe->merges = calloc((size_t)count + 1, sizeof *bpe->merges);
    bpe->slots = calloc(slots, sizeof *bpe->slots);
    bpe->mask = slots - 1;
    result = text == NULL || bpe->merges == NULL || bpe->slots == NULL
                 ? eo_read_no_memory(reader)
                 : fill_merges(reader, merges, text, size);
    free(text);
    return result;
}

int eo_read_bpe(const struct eo_reader *reader, uint32_t model)
{
    static const char *const keys[] = {"type",          "dropout",
                                       "unk_token",     "continuing_subword_prefix",
                                       "fuse_unk",      "end_of_word_suffix",
                                       "byte_fallback", "ignore_merges",
                                       "vocab",         "merges"};
    struct eo_bpe *bpe = &reader->tokenizer->bpe;
    int result = eo_read_keys(reader, model, "model", keys, LENGTH(keys));

    if (result == EO_OK) {
        result = eo_read_optional_bool(reader, model, "model", "fuse_unk", &bpe->fuse_unknown);
    }
    if (result == EO_OK) {
        result =
            eo_read_optional_bool(reader, model, "model", "ignore_merges", &bpe->ignore_merges);
    }
    if (result == EO_OK) {
        result =
            eo_read_optional_bool(reader, model, "model", "byte_fallback", &bpe->byte_fallback);
    }
    if (result == EO_OK) {
        result = check_bpe_options(reader, model);
    }
    if (result == EO_OK) {
        result = find_unknown(reader, model);
    }
    return result == EO_OK ? read_merges(reader, model) : result;
}
