/* SPDX-FileCopyrightText: edgeopt contributors
 * SPDX-License-Identifier: Apache-2.0 */
/* The normalizer `Precompiled`: the table of replacements of a SentencePiece model. */
#ifndef EO_CHARSMAP_H
#define EO_CHARSMAP_H

#include "tokenizer/normalized.h"

#include <stddef.h>

/* A double array over the bytes of what is replaced, and the replacements with a NUL after each.
 * Layout: sentencepiece's Builder::DecompileCharsMap (builder.cc), darts-clone's darts.h. */
struct eo_charsmap {
    uint8_t *bytes; /* as they were in the file */
    uint32_t units; /* of four bytes, of the double array; 0: there is no map */
    const uint8_t *texts;
    uint32_t text_bytes;
};

/* Decodes `base64`, of `size` bytes, which may be written over and is kept in `map`, for
 * eo_charsmap_close to free. False if it is damaged. */
bool eo_charsmap_open(struct eo_charsmap *map, char *base64, size_t size);
void eo_charsmap_close(struct eo_charsmap *map);

/* The most characters that stand for one byte of what was there; 0: no memory to find out. */
uint32_t eo_charsmap_growth(const struct eo_charsmap *map);

void eo_charsmap_apply(const struct eo_charsmap *map, struct eo_normalized *text);

#endif
