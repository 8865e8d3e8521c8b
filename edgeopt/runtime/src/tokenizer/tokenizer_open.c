/* SPDX-FileCopyrightText: edgeopt contributors
 * SPDX-License-Identifier: Apache-2.0 */
#include "tokenizer/tokenizer.h"

#include "tokenizer/tokenizer_reader.h"
#include "tokenizer/unicode.h"

#include <stdio.h>
#include <stdlib.h>

static int read_bert_normalizer(const struct eo_reader *reader, uint32_t node)
{
    static const char *const keys[] = {"type", "clean_text", "handle_chinese_chars",
                                       "strip_accents", "lowercase"};
    struct eo_bert_normalizer *normalizer = &reader->tokenizer->wordpiece.normalizer;
    const char *path = "normalizer";
    int result = eo_read_keys(reader, node, path, keys, LENGTH(keys));

    if (result == EO_OK) {
        result = eo_read_bool(reader, node, path, "clean_text", &normalizer->clean_text);
    }
    if (result == EO_OK) {
        result = eo_read_bool(reader, node, path, "handle_chinese_chars",
                           &normalizer->handle_chinese_chars);
    }
    if (result == EO_OK) {
        result = eo_read_bool(reader, node, path, "lowercase", &normalizer->lowercase);
    }
    normalizer->strip_accents = normalizer->lowercase;
    return result == EO_OK ? eo_read_optional_bool(reader, node, path, "strip_accents",
                                                &normalizer->strip_accents)
                           : result;
}

static int read_normalizer(const struct eo_reader *reader, uint32_t node)
{
    uint32_t type = eo_read_child(reader, node, "type");

    if (eo_read_is_null(reader, node)) {
        return EO_OK;
    }
    if (reader->tokenizer->kind == EO_BYTE_BPE) {
        return eo_read_unsupported(reader, "normalizer", node, "null with BPE");
    }
    if (eo_json_is(&reader->tree, type, "BertNormalizer")) {
        return read_bert_normalizer(reader, node);
    }
    if (eo_json_is(&reader->tree, type, "Lowercase")) {
        reader->tokenizer->wordpiece.normalizer.lowercase = true;
        return EO_OK;
    }
    return eo_read_unsupported(reader, "normalizer.type", type,
                               "BertNormalizer, Lowercase, or null");
}

static int read_byte_level(const struct eo_reader *reader, uint32_t node)
{
    static const char *const keys[] = {"type", "add_prefix_space", "trim_offsets", "use_regex"};
    struct eo_byte_bpe *bpe = &reader->tokenizer->bpe;
    const char *path = "pre_tokenizer";
    int result = eo_read_keys(reader, node, path, keys, LENGTH(keys));

    bpe->use_regex = true;
    if (result == EO_OK) {
        result = eo_read_bool(reader, node, path, "add_prefix_space", &bpe->add_prefix_space);
    }
    return result == EO_OK ? eo_read_optional_bool(reader, node, path, "use_regex", &bpe->use_regex)
                           : result;
}

static int read_pre_tokenizer(const struct eo_reader *reader, uint32_t node)
{
    uint32_t type = eo_read_child(reader, node, "type");
    const char *key = type == 0 ? "pre_tokenizer" : "pre_tokenizer.type";

    if (reader->tokenizer->kind == EO_WORDPIECE) {
        return eo_json_is(&reader->tree, type, "BertPreTokenizer")
                   ? EO_OK
                   : eo_read_unsupported(reader, key, type == 0 ? node : type,
                                 "BertPreTokenizer with WordPiece");
    }
    return eo_json_is(&reader->tree, type, "ByteLevel")
               ? read_byte_level(reader, node)
               : eo_read_unsupported(reader, key, type == 0 ? node : type, "ByteLevel with BPE");
}


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

/* Reads model.vocab, and sets room aside for the added tokens. */
static int read_vocabulary(const struct eo_reader *reader, uint32_t model, uint32_t added)
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
    if (!eo_read_is_null(reader, added) && nodes[added].type != EO_JSON_ARRAY) {
        return eo_read_damaged(reader, "added_tokens", added, "an array");
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


static int read_prefix(const struct eo_reader *reader, uint32_t model)
{
    struct eo_wordpiece *wordpiece = &reader->tokenizer->wordpiece;
    const char *key = "model.continuing_subword_prefix";
    uint32_t node = eo_read_child(reader, model, "continuing_subword_prefix");
    char *prefix;
    size_t size;

    if (node == 0 || eo_read_node(reader, node)->type != EO_JSON_STRING) {
        return eo_read_damaged(reader, key, node, "a string");
    }
    size = eo_read_node(reader, node)->end - eo_read_node(reader, node)->begin + 1;
    prefix = malloc(size);
    if (prefix == NULL) {
        return eo_read_no_memory(reader);
    }
    wordpiece->prefix = prefix;
    wordpiece->prefix_bytes = (uint32_t)eo_json_string(&reader->tree, node, prefix, size);
    wordpiece->prefix_hash = eo_hash(EO_HASH_START, prefix, wordpiece->prefix_bytes);
    return EO_OK;
}

static int read_wordpiece(const struct eo_reader *reader, uint32_t model)
{
    static const char *const keys[] = {"type", "unk_token", "continuing_subword_prefix",
                                       "max_input_chars_per_word", "vocab"};
    struct eo_wordpiece *wordpiece = &reader->tokenizer->wordpiece;
    uint32_t unknown = eo_read_child(reader, model, "unk_token");
    char text[256];
    int result = eo_read_keys(reader, model, "model", keys, LENGTH(keys));

    if (result == EO_OK) {
        result = read_prefix(reader, model);
    }
    if (result == EO_OK) {
        result = eo_read_integer(reader, model, "model", "max_input_chars_per_word", INT32_MAX,
                              &wordpiece->max_word_chars);
    }
    if (result != EO_OK) {
        return result;
    }
    if (wordpiece->max_word_chars > EO_MAX_WORD_CHARS) {
        return eo_fail(reader->failure, EO_EUNSUPPORTED, reader->where,
                       "model.max_input_chars_per_word is %u, supported: up to %u",
                       (unsigned)wordpiece->max_word_chars, (unsigned)EO_MAX_WORD_CHARS);
    }
    wordpiece->unknown = eo_read_token(reader, unknown, text, sizeof text);
    return wordpiece->unknown == EO_NO_TOKEN
               ? eo_read_damaged(reader, "model.unk_token", unknown, "a token of model.vocab")
               : EO_OK;
}

/* Old files leave model.type out; then its other keys tell. */
static int read_kind(const struct eo_reader *reader, uint32_t model)
{
    const struct eo_json_tree *tree = &reader->tree;
    uint32_t type = eo_read_child(reader, model, "type");

    if (model == 0 || tree->nodes[model].type != EO_JSON_OBJECT) {
        return eo_read_damaged(reader, "model", model, "an object");
    }
    if (eo_json_is(tree, type, "BPE") ||
        (type == 0 && eo_read_child(reader, model, "merges") != 0)) {
        reader->tokenizer->kind = EO_BYTE_BPE;
        return EO_OK;
    }
    if (eo_json_is(tree, type, "WordPiece") ||
        (type == 0 && eo_read_child(reader, model, "max_input_chars_per_word") != 0)) {
        reader->tokenizer->kind = EO_WORDPIECE;
        return EO_OK;
    }
    return eo_read_unsupported(reader, "model.type", type, "WordPiece and BPE");
}

/* Gives back what was set aside for the longest that the file could have meant. */
static void shrink(struct eo_tokenizer *tokenizer)
{
    struct eo_added_set *sets[] = {&tokenizer->added, &tokenizer->added_normalized};
    struct eo_vocabulary *vocabulary = &tokenizer->vocabulary;
    char *text = realloc(vocabulary->text, vocabulary->offsets[vocabulary->count]);

    vocabulary->text = text == NULL ? vocabulary->text : text;
    for (size_t i = 0; i < LENGTH(sets); i++) {
        size_t count = sets[i]->code_count;
        uint32_t *codes = count == 0 ? NULL : realloc(sets[i]->codes, count * sizeof *codes);
        sets[i]->codes = codes == NULL ? sets[i]->codes : codes;
    }
}

static int read_model(const struct eo_reader *reader, uint32_t model)
{
    return reader->tokenizer->kind == EO_WORDPIECE ? read_wordpiece(reader, model)
                                                   : eo_read_bpe(reader, model);
}

static int read_tokenizer(const struct eo_reader *reader)
{
    const struct eo_json_tree *tree = &reader->tree;
    uint32_t version = eo_json_member(tree, 0, "version");
    uint32_t model = eo_json_member(tree, 0, "model");
    uint32_t added = eo_json_member(tree, 0, "added_tokens");
    int result;

    if (version != 0 && !eo_json_is(tree, version, "1.0")) {
        return eo_read_unsupported(reader, "version", version, "\"1.0\"");
    }
    result = read_kind(reader, model);
    if (result == EO_OK) {
        result = read_normalizer(reader, eo_json_member(tree, 0, "normalizer"));
    }
    if (result == EO_OK) {
        result = read_pre_tokenizer(reader, eo_json_member(tree, 0, "pre_tokenizer"));
    }
    if (result == EO_OK) {
        result = read_vocabulary(reader, model, added);
    }
    if (result == EO_OK) {
        result = read_model(reader, model);
    }
    if (result == EO_OK) {
        result = eo_read_added(reader, added);
    }
    return result == EO_OK
               ? eo_read_post_processor(reader, eo_json_member(tree, 0, "post_processor"))
               : result;
}

int eo_tokenizer_open(const char *json, size_t bytes, const char *where,
                      struct eo_tokenizer **tokenizer, struct eo_failure *failure)
{
    struct eo_reader reader = {.where = where, .failure = failure};
    int result;

    *tokenizer = NULL;
    reader.tokenizer = calloc(1, sizeof *reader.tokenizer);
    if (reader.tokenizer == NULL) {
        return eo_read_no_memory(&reader);
    }
    result = eo_json_parse(json, bytes, where, &reader.tree, failure);
    if (result == EO_OK) {
        result = read_tokenizer(&reader);
    }
    eo_json_free(&reader.tree);
    if (result != EO_OK) {
        eo_tokenizer_close(reader.tokenizer);
        return result;
    }
    shrink(reader.tokenizer);
    *tokenizer = reader.tokenizer;
    return EO_OK;
}
