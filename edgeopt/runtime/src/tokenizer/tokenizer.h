/* SPDX-FileCopyrightText: edgeopt contributors
 * SPDX-License-Identifier: Apache-2.0 */
/* Reads a Hugging Face tokenizer.json and encodes as the Python package `tokenizers` does. */
#ifndef EO_TOKENIZER_H
#define EO_TOKENIZER_H

#include "base/failure.h"
#include "tokenizer/token.h"

/* Immutable once open; any number of threads may encode with it. */
struct eo_tokenizer;

/* Opens `json`, the text of a tokenizer.json, which is not needed afterwards; `where` names it in
 * failures. EO_EBUNDLE: it is damaged; EO_EUNSUPPORTED: of a kind that is not supported here. Its
 * `truncation` and `padding` are not read: the caller decides. */
int eo_tokenizer_open(const char *json, size_t bytes, const char *where,
                      struct eo_tokenizer **tokenizer, struct eo_failure *failure);
void eo_tokenizer_close(struct eo_tokenizer *tokenizer); /* NULL is allowed */

/* What is to be removed when text and pair have more tokens than fit. */
enum eo_truncation {
    EO_LONGEST_FIRST, /* of the longer one, then of both: the package's default */
    EO_ONLY_SECOND,   /* of the pair; EO_EINPUT if nothing of it would be left */
    EO_ONLY_FIRST,    /* of the text; the same */
};

struct eo_encode_options {
    uint32_t max_tokens; /* the template's included; as many as `tokens` holds */
    int32_t truncation;  /* enum eo_truncation */
    uint32_t pair_skip;  /* tokens of the pair to leave out at its start */
};

struct eo_token_counts {
    uint32_t count; /* in `tokens` */
    uint32_t total; /* without truncation, of text, pair (none left out) and template */
    uint32_t pair;  /* of the pair alone */
};

/* The memory that encode works in, for texts and pairs of up to `max_text_bytes` each. With a BPE,
 * or normalizers by which a text may grow, it is some 100 to 250 times the text, of which only what
 * the text and its longest word need is ever touched. 0: too large for this machine. */
size_t eo_tokenizer_scratch_bytes(const struct eo_tokenizer *tokenizer, uint32_t max_text_bytes,
                                  uint32_t max_tokens);

/* Encodes `text`, allocating nothing. Returns EO_OK, or EO_EINPUT if `scratch` is too small for
 * the text or `max_tokens` for the template, or if the text grows more than 18 times when it is
 * normalised, which no known normalizers make of any. */
int eo_tokenizer_encode(const struct eo_tokenizer *tokenizer, const struct eo_text *text,
                        const struct eo_encode_options *options, void *scratch,
                        size_t scratch_bytes, struct eo_token *tokens,
                        struct eo_token_counts *counts, struct eo_failure *failure);

/* Tokens of the vocabulary, the added ones included; ids are 0..size - 1. */
uint32_t eo_tokenizer_vocabulary_size(const struct eo_tokenizer *tokenizer);
int32_t eo_tokenizer_id(const struct eo_tokenizer *tokenizer, const char *text); /* -1: none */
const char *eo_tokenizer_text(const struct eo_tokenizer *tokenizer, int32_t id); /* NULL: none */

#endif
