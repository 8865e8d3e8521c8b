/* SPDX-FileCopyrightText: edgeopt contributors
 * SPDX-License-Identifier: Apache-2.0 */
#include "tokenizer/tokenizer.h"

#include "base/utf8.h"
#include "tokenizer/encode.h"
#include "tokenizer/unicode.h"

#include <stdlib.h>
#include <string.h>

void eo_tokenizer_close(struct eo_tokenizer *tokenizer)
{
    if (tokenizer == NULL) {
        return;
    }
    eo_vocabulary_close(&tokenizer->vocabulary);
    free(tokenizer->added.tokens);
    free(tokenizer->added.codes);
    free(tokenizer->added_normalized.tokens);
    free(tokenizer->added_normalized.codes);
    free(tokenizer->bpe.merges);
    free(tokenizer->bpe.slots);
    free(tokenizer->unigram.scores);
    free(tokenizer->unigram.starts);
    eo_charsmap_close(&tokenizer->normalizer.charsmap);
    eo_compositions_close(tokenizer->normalizer.compositions);
    eo_arena_free(&tokenizer->arena);
    free(tokenizer);
}

uint32_t eo_tokenizer_vocabulary_size(const struct eo_tokenizer *tokenizer)
{
    return tokenizer->vocabulary.count;
}

int32_t eo_tokenizer_id(const struct eo_tokenizer *tokenizer, const char *text)
{
    return (int32_t)eo_vocabulary_find(&tokenizer->vocabulary, text, strlen(text));
}

const char *eo_tokenizer_text(const struct eo_tokenizer *tokenizer, int32_t id)
{
    size_t bytes;

    return id < 0 ? NULL : eo_vocabulary_text(&tokenizer->vocabulary, (uint32_t)id, &bytes);
}

/* ---- offsets without the space around a token ---- */

/* Where the text is after `count` characters from `at` on, `end` at the most. */
static uint32_t advance(const char *text, uint32_t at, uint32_t end, uint32_t count)
{
    size_t next = at;

    while (count-- > 0 && next < end) {
        (void)eo_utf8_next(text, end, &next);
    }
    return (uint32_t)next;
}

static uint32_t count_chars(const char *text, uint32_t at, uint32_t end)
{
    uint32_t count = 0;

    for (size_t next = at; next < end; count++) {
        (void)eo_utf8_next(text, end, &next);
    }
    return count;
}

/* How many characters of white space a token begins and ends with, the byte-level one counted. */
static void count_spaces(const char *text, size_t bytes, uint32_t *leading, uint32_t *trailing)
{
    bool seen = false;

    *leading = *trailing = 0;
    for (size_t at = 0; at < bytes;) {
        uint32_t code = eo_utf8_next(text, bytes, &at);
        if (code == eo_byte_char(' ') || eo_unicode_is_space(code)) {
            *leading += !seen;
            ++*trailing;
        } else {
            seen = true;
            *trailing = 0;
        }
    }
}

/* As process_offsets of the package's ByteLevel does with token `index` of what is kept. */
static void trim(const struct eo_tokenizer *tokenizer, const char *text, uint32_t index,
                 struct eo_token *token)
{
    size_t bytes = token->end - token->begin;
    const char *value =
        token->added != 0
            ? text + token->begin
            : eo_vocabulary_text(&tokenizer->vocabulary, (uint32_t)token->id, &bytes);
    uint32_t leading, trailing, chars;

    count_spaces(value, bytes, &leading, &trailing);
    if (leading == 1 && tokenizer->trim_keeps_prefix_space && (index == 0 || token->begin == 0)) {
        leading = 0; /* the space is not in the text */
    }
    token->begin = advance(text, token->begin, token->end, leading);
    chars = count_chars(text, token->begin, token->end);
    if (trailing <= chars) {
        token->end = advance(text, token->begin, token->end, chars - trailing);
    } else if (count_chars(text, 0, advance(text, 0, token->end, trailing)) == trailing) {
        token->end = token->begin;
    }
}

/* ---- truncation ---- */

/* How many tokens of text and pair are kept. */
struct kept {
    uint32_t text;
    uint32_t pair;
};

/* As truncate_encodings of the package does for its LongestFirst. */
static struct kept keep_longest_first(struct kept have, uint32_t room)
{
    bool swap = have.text > have.pair;
    uint32_t low = swap ? have.pair : have.text, high;

    high = low > room ? low : room - low > low ? room - low : low;
    if ((uint64_t)low + high > room) {
        low = room / 2;
        high = low + room % 2;
    }
    return swap ? (struct kept){high, low} : (struct kept){low, high};
}

static int cut(const struct eo_encode_options *options, bool paired, uint32_t room,
                    struct kept *kept, struct eo_failure *failure)
{
    if ((uint64_t)kept->text + kept->pair <= room) {
        return EO_OK;
    }
    if (room == 0) {
        *kept = (struct kept){0, 0};
    } else if (options->truncation == EO_LONGEST_FIRST) {
        *kept = paired ? keep_longest_first(*kept, room) : (struct kept){room, 0};
    } else if (options->truncation == EO_ONLY_FIRST) {
        uint32_t pair = kept->pair;
        if (pair >= room) {
            return eo_fail(failure, EO_EINPUT, "text",
                           "has a second text of %u tokens, expected fewer than %u: only the first "
                           "text is cut, and nothing of it would be left",
                           (unsigned)pair, (unsigned)room);
        }
        kept->text = room - pair;
    } else if (!paired) {
        return eo_fail(failure, EO_EINPUT, "text",
                       "has %u tokens, expected up to %u: only the second text is cut, and there "
                       "is none",
                       (unsigned)kept->text, (unsigned)room);
    } else if (kept->text >= room) {
        return eo_fail(failure, EO_EINPUT, "text",
                       "has %u tokens, expected fewer than %u: only the second text is cut, and "
                       "nothing of it would be left",
                       (unsigned)kept->text, (unsigned)room);
    } else {
        kept->pair = room - kept->text;
    }
    return EO_OK;
}

/* ---- encoding ---- */

size_t eo_tokenizer_scratch_bytes(const struct eo_tokenizer *tokenizer, uint32_t max_text_bytes,
                                  uint32_t max_tokens)
{
    uint64_t encode = eo_encode_scratch(tokenizer, max_text_bytes);
    uint64_t tokens = 2 * (uint64_t)max_tokens * sizeof(struct eo_token) + sizeof(uint64_t);

    return tokens > SIZE_MAX || encode > SIZE_MAX - tokens ? 0 : (size_t)(encode + tokens);
}

/* Copies the kept tokens of one text to where the template has them. */
static uint32_t place(const struct eo_tokenizer *tokenizer, const char *text,
                      const struct eo_token *from, uint32_t count, uint8_t sequence,
                      uint8_t type_id, struct eo_token *to)
{
    for (uint32_t i = 0; i < count; i++) {
        to[i] = from[i];
        to[i].sequence = sequence;
        to[i].type_id = type_id;
        if (tokenizer->trim_offsets) {
            trim(tokenizer, text, i, &to[i]);
        }
    }
    return count;
}

static uint32_t fill(const struct eo_tokenizer *tokenizer, const struct eo_template *template,
                     const struct eo_text *text, const struct eo_sink *sinks, struct kept kept,
                     struct eo_token *tokens)
{
    uint32_t count = 0;

    for (uint32_t i = 0; i < template->count; i++) {
        const struct eo_template_piece *piece = &template->pieces[i];
        if (piece->kind == EO_PIECE_TEXT) {
            count += place(tokenizer, text->text, sinks[0].tokens, kept.text, 0, piece->type_id,
                           tokens + count);
        } else if (piece->kind == EO_PIECE_PAIR) {
            count += place(tokenizer, text->pair, sinks[1].tokens, kept.pair, 1, piece->type_id,
                           tokens + count);
        } else {
            tokens[count++] = (struct eo_token){.id = (int32_t)piece->id,
                                                .word = EO_NO_WORD,
                                                .type_id = piece->type_id,
                                                .special = 1};
        }
    }
    return count;
}

static int check_room(const struct eo_tokenizer *tokenizer, const struct eo_text *text,
                      const struct eo_encode_options *options, size_t scratch_bytes,
                      uint32_t template_tokens, struct eo_failure *failure)
{
    size_t pair_bytes = text->pair == NULL ? 0 : text->pair_bytes;
    size_t bytes = text->bytes > pair_bytes ? text->bytes : pair_bytes;
    size_t needed = bytes > UINT32_MAX - 1
                        ? 0
                        : eo_tokenizer_scratch_bytes(tokenizer, (uint32_t)bytes,
                                                     options->max_tokens);

    if (needed == 0 || needed > scratch_bytes) {
        return eo_fail(failure, EO_EINPUT, "text",
                       "has %zu bytes, more than there is memory set aside for", bytes);
    }
    if (options->max_tokens < template_tokens) {
        return eo_fail(failure, EO_EINPUT, "max_tokens",
                       "is %u, expected at least the %u that mark the ends of a text",
                       (unsigned)options->max_tokens, (unsigned)template_tokens);
    }
    return EO_OK;
}

int eo_tokenizer_encode(const struct eo_tokenizer *tokenizer, const struct eo_text *text,
                        const struct eo_encode_options *options, void *scratch,
                        size_t scratch_bytes, struct eo_token *tokens,
                        struct eo_token_counts *counts, struct eo_failure *failure)
{
    bool paired = text->pair != NULL;
    const struct eo_template *template = paired ? &tokenizer->pair : &tokenizer->single;
    uint32_t template_tokens = template->count - (paired ? 2 : 1);
    char *aligned = (char *)scratch + (8 - (uintptr_t)scratch % 8) % 8;
    size_t token_bytes = (size_t)options->max_tokens * 2 * sizeof(struct eo_token);
    struct eo_token *stored = (struct eo_token *)aligned;
    struct eo_sink sinks[2] = {
        {.tokens = stored, .capacity = options->max_tokens},
        {.tokens = stored + options->max_tokens,
         .capacity = options->max_tokens,
         .skip = options->pair_skip},
    };
    struct kept kept;
    int result =
        check_room(tokenizer, text, options, scratch_bytes, template_tokens, failure);

    if (result != EO_OK) {
        return result;
    }
    if (!eo_encode(tokenizer, text->text, (uint32_t)text->bytes, aligned + token_bytes,
                   &sinks[0]) ||
        (paired && !eo_encode(tokenizer, text->pair, (uint32_t)text->pair_bytes,
                              aligned + token_bytes, &sinks[1]))) {
        return eo_fail(failure, EO_EINPUT, "text",
                       "has more characters once normalised than there is memory set aside for");
    }
    kept.text = sinks[0].count;
    kept.pair = sinks[1].count > sinks[1].skip ? sinks[1].count - sinks[1].skip : 0;
    result = cut(options, paired, options->max_tokens - template_tokens, &kept, failure);
    if (result != EO_OK) {
        return result;
    }
    counts->count = fill(tokenizer, template, text, sinks, kept, tokens);
    counts->total = sinks[0].count + sinks[1].count + template_tokens;
    counts->pair = sinks[1].count;
    return EO_OK;
}
