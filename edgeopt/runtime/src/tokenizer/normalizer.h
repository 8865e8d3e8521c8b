/* SPDX-FileCopyrightText: edgeopt contributors
 * SPDX-License-Identifier: Apache-2.0 */
/* The normalizers of a tokenizer, one after the other. */
#ifndef EO_NORMALIZER_H
#define EO_NORMALIZER_H

#include "tokenizer/charsmap.h"
#include "tokenizer/normal_form.h"
#include "tokenizer/pattern.h"

enum eo_normalizer_kind {
    EO_CLEAN,            /* BertNormalizer's clean_text */
    EO_SPACE_IDEOGRAPHS, /* its handle_chinese_chars */
    EO_DROP_ACCENTS,     /* its strip_accents, after NFD */
    EO_DROP_MARKS,       /* StripAccents */
    EO_LOWERCASE,
    EO_NMT,
    EO_NFC,
    EO_NFD,
    EO_NFKC,
    EO_NFKD,
    EO_STRIP,
    EO_REPLACE,
    EO_PREPEND,
    EO_PRECOMPILED,
};

struct eo_normalizer_step {
    uint8_t kind;              /* enum eo_normalizer_kind */
    uint8_t growth;            /* the most characters that it makes of one byte */
    bool left;                 /* of EO_STRIP */
    bool right;                /* of EO_STRIP */
    struct eo_pattern pattern; /* of EO_REPLACE */
    const uint32_t *content;   /* of EO_REPLACE and EO_PREPEND */
    uint32_t content_count;
};

#define EO_MAX_NORMALIZERS 128 /* the first SigLIP's has 68 */

struct eo_normalizer {
    struct eo_normalizer_step steps[EO_MAX_NORMALIZERS];
    uint32_t count;
    uint32_t growth; /* the most characters for one byte of the text; what grows more is refused */
    uint32_t extra;  /* and as many beside */
    struct eo_charsmap charsmap;
    struct eo_compositions *compositions;
};

/* Puts bytes begin..end of `text` into `out`, normalised; out->room is growth * bytes + extra, or
 * more. */
void eo_normalize(const struct eo_normalizer *normalizer, const char *text, uint32_t begin,
                  uint32_t end, struct eo_normalized *out);

#endif
