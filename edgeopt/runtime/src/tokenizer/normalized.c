/* SPDX-FileCopyrightText: edgeopt contributors
 * SPDX-License-Identifier: Apache-2.0 */
#include "tokenizer/normalized.h"

#include <string.h>

static void move(struct eo_normalized *text, uint32_t to, uint32_t from, uint32_t count)
{
    if (to != from) {
        memmove(text->codes + to, text->codes + from, (size_t)count * sizeof *text->codes);
        memmove(text->begins + to, text->begins + from, (size_t)count * sizeof *text->begins);
        memmove(text->ends + to, text->ends + from, (size_t)count * sizeof *text->ends);
    }
}

struct eo_rewriter eo_rewrite(struct eo_normalized *text, bool grows)
{
    uint32_t at = grows ? text->room - text->count : text->first;
    struct eo_rewriter rewriter = {.text = text, .at = at, .end = at + text->count};

    move(text, at, text->first, text->count);
    rewriter.begin = rewriter.last = text->count > 0 ? text->begins[at] : 0;
    text->first = text->count = 0;
    return rewriter;
}

void eo_rewrite_put_bytes(struct eo_rewriter *rewriter, uint32_t code, uint32_t begin, uint32_t end)
{
    struct eo_normalized *text = rewriter->text;
    uint32_t limit = rewriter->at < rewriter->end ? rewriter->at : text->room;

    if (text->count >= limit) {
        text->full = true;
        return;
    }
    text->codes[text->count] = code;
    text->begins[text->count] = begin;
    text->ends[text->count++] = end;
}

void eo_rewrite_keep(struct eo_rewriter *rewriter, uint32_t count)
{
    struct eo_normalized *text = rewriter->text;
    uint32_t at = rewriter->at;

    eo_rewrite_skip(rewriter, count);
    move(text, text->count, at, rewriter->at - at);
    text->count += rewriter->at - at;
}

void eo_rewrite_skip(struct eo_rewriter *rewriter, uint32_t count)
{
    uint32_t left = eo_rewrite_left(rewriter);

    if (count == 0 || left == 0) {
        return;
    }
    rewriter->at += count < left ? count : left;
    rewriter->begin = rewriter->text->begins[rewriter->at - 1];
    rewriter->last = rewriter->text->ends[rewriter->at - 1];
}

void eo_rewrite_put(struct eo_rewriter *rewriter, uint32_t code, int32_t change)
{
    uint32_t begin = rewriter->begin, end = rewriter->last;

    if (change <= 0 && eo_rewrite_left(rewriter) > 0) {
        begin = rewriter->text->begins[rewriter->at];
        end = rewriter->text->ends[rewriter->at];
        eo_rewrite_skip(rewriter, 1 + (uint32_t)-change);
    }
    eo_rewrite_put_bytes(rewriter, code, begin, end);
}
