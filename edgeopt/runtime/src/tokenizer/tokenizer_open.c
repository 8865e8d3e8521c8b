/* SPDX-FileCopyrightText: edgeopt contributors
 * SPDX-License-Identifier: Apache-2.0 */
#include "tokenizer/tokenizer.h"

#include "tokenizer/tokenizer_reader.h"

#include <stdlib.h>

/* Old files leave model.type out; then its other keys tell. */
static int read_kind(const struct eo_reader *reader, uint32_t model)
{
    static const struct {
        const char *type;
        const char *key;
        int32_t kind;
    } kinds[] = {{"BPE", "merges", EO_BPE},
                 {"WordPiece", "max_input_chars_per_word", EO_WORDPIECE},
                 {"Unigram", "unk_id", EO_UNIGRAM},
                 {"WordLevel", "unk_token", EO_WORD_LEVEL}};
    uint32_t type = eo_read_child(reader, model, "type");

    if (model == 0 || reader->tree.nodes[model].type != EO_JSON_OBJECT) {
        return eo_read_damaged(reader, "model", model, "an object");
    }
    for (size_t i = 0; i < LENGTH(kinds); i++) {
        if (eo_json_is(&reader->tree, type, kinds[i].type) ||
            (type == 0 && eo_read_child(reader, model, kinds[i].key) != 0)) {
            reader->tokenizer->kind = kinds[i].kind;
            return EO_OK;
        }
    }
    return eo_read_unsupported(reader, "model.type", type,
                               "WordPiece, BPE, Unigram and WordLevel");
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

/* Reads the vocabulary, with room for the added tokens, and what the model does with it. */
static int read_model(const struct eo_reader *reader, uint32_t model, uint32_t added)
{
    int32_t kind = reader->tokenizer->kind;
    int result;

    if (!eo_read_is_null(reader, added) &&
        eo_read_node(reader, added)->type != EO_JSON_ARRAY) {
        return eo_read_damaged(reader, "added_tokens", added, "an array");
    }
    if (kind == EO_UNIGRAM) {
        return eo_read_unigram(reader, model, added);
    }
    result = eo_read_vocabulary(reader, model, added);
    if (result != EO_OK) {
        return result;
    }
    return kind == EO_BPE         ? eo_read_bpe(reader, model)
           : kind == EO_WORDPIECE ? eo_read_wordpiece(reader, model)
                                  : eo_read_word_level(reader, model);
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
        result = eo_read_normalizer(reader, eo_json_member(tree, 0, "normalizer"));
    }
    if (result == EO_OK) {
        result = eo_read_pre_tokenizer(reader, eo_json_member(tree, 0, "pre_tokenizer"));
    }
    if (result == EO_OK) {
        result = read_model(reader, model, added);
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
