/* SPDX-FileCopyrightText: edgeopt contributors
 * SPDX-License-Identifier: Apache-2.0 */
#include "tokenizer/normal_form.h"

#include "tokenizer/unicode.h"

#include <stdlib.h>
#include <string.h>

#define SLOTS 2048U /* for some 940 pairs */

/* Beside a code point while a text is worked on: 1 - change, in the words of eo_rewrite_put. */
#define CHANGE_SHIFT 21
#define REPLACES (1U << CHANGE_SHIFT)

struct composition {
    uint32_t first;
    uint32_t second;
    uint32_t composed; /* 0: a free slot */
};

struct eo_compositions {
    struct composition slots[SLOTS];
};

/* The slot of the pair, or the free one where it would be. */
static uint32_t slot_of(const struct eo_compositions *compositions, uint32_t first, uint32_t second)
{
    uint32_t place = (first * 0x9e3779b1U ^ second * 0x85ebca6bU) >> 16;

    for (;; place++) {
        const struct composition *slot = &compositions->slots[place % SLOTS];
        if (slot->composed == 0 || (slot->first == first && slot->second == second)) {
            return place % SLOTS;
        }
    }
}

struct eo_compositions *eo_compositions_open(void)
{
    struct eo_compositions *compositions = calloc(1, sizeof *compositions);
    uint32_t code = 0, first, second;

    while (compositions != NULL && (code = eo_unicode_next_composed(code, &first, &second)) != 0) {
        compositions->slots[slot_of(compositions, first, second)] =
            (struct composition){first, second, code};
    }
    return compositions;
}

void eo_compositions_close(struct eo_compositions *compositions)
{
    free(compositions);
}

/* Source: The Unicode Standard, section 3.12, Hangul syllable composition. 0: none. */
static uint32_t compose(const struct eo_compositions *compositions, uint32_t first, uint32_t second)
{
    if (first >= 0x1100 && first < 0x1113 && second >= 0x1161 && second < 0x1176) {
        return 0xac00 + ((first - 0x1100) * 21 + second - 0x1161) * 28;
    }
    if (first >= 0xac00 && first < 0xd7a4 && (first - 0xac00) % 28 == 0 && second > 0x11a7 &&
        second < 0x11c3) {
        return first + second - 0x11a7;
    }
    return compositions->slots[slot_of(compositions, first, second)].composed;
}

/* Puts codes first..end in the order of their combining classes, those of one class as they are.
 * `spare` has room for `room` of them; false if that is too little. */
static bool sort_marks(uint32_t *codes, uint32_t first, uint32_t end, uint32_t *spare,
                       uint32_t room)
{
    uint32_t places[257] = {0};

    if (end - first < 2) {
        return true;
    }
    if (end - first > room) {
        return false;
    }
    for (uint32_t i = first; i < end; i++) {
        places[eo_unicode_combining(codes[i] & EO_CODE) + 1]++;
    }
    for (uint32_t i = 1; i < 257; i++) {
        places[i] += places[i - 1];
    }
    for (uint32_t i = first; i < end; i++) {
        spare[places[eo_unicode_combining(codes[i] & EO_CODE)]++] = codes[i];
    }
    memcpy(codes + first, spare, (end - first) * sizeof *codes);
    return true;
}

/* Writes the decomposed text, marks in order, each code point with its change, to the start of
 * `codes`; returns how many. The places in the text stay where they are, and what is before them in
 * `begins` is free. */
static uint32_t decompose(struct eo_rewriter *rewriter, bool compatible)
{
    struct eo_normalized *text = rewriter->text;
    uint32_t count = 0, marks = 0; /* where the marks began that may still change places */
    bool fits = true;

    for (uint32_t at = rewriter->at; at < rewriter->end && fits; at++) {
        uint32_t parts[EO_MAX_PARTS];
        uint32_t part_count = eo_unicode_decompose(text->codes[at], compatible, parts);
        for (uint32_t i = 0; i < part_count && fits; i++) {
            bool moves =
                parts[i] >= 0x300 && (eo_unicode_flags(parts[i]) & EO_NONSTARTER) != 0;
            fits = count <= at && (moves || sort_marks(text->codes, marks, count, text->begins,
                                                       rewriter->at));
            if (fits) {
                text->codes[count++] = parts[i] | (i == 0 ? REPLACES : 0);
                marks = moves ? marks : count;
            }
        }
    }
    fits = fits && sort_marks(text->codes, marks, count, text->begins, rewriter->at);
    text->full |= !fits;
    return count;
}

/* Composes `count` code points in place; returns how many are left. Each takes with it the change
 * of what it was composed with: Recompositions of the crate unicode-normalization-alignments. */
static uint32_t recompose(uint32_t *codes, uint32_t count,
                          const struct eo_compositions *compositions)
{
    uint32_t kept = 0, starter = UINT32_MAX, last_class = 0;

    for (uint32_t i = 0; i < count; i++) {
        uint32_t class = eo_unicode_combining(codes[i] & EO_CODE);
        /* Beside the starter, or after marks of lower classes alone. */
        if (starter != UINT32_MAX && (kept == starter + 1 || last_class < class)) {
            uint32_t composed =
                compose(compositions, codes[starter] & EO_CODE, codes[i] & EO_CODE);
            uint32_t gone = (codes[starter] >> CHANGE_SHIFT) + (codes[i] >> CHANGE_SHIFT);
            if (composed != 0) { /* of which four follow each other at most */
                codes[starter] = composed | gone << CHANGE_SHIFT;
                continue;
            }
        }
        if (class == 0) {
            starter = kept;
        }
        last_class = class;
        codes[kept++] = codes[i];
    }
    return kept;
}

/* The lowest code point that the form may change, or that may compose with one before it. */
static uint32_t lowest_changed(bool compatible, bool composes)
{
    return compatible ? 0xa0 : composes ? 0x300 : 0xc0;
}

void eo_normal_form(struct eo_normalized *text, bool compatible,
                    const struct eo_compositions *compositions)
{
    uint32_t limit = lowest_changed(compatible, compositions != NULL), at = text->first;
    uint32_t end = text->first + text->count, count;
    struct eo_rewriter rewriter;

    while (at < end && text->codes[at] < limit) {
        at++;
    }
    if (at == end) {
        return;
    }
    rewriter = eo_rewrite(text, true);
    count = decompose(&rewriter, compatible);
    if (compositions != NULL) {
        count = recompose(text->codes, count, compositions);
    }
    for (uint32_t i = 0; i < count; i++) {
        eo_rewrite_put(&rewriter, text->codes[i] & EO_CODE,
                       1 - (int32_t)(text->codes[i] >> CHANGE_SHIFT));
    }
}
