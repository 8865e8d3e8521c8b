/* SPDX-FileCopyrightText: edgeopt contributors
 * SPDX-License-Identifier: Apache-2.0 */
#include "tokenizer/added_tokens.h"

#include "base/utf8.h"
#include "tokenizer/unicode.h"
#include "tokenizer/vocabulary.h"

#include <stdlib.h>

uint32_t eo_chars_next(const struct eo_chars *chars, uint32_t *at)
{
    size_t next = *at;
    uint32_t code;

    if (chars->codes != NULL) {
        return chars->codes[(*at)++];
    }
    code = eo_utf8_next(chars->text, chars->end, &next);
    *at = (uint32_t)next;
    return code;
}

/* Reads the character that ends at `*at` (> floor) and moves before it. */
static uint32_t previous(const struct eo_chars *chars, uint32_t floor, uint32_t *at)
{
    uint32_t end = *at;

    if (chars->codes != NULL) {
        return chars->codes[--*at];
    }
    for (uint32_t back = 1; back <= 4 && back <= end - floor; back++) {
        size_t next = end - back;
        uint32_t code = eo_utf8_next(chars->text, end, &next);
        if (next == end && (code != EO_REPLACEMENT || back == 3)) {
            *at = end - back;
            return code;
        }
    }
    (*at)--;
    return EO_REPLACEMENT; /* of broken UTF-8: neither white space nor part of a word */
}

/* By code points, the shorter first if one starts with the other. */
static int compare(const struct eo_added_token *a, const struct eo_added_token *b,
                   const uint32_t *codes)
{
    for (uint32_t i = 0; i < a->count && i < b->count; i++) {
        uint32_t x = codes[a->first + i], y = codes[b->first + i];
        if (x != y) {
            return x < y ? -1 : 1;
        }
    }
    return a->count == b->count ? 0 : a->count < b->count ? -1 : 1;
}

static void sift_down(struct eo_added_set *set, uint32_t at, uint32_t count)
{
    for (uint32_t child; (child = 2 * at + 1) < count; at = child) {
        struct eo_added_token swap = set->tokens[at];
        if (child + 1 < count &&
            compare(&set->tokens[child], &set->tokens[child + 1], set->codes) < 0) {
            child++;
        }
        if (compare(&swap, &set->tokens[child], set->codes) >= 0) {
            return;
        }
        set->tokens[at] = set->tokens[child];
        set->tokens[child] = swap;
    }
}

/* A heap sort, since qsort passes the comparison no code points and may allocate. */
bool eo_added_sort(struct eo_added_set *set)
{
    for (uint32_t i = set->count / 2; i > 0; i--) {
        sift_down(set, i - 1, set->count);
    }
    for (uint32_t i = set->count; i > 1; i--) {
        struct eo_added_token swap = set->tokens[0];
        set->tokens[0] = set->tokens[i - 1];
        set->tokens[i - 1] = swap;
        sift_down(set, 0, i - 1);
    }
    for (uint32_t i = 0; i < set->count; i++) {
        const struct eo_added_token *token = &set->tokens[i];
        if (token->count == 0 || (i > 0 && compare(token - 1, token, set->codes) == 0)) {
            return false;
        }
        set->first_codes[set->codes[token->first] >> 5 & 7] |= 1U
                                                               << (set->codes[token->first] & 31);
    }
    return true;
}

/* The first of tokens low..high whose code point `depth` is not below `code`. */
static uint32_t lower_bound(const struct eo_added_set *set, uint32_t low, uint32_t high,
                            uint32_t depth, uint32_t code)
{
    while (low < high) {
        uint32_t middle = low + (high - low) / 2;
        if (set->codes[set->tokens[middle].first + depth] < code) {
            low = middle + 1;
        } else {
            high = middle;
        }
    }
    return low;
}

/* The longest token that starts at `at`, and its end; NULL if none does. */
static const struct eo_added_token *longest_at(const struct eo_added_set *set,
                                               const struct eo_chars *chars, uint32_t at,
                                               uint32_t *end)
{
    const struct eo_added_token *longest = NULL;
    uint32_t low = 0, high = set->count;

    for (uint32_t depth = 0; low < high && at < chars->end; depth++) {
        uint32_t code = eo_chars_next(chars, &at);
        if (depth == 0 && (set->first_codes[code >> 5 & 7] >> (code & 31) & 1) == 0) {
            return NULL;
        }
        low = lower_bound(set, low, high, depth, code);
        high = lower_bound(set, low, high, depth, code + 1);
        if (low < high && set->tokens[low].count == depth + 1) {
            longest = &set->tokens[low++];
            *end = at;
        }
    }
    return longest;
}

static bool beside_word(const struct eo_chars *chars, uint32_t begin, uint32_t end)
{
    return (begin > chars->begin &&
            (eo_unicode_flags(previous(chars, chars->begin, &begin)) & EO_WORD) != 0) ||
           (end < chars->end && (eo_unicode_flags(eo_chars_next(chars, &end)) & EO_WORD) != 0);
}

static uint32_t skip_spaces_back(const struct eo_chars *chars, uint32_t floor, uint32_t at)
{
    while (at > floor) {
        uint32_t before = at;
        if (!eo_unicode_is_space(previous(chars, floor, &before))) {
            break;
        }
        at = before;
    }
    return at;
}

static uint32_t skip_spaces(const struct eo_chars *chars, uint32_t at)
{
    while (at < chars->end) {
        uint32_t next = at;
        if (!eo_unicode_is_space(eo_chars_next(chars, &next))) {
            break;
        }
        at = next;
    }
    return at;
}

struct eo_added_scan eo_added_scan(const struct eo_added_set *set, struct eo_chars chars)
{
    return (struct eo_added_scan){.set = set,
                                  .chars = chars,
                                  .at = chars.begin,
                                  .from = chars.begin,
                                  .pending = {.id = EO_NO_TOKEN}};
}

/* Finds the next added token; searching goes on after its text, not after the space it takes. */
static bool find(struct eo_added_scan *scan, struct eo_part *found)
{
    const struct eo_chars *chars = &scan->chars;

    while (scan->set->count > 0 && scan->at < chars->end) {
        uint32_t begin = scan->at, end;
        const struct eo_added_token *token = longest_at(scan->set, chars, begin, &end);
        if (token == NULL) {
            (void)eo_chars_next(chars, &scan->at);
            continue;
        }
        scan->at = end;
        if (token->single_word && beside_word(chars, begin, end)) {
            continue;
        }
        if (token->lstrip) {
            begin = begin < scan->from ? scan->from : skip_spaces_back(chars, scan->from, begin);
        }
        if (token->rstrip) {
            /* Up to `from` the token before may have taken the space already. */
            end = skip_spaces(chars, end < scan->from ? scan->from : end);
        }
        *found = (struct eo_part){token->id, begin < end ? begin : end, end};
        return true;
    }
    return false;
}

bool eo_added_next(struct eo_added_scan *scan, struct eo_part *part)
{
    struct eo_part found = scan->pending;
    uint32_t from = scan->from;

    scan->pending.id = EO_NO_TOKEN;
    if (found.id == EO_NO_TOKEN && !find(scan, &found)) {
        scan->from = scan->chars.end;
        *part = (struct eo_part){EO_NO_TOKEN, from, scan->chars.end};
        return from < scan->chars.end;
    }
    if (from < found.begin) {
        scan->from = found.begin;
        scan->pending = found;
        *part = (struct eo_part){EO_NO_TOKEN, from, found.begin};
        return true;
    }
    scan->from = found.end;
    *part = found;
    return true;
}
