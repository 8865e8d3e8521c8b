/* SPDX-FileCopyrightText: edgeopt contributors
 * SPDX-License-Identifier: Apache-2.0 */
#include "tokenizer/pattern.h"

#include "tokenizer/normalized.h"
#include "tokenizer/unicode.h"

#include <string.h>

#define SUFFIXES "'s|'t|'re|'ve|'m|'ll|'d"
#define GPT4_START "(?i:" SUFFIXES ")|[^\\r\\n\\p{L}\\p{N}]?\\p{L}+|"
#define CLIP SUFFIXES "|[\\p{L}]+|[\\p{N}]|[^\\s\\p{L}\\p{N}]+"
#define GPT4_END "| ?[^\\s\\p{L}\\p{N}]+[\\r\\n]*|\\s*[\\r\\n]+|\\s+(?!\\S)|\\s+"

static const uint32_t line_feed = '\n';

static const struct {
    const char *text;
    struct eo_pattern pattern;
} known[] = {
    /* GPT-2: encoder.py of openai/gpt-2 */
    {SUFFIXES "| ?\\p{L}+| ?\\p{N}+| ?[^\\s\\p{L}\\p{N}]+|\\s+(?!\\S)|\\s+", {.kind = EO_GPT2}},
    /* GPT-4 and Llama 3: cl100k_base of openai/tiktoken, tiktoken_ext/openai_public.py */
    {GPT4_START "\\p{N}{1,3}" GPT4_END, {.kind = EO_GPT4, .digits = 3}},
    /* Qwen2: transformers, models/qwen2/tokenization_qwen2.py */
    {GPT4_START "\\p{N}" GPT4_END, {.kind = EO_GPT4, .digits = 1}},
    /* CLIP: tokenizer.json of its checkpoints, and transformers, models/clip/tokenization_clip.py */
    {CLIP, {.kind = EO_CLIP}},
    {"<\\|startoftext\\|>|<\\|endoftext\\|>|" CLIP, {.kind = EO_CLIP, .marks = true}},
    {" {2,}", {.kind = EO_RUN, .class = EO_BLANK, .least = 2}},
    {" +", {.kind = EO_RUN, .class = EO_BLANK, .least = 1}},
    {"\\s+", {.kind = EO_RUN, .class = EO_WHITE, .least = 1}},
    {"\\s", {.kind = EO_RUN, .class = EO_WHITE, .least = 1, .single = true}},
    {"\\s{2,}", {.kind = EO_RUN, .class = EO_WHITE, .least = 2}},
    {"\\s{2,}|[\\n\\r\\t]", {.kind = EO_RUN, .class = EO_WHITE, .least = 2, .other = EO_LINE}},
    {"\\n", {.kind = EO_LITERAL, .codes = &line_feed, .count = 1}},
    {"[\\n\\r\\t]", {.kind = EO_RUN, .class = EO_LINE, .least = 1, .single = true}},
    {"\\A +| +\\z",
     {.kind = EO_RUN, .class = EO_BLANK, .least = 1, .at_start = true, .at_end = true}},
};

bool eo_pattern_known(const char *text, uint32_t bytes, struct eo_pattern *pattern)
{
    for (size_t i = 0; i < sizeof known / sizeof *known; i++) {
        if (strlen(known[i].text) == bytes && memcmp(known[i].text, text, bytes) == 0) {
            *pattern = known[i].pattern;
            return true;
        }
    }
    return false;
}

/* ---- runs and literals ---- */

static bool is_of(uint8_t class, uint32_t code)
{
    switch (class) {
    case EO_BLANK:
        return code == ' ';
    case EO_WHITE:
        return eo_unicode_is_space(code);
    case EO_LINE:
        return code == '\n' || code == '\r' || code == '\t';
    case EO_SIGN:
        return code < 0x80 ? code > ' ' && code < 0x7f && !(code >= '0' && code <= '9') &&
                                 !((code | 0x20) >= 'a' && (code | 0x20) <= 'z')
                           : (eo_unicode_flags(code) & EO_PUNCTUATION) != 0;
    default:
        return false;
    }
}

/* How far the run goes that starts at `at`; if it is no match, `at` is moved after it. */
static bool run_matches(const struct eo_pattern *pattern, const uint32_t *codes, uint32_t start,
                        uint32_t *at, uint32_t end, uint32_t *stop)
{
    uint32_t last = *at;

    while (last < end && !(pattern->single && last > *at) &&
           is_of(pattern->class, codes[last] & EO_CODE)) {
        last++;
    }
    *stop = last;
    if (last - *at >= pattern->least &&
        (!pattern->at_start || *at == start || (pattern->at_end && last == end))) {
        return true;
    }
    *stop = *at + 1;
    if (is_of(pattern->other, codes[*at] & EO_CODE)) {
        return true;
    }
    *at = last > *at ? last : *at + 1;
    return false;
}

static bool literal_matches(const struct eo_pattern *pattern, const uint32_t *codes, uint32_t at,
                            uint32_t end)
{
    if (pattern->count > end - at) {
        return false;
    }
    for (uint32_t i = 0; i < pattern->count; i++) {
        if ((codes[at + i] & EO_CODE) != pattern->codes[i]) {
            return false;
        }
    }
    return true;
}

/* ---- words ---- */

/* What the regular expressions tell apart. */
enum category { LETTER, NUMBER, SPACE, OTHER, NOTHING };

static enum category category_of(uint32_t code)
{
    uint32_t flags;

    if (code < 0x80) {
        return (code | 0x20) >= 'a' && (code | 0x20) <= 'z' ? LETTER
               : code >= '0' && code <= '9'                 ? NUMBER
               : eo_unicode_is_space(code)                  ? SPACE
                                                            : OTHER;
    }
    flags = eo_unicode_flags(code);
    return (flags & EO_LETTER) != 0    ? LETTER
           : (flags & EO_NUMBER) != 0  ? NUMBER
           : eo_unicode_is_space(code) ? SPACE
                                       : OTHER;
}

/* Codes up to `end`, which are being matched. */
struct view {
    const uint32_t *codes;
    uint32_t end;
};

static uint32_t code_at(struct view view, uint32_t at)
{
    return at < view.end ? view.codes[at] & EO_CODE : 0;
}

/* The category of the character at `at`; NOTHING at the end. */
static enum category look(struct view view, uint32_t at)
{
    return at < view.end ? category_of(view.codes[at] & EO_CODE) : NOTHING;
}

/* Where the run of `category` ends that goes on at `at`. */
static uint32_t skip(struct view view, uint32_t at, enum category category)
{
    while (look(view, at) == category) {
        at++;
    }
    return at;
}

static bool is_newline(uint32_t code)
{
    return code == '\r' || code == '\n';
}

/* A letter in lower case if `folds`; U+017F is an s to (?i:'s). */
static uint32_t fold(uint32_t code, bool folds)
{
    return !folds ? code : code >= 'A' && code <= 'Z' ? code + 32 : code == 0x17f ? 's' : code;
}

/* The end of 's, 't, 're, 've, 'm, 'll or 'd at the apostrophe `at`; `at` if none is. */
static uint32_t contraction(struct view view, uint32_t at, bool folds)
{
    static const char endings[][3] = {"s", "t", "re", "ve", "m", "ll", "d"};
    uint32_t first = fold(code_at(view, at + 1), folds);
    uint32_t second = fold(code_at(view, at + 2), folds);

    for (size_t i = 0; i < sizeof endings / sizeof *endings; i++) {
        bool one = endings[i][1] == '\0';
        if (first == (uint32_t)endings[i][0] && (one || second == (uint32_t)endings[i][1])) {
            return at + (one ? 2 : 3);
        }
    }
    return at;
}

/* The end of \s+(?!\S)|\s+ at `at`: all of a run at the end of the text, else all but the last, if
 * it is more than one. */
static uint32_t space_end(struct view view, uint32_t at)
{
    uint32_t last = skip(view, at, SPACE);

    return last == view.end || last - at == 1 ? last : last - 1;
}

/* The end of the match at `at` of
 *   's|'t|'re|'ve|'m|'ll|'d| ?\p{L}+| ?\p{N}+| ?[^\s\p{L}\p{N}]+|\s+(?!\S)|\s+ */
static uint32_t gpt2_end(struct view view, uint32_t at)
{
    uint32_t first = code_at(view, at) == ' ' ? at + 1 : at, end;
    enum category category = look(view, first);

    if (category == SPACE || category == NOTHING) {
        return space_end(view, at);
    }
    end = code_at(view, at) == '\'' ? contraction(view, at, false) : at;
    return end != at ? end : skip(view, first, category);
}

/* The end of \s*[\r\n]+|\s+(?!\S)|\s+ at `at`. */
static uint32_t line_end(struct view view, uint32_t at)
{
    uint32_t last = skip(view, at, SPACE);

    for (uint32_t i = last; i > at; i--) {
        if (is_newline(code_at(view, i - 1))) {
            return i;
        }
    }
    return space_end(view, at);
}

/* The end of the match at `at` of
 *   (?i:'s|'t|'re|'ve|'m|'ll|'d)|[^\r\n\p{L}\p{N}]?\p{L}+|\p{N}{1,3}| ?[^\s\p{L}\p{N}]+[\r\n]*|
 *   \s*[\r\n]+|\s+(?!\S)|\s+
 * with `digits` in the place of the 3. */
static uint32_t gpt4_end(struct view view, uint32_t at, uint32_t digits)
{
    uint32_t code = code_at(view, at), end;
    enum category category = look(view, at);

    if (code == '\'' && (end = contraction(view, at, true)) != at) {
        return end;
    }
    if (category == LETTER ||
        (category != NUMBER && !is_newline(code) && look(view, at + 1) == LETTER)) {
        return skip(view, at + 1, LETTER);
    }
    if (category == NUMBER) {
        end = at + 1;
        while (end - at < digits && look(view, end) == NUMBER) {
            end++;
        }
        return end;
    }
    if (category == OTHER || (code == ' ' && look(view, at + 1) == OTHER)) {
        end = skip(view, at + 1, OTHER);
        while (is_newline(code_at(view, end))) {
            end++;
        }
        return end;
    }
    return line_end(view, at);
}

/* The end of `text` at `at`; `at` if it does not stand there. */
static uint32_t mark_end(struct view view, uint32_t at, const char *text)
{
    uint32_t i = 0;

    while (text[i] != '\0' && code_at(view, at + i) == (uint32_t)text[i]) {
        i++;
    }
    return text[i] == '\0' ? at + i : at;
}

/* The next match from *begin on, which is moved to it, to the end if there is none, of
 *   <\|startoftext\|>|<\|endoftext\|>|'s|'t|'re|'ve|'m|'ll|'d|[\p{L}]+|[\p{N}]|[^\s\p{L}\p{N}]+
 * without the first two unless there are `marks`. */
static uint32_t clip_end(struct view view, uint32_t *begin, bool marks)
{
    uint32_t at = *begin = skip(view, *begin, SPACE), end = at;

    if (code_at(view, at) == '\'') {
        end = contraction(view, at, false);
    } else if (marks && code_at(view, at) == '<') {
        end = mark_end(view, at, "<|startoftext|>");
        end = end == at ? mark_end(view, at, "<|endoftext|>") : end;
    }
    return end != at || at == view.end ? end
           : look(view, at) == NUMBER  ? at + 1
                                       : skip(view, at, look(view, at));
}

/* The next \w+|[^\w\s]+ from *begin on; *begin is moved to it, to the end if there is none. */
static uint32_t word_end(struct view view, uint32_t *begin)
{
    uint32_t at;
    bool word;

    while (*begin < view.end && eo_unicode_is_space(code_at(view, *begin))) {
        ++*begin;
    }
    word = (eo_unicode_flags(code_at(view, *begin)) & EO_WORD) != 0;
    for (at = *begin; at < view.end; at++) {
        uint32_t code = code_at(view, at);
        if (eo_unicode_is_space(code) || ((eo_unicode_flags(code) & EO_WORD) != 0) != word) {
            break;
        }
    }
    return at;
}

bool eo_pattern_find(const struct eo_pattern *pattern, const uint32_t *codes, uint32_t start,
                     uint32_t from, uint32_t end, uint32_t *begin, uint32_t *stop)
{
    struct view view = {codes, end};

    *begin = from;
    switch (pattern->kind) {
    case EO_GPT2:
        *stop = gpt2_end(view, from);
        return from < end;
    case EO_GPT4:
        *stop = gpt4_end(view, from, pattern->digits);
        return from < end;
    case EO_CLIP:
        *stop = clip_end(view, begin, pattern->marks);
        return *begin < end;
    case EO_WORDS:
        *stop = word_end(view, begin);
        return *begin < end;
    case EO_RUN:
        while (*begin < end) {
            if (run_matches(pattern, codes, start, begin, end, stop)) {
                return true;
            }
        }
        return false;
    default:
        while (*begin < end && !literal_matches(pattern, codes, *begin, end)) {
            ++*begin;
        }
        *stop = *begin + pattern->count;
        return *begin < end;
    }
}
