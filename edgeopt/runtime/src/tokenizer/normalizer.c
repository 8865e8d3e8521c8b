/* SPDX-FileCopyrightText: edgeopt contributors
 * SPDX-License-Identifier: Apache-2.0 */
#include "tokenizer/normalizer.h"

#include "base/utf8.h"
#include "tokenizer/unicode.h"

/* Source: do_nmt of the package's normalizers/unicode.rs. */
static bool nmt_drops(uint32_t code)
{
    return (code >= 0x01 && code <= 0x08) || code == 0x0b || (code >= 0x0e && code <= 0x1f) ||
           code == 0x7f || code == 0x8f || code == 0x9f;
}

static bool nmt_blanks(uint32_t code)
{
    return code == '\t' || code == '\n' || code == '\f' || code == '\r' || code == 0x1680 ||
           (code >= 0x200b && code <= 0x200f) || code == 0x2028 || code == 0x2029 ||
           code == 0x2581 || code == 0xfeff || code == EO_REPLACEMENT;
}

/* What `kind` makes of a character: `*code`, or nothing if it is false. */
static bool keep(uint8_t kind, uint32_t *code)
{
    if (*code >= 0x20 && *code < 0x7f) {
        return true;
    }
    switch (kind) {
    case EO_CLEAN:
        if (*code == EO_REPLACEMENT || (eo_unicode_flags(*code) & EO_REMOVED) != 0) {
            return false;
        }
        *code = eo_unicode_is_space(*code) ? ' ' : *code;
        return true;
    case EO_DROP_ACCENTS:
        return *code < 0x300 || (eo_unicode_flags(*code) & EO_ACCENT) == 0;
    case EO_DROP_MARKS:
        return *code < 0x300 || (eo_unicode_cluster(*code) & EO_MARK) == 0;
    default:
        *code = nmt_blanks(*code) ? ' ' : *code;
        return !nmt_drops(*code);
    }
}

static void filter(uint8_t kind, struct eo_normalized *text)
{
    struct eo_rewriter rewriter = eo_rewrite(text, false);

    while (eo_rewrite_left(&rewriter) > 0) {
        uint32_t code = eo_rewrite_peek(&rewriter, 0);
        if (keep(kind, &code)) {
            eo_rewrite_put(&rewriter, code, 0);
        } else {
            eo_rewrite_skip(&rewriter, 1);
        }
    }
}

static void space_ideographs(struct eo_normalized *text)
{
    struct eo_rewriter rewriter = eo_rewrite(text, true);

    while (eo_rewrite_left(&rewriter) > 0) {
        uint32_t code = eo_rewrite_peek(&rewriter, 0);
        bool spaced = eo_unicode_is_ideograph(code);
        eo_rewrite_put(&rewriter, spaced ? ' ' : code, 0);
        if (spaced) {
            eo_rewrite_put(&rewriter, code, 1);
            eo_rewrite_put(&rewriter, ' ', 1);
        }
    }
}

static void lowercase(struct eo_normalized *text)
{
    struct eo_rewriter rewriter = eo_rewrite(text, true);

    while (eo_rewrite_left(&rewriter) > 0) {
        uint32_t lower[EO_MAX_LOWER];
        uint32_t count = eo_unicode_lower(eo_rewrite_peek(&rewriter, 0), lower);
        for (uint32_t i = 0; i < count; i++) {
            eo_rewrite_put(&rewriter, lower[i], i > 0);
        }
    }
}

static void strip(const struct eo_normalizer_step *step, struct eo_normalized *text)
{
    while (step->left && text->count > 0 && eo_unicode_is_space(text->codes[text->first])) {
        text->first++;
        text->count--;
    }
    while (step->right && text->count > 0 &&
           eo_unicode_is_space(text->codes[text->first + text->count - 1])) {
        text->count--;
    }
}

static void replace(const struct eo_normalizer_step *step, struct eo_normalized *text)
{
    const struct eo_pattern *pattern = &step->pattern;
    bool grows = step->content_count > (pattern->kind == EO_LITERAL ? pattern->count : 1);
    struct eo_rewriter rewriter = eo_rewrite(text, grows);
    uint32_t start = rewriter.at, begin, stop;

    while (eo_pattern_find(pattern, text->codes, start, rewriter.at, rewriter.end, &begin, &stop)) {
        eo_rewrite_keep(&rewriter, begin - rewriter.at);
        eo_rewrite_skip(&rewriter, stop - begin);
        for (uint32_t i = 0; i < step->content_count; i++) {
            eo_rewrite_put(&rewriter, step->content[i], 1);
        }
    }
    eo_rewrite_keep(&rewriter, eo_rewrite_left(&rewriter));
}

static void prepend(const struct eo_normalizer_step *step, struct eo_normalized *text)
{
    struct eo_rewriter rewriter;
    uint32_t first;

    if (text->count == 0) {
        return;
    }
    rewriter = eo_rewrite(text, true);
    first = eo_rewrite_peek(&rewriter, 0);
    for (uint32_t i = 0; i < step->content_count; i++) {
        eo_rewrite_put(&rewriter, step->content[i], i > 0);
    }
    eo_rewrite_put(&rewriter, first, 1);
    eo_rewrite_keep(&rewriter, eo_rewrite_left(&rewriter));
}

static void decode(const char *text, uint32_t begin, uint32_t end, struct eo_normalized *out)
{
    out->first = out->count = 0;
    for (size_t at = begin; at < end;) {
        uint32_t first = (uint32_t)at;
        uint32_t code = eo_utf8_next(text, end, &at);
        if (out->count == out->room) {
            out->full = true;
            return;
        }
        out->codes[out->count] = code;
        out->begins[out->count] = first;
        out->ends[out->count++] = (uint32_t)at;
    }
}

void eo_normalize(const struct eo_normalizer *normalizer, const char *text, uint32_t begin,
                  uint32_t end, struct eo_normalized *out)
{
    decode(text, begin, end, out);
    for (uint32_t i = 0; i < normalizer->count; i++) {
        const struct eo_normalizer_step *step = &normalizer->steps[i];
        bool composes = step->kind == EO_NFC || step->kind == EO_NFKC;
        switch (step->kind) {
        case EO_SPACE_IDEOGRAPHS:
            space_ideographs(out);
            break;
        case EO_LOWERCASE:
            lowercase(out);
            break;
        case EO_NFC:
        case EO_NFD:
        case EO_NFKC:
        case EO_NFKD:
            eo_normal_form(out, step->kind == EO_NFKC || step->kind == EO_NFKD,
                           composes ? normalizer->compositions : NULL);
            break;
        case EO_STRIP:
            strip(step, out);
            break;
        case EO_REPLACE:
            replace(step, out);
            break;
        case EO_PREPEND:
            prepend(step, out);
            break;
        case EO_PRECOMPILED:
            eo_charsmap_apply(&normalizer->charsmap, out);
            break;
        default:
            filter(step->kind, out);
        }
    }
}
