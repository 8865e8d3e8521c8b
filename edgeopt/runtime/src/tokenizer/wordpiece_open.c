/* SPDX-FileCopyrightText: edgeopt contributors
 * SPDX-License-Identifier: Apache-2.0 */
#include "tokenizer/tokenizer_reader.h"

static int read_prefix(const struct eo_reader *reader, uint32_t model)
{
    struct eo_wordpiece *wordpiece = &reader->tokenizer->wordpiece;
    char *prefix;
    int result = eo_read_text(reader, model, "model", "continuing_subword_prefix", &prefix,
                              &wordpiece->prefix_bytes);

    if (result == EO_OK) {
        wordpiece->prefix = prefix;
        wordpiece->prefix_hash = eo_hash(EO_HASH_START, prefix, wordpiece->prefix_bytes);
    }
    return result;
}

static int read_unknown(const struct eo_reader *reader, uint32_t model)
{
    uint32_t node = eo_read_child(reader, model, "unk_token");
    char text[256];

    reader->tokenizer->unknown = eo_read_token(reader, node, text, sizeof text);
    return reader->tokenizer->unknown == EO_NO_TOKEN
               ? eo_read_damaged(reader, "model.unk_token", node, "a token of model.vocab")
               : EO_OK;
}

int eo_read_wordpiece(const struct eo_reader *reader, uint32_t model)
{
    static const char *const keys[] = {"type", "unk_token", "continuing_subword_prefix",
                                       "max_input_chars_per_word", "vocab"};
    struct eo_wordpiece *wordpiece = &reader->tokenizer->wordpiece;
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
    return read_unknown(reader, model);
}

int eo_read_word_level(const struct eo_reader *reader, uint32_t model)
{
    static const char *const keys[] = {"type", "unk_token", "vocab"};
    int result = eo_read_keys(reader, model, "model", keys, LENGTH(keys));

    return result == EO_OK ? read_unknown(reader, model) : result;
}
