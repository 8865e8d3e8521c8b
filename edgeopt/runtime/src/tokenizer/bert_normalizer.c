/* SPDX-FileCopyrightText: edgeopt contributors
 * SPDX-License-Identifier: Apache-2.0 */
#include "tokenizer/tokenizer_model.h"

#include "base/utf8.h"
#include "tokenizer/unicode.h"

#include <string.h>

/* Beside a code point while the marks after a base are put in order. */
#define DROPPED (1U << 31)  /* an accent */
#define INSERTED (1U << 30) /* a further part of the character before it */
#define CODE 0x1fffffU

/* Puts code points first.. in the order of their combining classes, those of one class as they
 * are. */
static void sort_marks(struct eo_normalized *out, uint32_t first)
{
    uint32_t places[257] = {0};
    uint32_t count = out->count - first;

    for (uint32_t i = 0; i < count; i++) {
        places[eo_unicode_combining(out->codes[first + i] & CODE) + 1]++;
    }
    for (uint32_t i = 1; i < 257; i++) {
        places[i] += places[i - 1];
    }
    for (uint32_t i = 0; i < count; i++) {
        uint32_t code = out->codes[first + i];
        out->reordered[places[eo_unicode_combining(code & CODE)]++] = code;
    }
    memcpy(out->codes + first, out->reordered, count * sizeof *out->codes);
}

/* The package hands the places in the text to the marks in their new order: each takes the next
 * one, an inserted part that of the mark before it. `sources` places stand at first.. . */
static void align_marks(struct eo_normalized *out, uint32_t first, uint32_t sources)
{
    for (uint32_t i = out->count; i > first; i--) {
        uint32_t source = first + sources;
        if ((out->codes[i - 1] & INSERTED) == 0) {
            sources--;
        }
        source--; /* wraps only before the first mark of a text, which is never inserted */
        out->begins[i - 1] = out->begins[source];
        out->ends[i - 1] = out->ends[source];
    }
}

/* Orders the marks from `first` on as NFD does, if that can be seen: accents go anyway. */
static void order_marks(struct eo_normalized *out, uint32_t first)
{
    uint32_t kept = 0, sources = 0;

    for (uint32_t i = first; i < out->count; i++) {
        kept += (out->codes[i] & DROPPED) == 0;
    }
    if (kept == 0 || out->count - first < 2) {
        return;
    }
    for (uint32_t i = first; i < out->count; i++) {
        if ((out->codes[i] & INSERTED) == 0) {
            out->begins[first + sources] = out->begins[i];
            out->ends[first + sources++] = out->ends[i];
        }
    }
    sort_marks(out, first);
    align_marks(out, first, sources);
}

static void drop_accents(struct eo_normalized *out, uint32_t first)
{
    uint32_t count = first;

    for (uint32_t i = first; i < out->count; i++) {
        if ((out->codes[i] & DROPPED) == 0) {
            out->codes[count] = out->codes[i] & CODE;
            out->begins[count] = out->begins[i];
            out->ends[count++] = out->ends[i];
        }
    }
    out->count = count;
}

static void push(struct eo_normalized *out, uint32_t code, uint32_t begin, uint32_t end)
{
    out->codes[out->count] = code;
    out->begins[out->count] = begin;
    out->ends[out->count++] = end;
}

static void push_lower(const struct eo_bert_normalizer *normalizer, struct eo_normalized *out,
                       uint32_t code, uint32_t begin, uint32_t end)
{
    uint32_t lower[EO_MAX_LOWER] = {code};
    uint32_t count = normalizer->lowercase ? eo_unicode_lower(code, lower) : 1;

    for (uint32_t i = 0; i < count; i++) {
        push(out, lower[i], begin, end);
    }
}

/* `marks` is where the marks began that may still change places, or the count if none are. */
static void push_stripped(const struct eo_bert_normalizer *normalizer, struct eo_normalized *out,
                          uint32_t code, uint32_t begin, uint32_t end, uint32_t *marks)
{
    uint32_t parts[EO_MAX_PARTS];
    uint32_t count = eo_unicode_strip(code, parts);

    if (count == 0) { /* an accent: kept until the marks around it are in order */
        parts[count++] = code | DROPPED;
    }
    for (uint32_t i = 0; i < count; i++) {
        if (parts[i] >= 0x300 && (eo_unicode_flags(parts[i] & CODE) & EO_NONSTARTER) != 0) {
            push(out, parts[i] | (i > 0 ? INSERTED : 0), begin, end);
            continue;
        }
        order_marks(out, *marks);
        drop_accents(out, *marks);
        if ((parts[i] & DROPPED) == 0) {
            push_lower(normalizer, out, parts[i], begin, end);
        }
        *marks = out->count;
    }
}

void eo_bert_normalize(const struct eo_bert_normalizer *normalizer, const char *text,
                       uint32_t begin, uint32_t end, struct eo_normalized *out)
{
    struct eo_chars chars = {.text = text, .begin = begin, .end = end};
    uint32_t marks = 0;

    out->count = 0;
    for (uint32_t at = begin; at < end;) {
        uint32_t first = at;
        uint32_t code = eo_chars_next(&chars, &at);
        bool spaced = normalizer->handle_chinese_chars && eo_unicode_is_ideograph(code);
        if (normalizer->clean_text) {
            if (code == EO_REPLACEMENT || (eo_unicode_flags(code) & EO_REMOVED) != 0) {
                continue;
            }
            code = eo_unicode_is_space(code) ? ' ' : code;
        }
        for (int i = 0; i < (spaced ? 3 : 1); i++) {
            uint32_t one = spaced && i != 1 ? ' ' : code;
            if (normalizer->strip_accents) {
                push_stripped(normalizer, out, one, first, at, &marks);
            } else {
                push_lower(normalizer, out, one, first, at);
            }
        }
    }
    if (normalizer->strip_accents) {
        order_marks(out, marks);
        drop_accents(out, marks);
    }
}
