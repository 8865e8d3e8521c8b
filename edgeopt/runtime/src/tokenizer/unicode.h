/* SPDX-FileCopyrightText: edgeopt contributors
 * SPDX-License-Identifier: Apache-2.0 */
/* Code points as the `tokenizers` package classes and maps them. */
#ifndef EO_UNICODE_H
#define EO_UNICODE_H

#include <stdbool.h>
#include <stddef.h>
#include <stdint.h>

/* Flags of a code point. The bits are those that tools/unicode-tables.py writes. */
enum {
    EO_REMOVED = 1 << 0,     /* control, format and private use: BERT's clean_text drops it */
    EO_PUNCTUATION = 1 << 1, /* to BERT's pre-tokenizer */
    EO_ACCENT = 1 << 2,      /* non-spacing mark: BERT's strip_accents drops it */
    EO_LETTER = 1 << 3,      /* \p{L} and */
    EO_NUMBER = 1 << 4,      /* \p{N} of the byte-level pre-tokenizer */
    EO_WORD = 1 << 5,        /* \w, beside a single_word added token */
    EO_NONSTARTER = 1 << 6,  /* NFD may move it: its combining class is not 0 */
};
uint32_t eo_unicode_flags(uint32_t code);

/* White_Space. */
bool eo_unicode_is_space(uint32_t code);

/* The CJK ideographs that BERT puts spaces around. */
bool eo_unicode_is_ideograph(uint32_t code);

/* Canonical_Combining_Class, 0..254. */
uint32_t eo_unicode_combining(uint32_t code);

/* The canonical decomposition of `code` less its accents; returns how many, 0 for an accent. */
#define EO_MAX_PARTS 3
uint32_t eo_unicode_strip(uint32_t code, uint32_t parts[EO_MAX_PARTS]);

/* The lower case of `code`; returns how many, 2 for U+0130 alone. */
#define EO_MAX_LOWER 2
uint32_t eo_unicode_lower(uint32_t code, uint32_t lower[EO_MAX_LOWER]);

#endif
