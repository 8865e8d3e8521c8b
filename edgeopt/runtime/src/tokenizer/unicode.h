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

/* What a code point is in a grapheme cluster (UAX #29): one of these, and EO_MARK. Regional
 * indicators are EO_IN_OTHER: no cluster with two of them, or one and a mark, is short enough to
 * matter to anybody here. */
enum eo_cluster {
    EO_IN_OTHER,
    EO_IN_CONTROL, /* and line ends */
    EO_IN_PREPEND,
    EO_IN_EXTEND,
    EO_IN_SPACING,
    EO_IN_JOINER,
    EO_IN_LINKER,    /* of consonants; extends as well */
    EO_IN_CONSONANT, /* that a linker joins to one before it */
    EO_IN_PICTOGRAPH,
    EO_IN_L, /* the parts and syllables of Hangul */
    EO_IN_V,
    EO_IN_T,
    EO_IN_LV,
    EO_IN_LVT,
};
#define EO_MARK 0x10U /* a mark, spacing ones included: the normalizer StripAccents drops it */
uint32_t eo_unicode_cluster(uint32_t code);

/* White_Space. */
bool eo_unicode_is_space(uint32_t code);

/* The CJK ideographs that BERT puts spaces around. */
bool eo_unicode_is_ideograph(uint32_t code);

/* Canonical_Combining_Class, 0..254. */
uint32_t eo_unicode_combining(uint32_t code);

/* The whole decomposition of `code`, canonical or that of NFKD; returns how many parts. */
#define EO_MAX_PARTS 18
uint32_t eo_unicode_decompose(uint32_t code, bool compatible, uint32_t parts[EO_MAX_PARTS]);

/* Goes through what two code points compose to: fills `first` and `second` and returns the composed
 * one, the next after `code`; 0 if there is none. Hangul is not among them. */
uint32_t eo_unicode_next_composed(uint32_t code, uint32_t *first, uint32_t *second);

/* The lower case of `code`; returns how many, 2 for U+0130 alone. */
#define EO_MAX_LOWER 2
uint32_t eo_unicode_lower(uint32_t code, uint32_t lower[EO_MAX_LOWER]);

#endif
