/* SPDX-FileCopyrightText: edgeopt contributors
 * SPDX-License-Identifier: Apache-2.0 */
#include "tokenizer/tokenizer.h"
#include "tokenizer/tokenizer_reader.h"

#include <stdio.h>
#include <stdlib.h>
#include <string.h>

#define MAX_ADDED_CHARS 256U /* what is looked for at each place of a text has to end somewhere */
#define MAX_ADDED_BYTES (MAX_ADDED_CHARS * 4)

/* What is needed while added tokens are read. */
struct added_reader {
    uint8_t *seen; /* by id */
    struct eo_normalized normalized;
};

/* The id of the token with this content: its own in the vocabulary, or the next. */
static int check_added_id(const struct eo_reader *reader, uint32_t token, const char *path,
                          struct added_reader *state, uint32_t *id)
{
    struct eo_vocabulary *vocabulary = &reader->tokenizer->vocabulary;
    char key[MAX_KEY], expected[64];
    int64_t number;
    uint32_t content = eo_read_member(reader, token, path, "content", key);
    uint32_t next = vocabulary->count;
    size_t room = vocabulary->text_capacity - vocabulary->offsets[next];

    if (content == 0 || eo_read_node(reader, content)->type != EO_JSON_STRING ||
        eo_read_node(reader, content)->end == eo_read_node(reader, content)->begin) {
        return eo_read_damaged(reader, key, content, "a string that is not empty");
    }
    /* The end of the vocabulary's memory has room for the content, whether it is added or not. */
    *id = eo_read_token(reader, content, vocabulary->text + vocabulary->offsets[next], room);
    if (*id == EO_NO_TOKEN && reader->tokenizer->has_gaps) {
        /* The package gives it the number of tokens as its id, which may be another token's. */
        return eo_read_unsupported(reader, key, content,
                                   "tokens of model.vocab, as its ids have gaps");
    }
    if (*id == EO_NO_TOKEN) {
        *id = next;
        if (eo_vocabulary_add(vocabulary, &reader->tree, content) != EO_OK) {
            return eo_read_crowded(reader, "added_tokens");
        }
    }
    (void)snprintf(key, sizeof key, "%s.id", path);
    (void)snprintf(expected, sizeof expected, "%u", (unsigned)*id);
    content = eo_read_child(reader, token, "id");
    if (!eo_json_integer(&reader->tree, content, *id, *id, &number)) {
        return eo_read_damaged(reader, key, content, expected);
    }
    if (state->seen[*id] != 0) {
        return eo_fail(reader->failure, EO_EBUNDLE, reader->where, "added_tokens has %s twice",
                       eo_tokenizer_text(reader->tokenizer, (int32_t)*id));
    }
    state->seen[*id] = 1;
    return EO_OK;
}

/* Adds the code points of the token, normalised if they are looked for in normalised text. */
static int add_codes(const struct eo_reader *reader, struct added_reader *state, uint32_t id,
                     const char *path, struct eo_added_set *set, struct eo_added_token *token)
{
    static struct eo_normalizer none; /* if it were const, 6 kB of zeros would be in the file */
    size_t bytes;
    const char *text = eo_vocabulary_text(&reader->tokenizer->vocabulary, id, &bytes);
    struct eo_normalized *out = &state->normalized;

    out->full = bytes > MAX_ADDED_BYTES;
    if (!out->full) {
        eo_normalize(set == &reader->tokenizer->added ? &none : &reader->tokenizer->normalizer,
                     text, 0, (uint32_t)bytes, out);
    }
    if (out->full || out->count == 0 || out->count > MAX_ADDED_CHARS) {
        return eo_fail(reader->failure, EO_EUNSUPPORTED, reader->where,
                       "%s.content has %s%u characters once normalised, supported: 1 to %u", path,
                       out->full ? "more than " : "",
                       out->full ? (unsigned)MAX_ADDED_CHARS : (unsigned)out->count,
                       (unsigned)MAX_ADDED_CHARS);
    }
    token->first = set->code_count;
    token->count = out->count;
    memcpy(set->codes + set->code_count, out->codes + out->first,
           out->count * sizeof *out->codes);
    set->code_count += out->count;
    return EO_OK;
}

static int read_added_token(const struct eo_reader *reader, uint32_t node, const char *path,
                            struct added_reader *state)
{
    static const char *const keys[] = {"id",     "content", "single_word", "lstrip",
                                       "rstrip", "special", "normalized"};
    struct eo_tokenizer *tokenizer = reader->tokenizer;
    struct eo_added_token token = {0};
    struct eo_added_set *set;
    bool normalized = false, special = false;
    int result = eo_read_keys(reader, node, path, keys, LENGTH(keys));

    if (result == EO_OK) {
        result = eo_read_bool(reader, node, path, "single_word", &token.single_word);
    }
    if (result == EO_OK) {
        result = eo_read_bool(reader, node, path, "lstrip", &token.lstrip);
    }
    if (result == EO_OK) {
        result = eo_read_bool(reader, node, path, "rstrip", &token.rstrip);
    }
    if (result == EO_OK) {
        result = eo_read_bool(reader, node, path, "special", &special);
    }
    if (result == EO_OK) {
        result = eo_read_bool(reader, node, path, "normalized", &normalized);
    }
    if (result == EO_OK) {
        result = check_added_id(reader, node, path, state, &token.id);
    }
    if (result == EO_OK) {
        set = normalized ? &tokenizer->added_normalized : &tokenizer->added;
        result = add_codes(reader, state, token.id, path, set, &token);
        set->tokens[set->count] = token;
        set->count += result == EO_OK;
    }
    return result;
}

static int fill_added(const struct eo_reader *reader, uint32_t added, struct added_reader *state)
{
    const struct eo_json_node *nodes = reader->tree.nodes;
    struct eo_tokenizer *tokenizer = reader->tokenizer;
    uint32_t index = 0;

    for (uint32_t i = added + 1; i < nodes[added].next; i = nodes[i].next) {
        char path[40];
        int result;
        (void)snprintf(path, sizeof path, "added_tokens[%u]", (unsigned)index++);
        result = read_added_token(reader, i, path, state);
        if (result != EO_OK) {
            return result;
        }
    }
    if (!eo_added_sort(&tokenizer->added) || !eo_added_sort(&tokenizer->added_normalized)) {
        return eo_fail(reader->failure, EO_EUNSUPPORTED, reader->where,
                       "added_tokens has two that are the same once normalised");
    }
    return EO_OK;
}

static bool open_set(struct eo_added_set *set, uint32_t tokens, size_t codes)
{
    set->tokens = calloc(tokens, sizeof *set->tokens);
    set->codes = calloc(codes, sizeof *set->codes);
    return set->tokens != NULL && set->codes != NULL;
}

/* Code points that the tokens may have together. */
static size_t most_codes(const struct eo_reader *reader, uint32_t added,
                         const struct eo_normalizer *normalizer)
{
    const struct eo_json_node *nodes = reader->tree.nodes;
    size_t codes = 0;

    for (uint32_t i = added + 1; i < nodes[added].next; i = nodes[i].next) {
        size_t bytes = nodes[i].end - nodes[i].begin;
        size_t most = bytes * normalizer->growth + normalizer->extra;
        codes += most < MAX_ADDED_CHARS ? most : MAX_ADDED_CHARS;
    }
    return codes;
}

int eo_read_added(const struct eo_reader *reader, uint32_t added)
{
    struct eo_tokenizer *tokenizer = reader->tokenizer;
    uint32_t count = eo_read_is_null(reader, added) ? 0 : eo_json_length(&reader->tree, added);
    const struct eo_normalizer *normalizer = &tokenizer->normalizer;
    struct added_reader state = {0};
    size_t room = (size_t)MAX_ADDED_BYTES * normalizer->growth + normalizer->extra;
    size_t codes;
    int result;

    if (count == 0) {
        return EO_OK;
    }
    codes = most_codes(reader, added, normalizer);
    state.seen = calloc((size_t)tokenizer->model_count + count, 1);
    state.normalized.codes = calloc(room * 3, sizeof(uint32_t));
    state.normalized.begins = state.normalized.codes + room;
    state.normalized.ends = state.normalized.codes + 2 * room;
    state.normalized.room = (uint32_t)room;
    result = state.seen == NULL || state.normalized.codes == NULL ||
                     !open_set(&tokenizer->added, count, codes) ||
                     !open_set(&tokenizer->added_normalized, count, codes)
                 ? eo_read_no_memory(reader)
                 : fill_added(reader, added, &state);
    free(state.seen);
    free(state.normalized.codes);
    return result;
}
