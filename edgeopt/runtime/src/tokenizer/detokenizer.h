/* SPDX-FileCopyrightText: edgeopt contributors
 * SPDX-License-Identifier: Apache-2.0 */
/* From tokens to text, as the decoder of a tokenizer.json says, a token at a time. */
#ifndef EO_DETOKENIZER_H
#define EO_DETOKENIZER_H

#include "tokenizer/tokenizer.h"

#include <stdbool.h>

/* Immutable once open; any number of threads may decode with it. */
struct eo_detokenizer;

/* Reads what stands under `decoder` and `added_tokens` in `json`, from which `tokenizer` was opened;
 * that must outlive it. EO_EUNSUPPORTED: another decoder than those of byte-level and SentencePiece's
 * models. */
int eo_detokenizer_open(const struct eo_tokenizer *tokenizer, const char *json, size_t bytes,
                        const char *where, struct eo_detokenizer **detokenizer,
                        struct eo_failure *failure);
void eo_detokenizer_close(struct eo_detokenizer *detokenizer); /* NULL is allowed */

/* A text that is being written. Zero it; `begun` if it goes on with one before it. */
struct eo_stream {
    bool begun;
    uint32_t held; /* bytes of a character that is not whole yet */
    char bytes[4];
};

/* What one token may add to a text, bytes. */
size_t eo_detokenizer_most(const struct eo_detokenizer *detokenizer);

/* Writes what token `id` adds to the text and returns its bytes: whole characters of UTF-8, U+FFFD
 * for what is none. Nothing comes of a special token, and of an id that is no token's. */
size_t eo_detokenizer_next(const struct eo_detokenizer *detokenizer, struct eo_stream *stream,
                           int32_t id, char *out);

/* Writes what is left at the end, up to 3 bytes. */
size_t eo_detokenizer_end(struct eo_stream *stream, char *out);

#endif
