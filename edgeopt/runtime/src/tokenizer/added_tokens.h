/* SPDX-FileCopyrightText: edgeopt contributors
 * SPDX-License-Identifier: Apache-2.0 */
/* Finding added tokens in a text before it is split into words. */
#ifndef EO_ADDED_TOKENS_H
#define EO_ADDED_TOKENS_H

#include <stdbool.h>
#include <stdint.h>

/* Characters begin..end, either UTF-8 or, if `codes` is not NULL, code points. */
struct eo_chars {
    const char *text;
    const uint32_t *codes;
    uint32_t begin;
    uint32_t end;
};

/* Reads the character at `*at` (< end) and moves on. */
uint32_t eo_chars_next(const struct eo_chars *chars, uint32_t *at);

struct eo_added_token {
    uint32_t id;
    uint32_t first; /* its code points in eo_added_set.codes */
    uint32_t count;
    bool single_word; /* not beside a character of a word */
    bool lstrip;      /* takes the white space before it */
    bool rstrip;
};

/* The tokens in the order of their code points; one of `codes` is in one token alone. */
struct eo_added_set {
    struct eo_added_token *tokens;
    uint32_t count;
    uint32_t *codes;
    uint32_t code_count;
    uint32_t first_codes[8]; /* bits of the lower 8 bits of every first code point */
};

/* To be called once the tokens are in; false if two are the same or one is empty. */
bool eo_added_sort(struct eo_added_set *set);

/* A part of a text: an added token, or what is between two of them (EO_NO_TOKEN). */
struct eo_part {
    uint32_t id;
    uint32_t begin;
    uint32_t end;
};

struct eo_added_scan {
    const struct eo_added_set *set;
    struct eo_chars chars;
    uint32_t at;   /* where to search on */
    uint32_t from; /* what is before it was handed out */
    struct eo_part pending;
};

struct eo_added_scan eo_added_scan(const struct eo_added_set *set, struct eo_chars chars);

/* The next part in the order of the text; false at the end. No text part is empty. */
bool eo_added_next(struct eo_added_scan *scan, struct eo_part *part);

#endif
