/* SPDX-FileCopyrightText: edgeopt contributors
 * SPDX-License-Identifier: Apache-2.0 */
/* Characters on their way to the model, and the bytes of the text that each stands for. */
#ifndef EO_NORMALIZED_H
#define EO_NORMALIZED_H

#include <stdbool.h>
#include <stdint.h>

#define EO_CODE 0x1fffffU           /* of an element of `codes` */
#define EO_STARTS_WORD (1U << 31)   /* beside it, once the characters are split into words */

/* Characters `first` up to `first + count` of the arrays; up to `room` they may be used. */
struct eo_normalized {
    uint32_t *codes;
    uint32_t *begins;
    uint32_t *ends;
    uint32_t first;
    uint32_t count;
    uint32_t room;
    bool full; /* there was no room for one, which was left out */
};

/* Reads characters and writes others in their place, from the start of the arrays on: what was not
 * read yet is never written over. A written character stands for the bytes that the package gives
 * it: NormalizedString::transform of tokenizers/src/tokenizer/normalizer.rs. */
struct eo_rewriter {
    struct eo_normalized *text;
    uint32_t at; /* the next to read */
    uint32_t end;
    uint32_t begin; /* bytes of the one that was read last */
    uint32_t last;
};

/* `grows`: more may be written than was read at some place. */
struct eo_rewriter eo_rewrite(struct eo_normalized *text, bool grows);

/* Writes `code`. In the package's words the `change` is 1 for a character that is added, which
 * stands for the bytes of the one read last; 0 for one that replaces the next; -n for one that does
 * so and after which n more are gone. */
void eo_rewrite_put(struct eo_rewriter *rewriter, uint32_t code, int32_t change);

/* Reads `count` characters, which stay as they are. */
void eo_rewrite_keep(struct eo_rewriter *rewriter, uint32_t count);

/* Reads `count` characters, which are gone. */
void eo_rewrite_skip(struct eo_rewriter *rewriter, uint32_t count);

/* Writes `code` for the bytes begin..end. */
void eo_rewrite_put_bytes(struct eo_rewriter *rewriter, uint32_t code, uint32_t begin,
                          uint32_t end);

/* The code point that is `ahead` after the next; the caller knows that there is one. */
static inline uint32_t eo_rewrite_peek(const struct eo_rewriter *rewriter, uint32_t ahead)
{
    return rewriter->text->codes[rewriter->at + ahead];
}

static inline uint32_t eo_rewrite_left(const struct eo_rewriter *rewriter)
{
    return rewriter->end - rewriter->at;
}

#endif
