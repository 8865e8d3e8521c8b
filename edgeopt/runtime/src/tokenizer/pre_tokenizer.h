/* SPDX-FileCopyrightText: edgeopt contributors
 * SPDX-License-Identifier: Apache-2.0 */
/* The pre-tokenizers of a tokenizer, one after the other: they split a text into words. */
#ifndef EO_PRE_TOKENIZER_H
#define EO_PRE_TOKENIZER_H

#include "tokenizer/normalized.h"
#include "tokenizer/pattern.h"

/* What becomes of a match: SplitDelimiterBehavior of the package. */
enum eo_split_behavior {
    EO_REMOVED_MATCH,
    EO_ISOLATED,
    EO_MERGED_WITH_PREVIOUS,
    EO_MERGED_WITH_NEXT,
    EO_CONTIGUOUS,
};

enum eo_pre_tokenizer_kind {
    EO_SPLIT,
    EO_PREFIX, /* puts a character before each word that does not begin with it */
};

struct eo_pre_tokenizer_step {
    uint8_t kind;     /* enum eo_pre_tokenizer_kind */
    uint8_t behavior; /* of EO_SPLIT: enum eo_split_behavior */
    bool invert;      /* of EO_SPLIT: what does not match counts as a match, and the reverse */
    struct eo_pattern pattern;
    uint32_t prefix;     /* of EO_PREFIX */
    bool replaces_blank; /* of EO_PREFIX: takes the place of each U+0020 */
    bool prefixes;       /* of EO_PREFIX: puts it there at all */
    bool first_only;     /* of EO_PREFIX: only at the beginning of the text */
};

#define EO_MAX_PRE_TOKENIZERS 8

struct eo_pre_tokenizer {
    struct eo_pre_tokenizer_step steps[EO_MAX_PRE_TOKENIZERS];
    uint32_t count;
    uint32_t growth; /* the most characters for one of the text */
    uint32_t extra;  /* and as many beside */
};

/* Splits `text` in place: EO_STARTS_WORD is set where a word starts. text->room is growth * count +
 * extra, or more. */
void eo_pre_tokenize(const struct eo_pre_tokenizer *pre_tokenizer, struct eo_normalized *text);

#endif
