/* SPDX-FileCopyrightText: edgeopt contributors
 * SPDX-License-Identifier: Apache-2.0 */
/* What a text is searched for. The regular expressions of known tokenizers are known by their text;
 * there is no engine for others. */
#ifndef EO_PATTERN_H
#define EO_PATTERN_H

#include <stdbool.h>
#include <stdint.h>

enum eo_pattern_kind {
    EO_LITERAL,
    EO_RUN,
    EO_WORDS, /* \w+|[^\w\s]+ */
    EO_CLIP,
    EO_GPT2,  /* what its words are matches all that there is, as with the next */
    EO_GPT4,
};

enum eo_pattern_class {
    EO_NO_CLASS,
    EO_BLANK, /* U+0020 */
    EO_WHITE, /* \s */
    EO_LINE,  /* \n, \r and \t */
    EO_SIGN,  /* punctuation */
};

struct eo_pattern {
    uint8_t kind;  /* enum eo_pattern_kind */
    uint8_t class; /* of EO_RUN: enum eo_pattern_class; so many that they reach `least` */
    uint8_t least;
    bool single;    /* each character by itself */
    uint8_t other;  /* or one of these */
    bool at_start;  /* of the text; with at_end, at its start or its end */
    bool at_end;
    uint8_t digits; /* of EO_GPT4: the most that are one word */
    bool marks;     /* of EO_CLIP: the marks of a text's ends are one word */
    const uint32_t *codes; /* of EO_LITERAL */
    uint32_t count;
};

/* The pattern of the regular expression `text`; false if it is not known. */
bool eo_pattern_known(const char *text, uint32_t bytes, struct eo_pattern *pattern);

/* Finds the first match in codes from..end of a text that starts at `start`; false if none is. */
bool eo_pattern_find(const struct eo_pattern *pattern, const uint32_t *codes, uint32_t start,
                     uint32_t from, uint32_t end, uint32_t *begin, uint32_t *stop);

#endif
