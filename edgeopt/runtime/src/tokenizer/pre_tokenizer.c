/* SPDX-FileCopyrightText: edgeopt contributors
 * SPDX-License-Identifier: Apache-2.0 */
#include "tokenizer/pre_tokenizer.h"

/* Where the word ends that starts at the next character. */
static uint32_t word_end(const struct eo_rewriter *rewriter)
{
    uint32_t end = rewriter->at + 1;

    while (end < rewriter->end && (rewriter->text->codes[end] & EO_STARTS_WORD) == 0) {
        end++;
    }
    return end;
}

/* Whether a piece starts a word of its own after another one of the same word. */
static bool starts_word(uint8_t behavior, bool match, bool match_before)
{
    switch (behavior) {
    case EO_MERGED_WITH_PREVIOUS:
        return !match || match_before;
    case EO_MERGED_WITH_NEXT:
        return match || !match_before;
    case EO_CONTIGUOUS:
        return match != match_before;
    default:
        return true;
    }
}

/* Keeps what is read up to `end`, which is no more than was there. */
static void put_piece(struct eo_rewriter *rewriter, uint32_t end, bool starts)
{
    struct eo_normalized *text = rewriter->text;
    uint32_t at = text->count;

    eo_rewrite_keep(rewriter, end - rewriter->at);
    text->codes[at] = (text->codes[at] & EO_CODE) | (starts ? EO_STARTS_WORD : 0);
}

/* Splits the word at the next character into matches and what is between them. */
static void split_word(const struct eo_pre_tokenizer_step *step, struct eo_rewriter *rewriter)
{
    uint32_t start = rewriter->at, end = word_end(rewriter);
    uint32_t begin = start, stop = start; /* the match at hand, or the next */
    bool match_before = false;

    for (bool first = true; rewriter->at < end; first = false) {
        uint32_t piece_end;
        bool match;
        if (rewriter->at == stop &&
            !eo_pattern_find(&step->pattern, rewriter->text->codes, start, rewriter->at, end,
                             &begin, &stop)) {
            begin = stop = end;
        }
        piece_end = rewriter->at == begin ? stop : begin;
        match = (rewriter->at == begin) != step->invert;
        if (match && step->behavior == EO_REMOVED_MATCH) {
            rewriter->at = piece_end;
        } else {
            put_piece(rewriter, piece_end,
                      first || starts_word(step->behavior, match, match_before));
        }
        match_before = match;
    }
}

/* Puts the prefix before the word at the next character. */
static void prefix_word(const struct eo_pre_tokenizer_step *step, struct eo_rewriter *rewriter)
{
    const struct eo_normalized *text = rewriter->text;
    uint32_t end = word_end(rewriter);

    for (bool first = true; rewriter->at < end; first = false) {
        uint32_t at = rewriter->at++;
        uint32_t code = text->codes[at] & EO_CODE, begin = text->begins[at], last = text->ends[at];
        uint32_t start = first ? EO_STARTS_WORD : 0;
        if (code == ' ' && step->replaces_blank) {
            code = step->prefix;
        }
        if (first && step->prefixes && code != step->prefix &&
            (!step->first_only || begin == 0)) {
            eo_rewrite_put_bytes(rewriter, step->prefix | start, begin, last);
            start = 0;
        }
        eo_rewrite_put_bytes(rewriter, code | start, begin, last);
    }
}

void eo_pre_tokenize(const struct eo_pre_tokenizer *pre_tokenizer, struct eo_normalized *text)
{
    for (uint32_t i = text->first; i < text->first + text->count; i++) {
        text->codes[i] &= EO_CODE;
    }
    if (text->count > 0) {
        text->codes[text->first] |= EO_STARTS_WORD;
    }
    for (uint32_t i = 0; i < pre_tokenizer->count; i++) {
        const struct eo_pre_tokenizer_step *step = &pre_tokenizer->steps[i];
        struct eo_rewriter rewriter =
            eo_rewrite(text, step->kind == EO_PREFIX && step->prefixes);
        while (eo_rewrite_left(&rewriter) > 0) {
            if (step->kind == EO_SPLIT) {
                split_word(step, &rewriter);
            } else {
                prefix_word(step, &rewriter);
            }
        }
    }
}
