/* SPDX-FileCopyrightText: edgeopt contributors
 * SPDX-License-Identifier: Apache-2.0 */
/* Drives the tokenizer for test_tokenizer.py: little-endian 32-bit numbers and bytes on stdin and
 * stdout. Usage: tokenizer_driver encode TOKENIZER.json... | open | unicode
 * For each tokenizer stdin has how many texts it encodes, and then these. */
#include "tokenizer/tokenizer.h"
#include "tokenizer/unicode.h"

#include <stdio.h>
#include <stdlib.h>
#include <string.h>

#define MAX_TEXT (1U << 20)
#define MAX_TOKENS (3U * MAX_TEXT)

static bool get(uint32_t *value)
{
    return fread(value, sizeof *value, 1, stdin) == 1;
}

static void put(uint32_t value)
{
    (void)fwrite(&value, sizeof value, 1, stdout);
}

/* Exactly as large as the text, so that the sanitizer sees a byte read too far. */
static char *get_bytes(uint32_t bytes)
{
    char *text = malloc(bytes == 0 ? 1 : bytes);

    if (text == NULL || fread(text, 1, bytes, stdin) != bytes) {
        exit(3);
    }
    return text;
}

/* The message ends on a whole number, so that all that is written are numbers. */
static void put_failure(int result, const struct eo_failure *failure)
{
    size_t length = strlen(failure->message);

    put((uint32_t)result);
    put((uint32_t)failure->code);
    put((uint32_t)length);
    (void)fwrite(failure->message, 1, length, stdout);
    (void)fwrite("\0\0\0", 1, (4 - length % 4) % 4, stdout);
}

static void encode_one(const struct eo_tokenizer *tokenizer, const struct eo_text *text,
                       const struct eo_encode_options *options)
{
    uint32_t longest = (uint32_t)(text->bytes > text->pair_bytes ? text->bytes : text->pair_bytes);
    size_t bytes = eo_tokenizer_scratch_bytes(tokenizer, longest, options->max_tokens);
    void *scratch = malloc(bytes);
    struct eo_token *tokens = malloc((size_t)options->max_tokens * sizeof *tokens + 1);
    struct eo_token_counts counts;
    struct eo_failure failure;
    int result;

    if (scratch == NULL || tokens == NULL) {
        exit(3);
    }
    result = eo_tokenizer_encode(tokenizer, text, options, scratch, bytes, tokens, &counts,
                                 &failure);
    if (result != EO_OK) {
        put_failure(result, &failure);
    } else {
        put(0);
        put(counts.count);
        put(counts.total);
        put(counts.pair);
        for (uint32_t i = 0; i < counts.count; i++) {
            uint32_t row[] = {(uint32_t)tokens[i].id, tokens[i].begin,    tokens[i].end,
                              tokens[i].word,         tokens[i].sequence, tokens[i].type_id,
                              tokens[i].special};
            (void)fwrite(row, sizeof row, 1, stdout);
        }
    }
    free(scratch);
    free(tokens);
}

static int encode(const char *path)
{
    FILE *file = fopen(path, "rb");
    struct eo_tokenizer *tokenizer;
    struct eo_failure failure;
    char *json = malloc(MAX_TEXT * 16);
    size_t bytes = file == NULL || json == NULL ? 0 : fread(json, 1, MAX_TEXT * 16, file);
    uint32_t texts = 0;
    uint32_t head[5]; /* text bytes, pair bytes + 1 or 0, max_tokens, truncation, pair_skip */

    if (eo_tokenizer_open(json, bytes, path, &tokenizer, &failure) != EO_OK) {
        fprintf(stderr, "%s: %s\n", failure.where, failure.message);
        return 1;
    }
    free(json);
    (void)fclose(file);
    if (!get(&texts)) {
        return 3;
    }
    while (texts-- > 0) {
        if (fread(head, sizeof head, 1, stdin) != 1) {
            return 3;
        }
        char *first = get_bytes(head[0]);
        char *second = head[1] == 0 ? NULL : get_bytes(head[1] - 1);
        struct eo_text text = {first, head[0], second, head[1] == 0 ? 0 : head[1] - 1};
        struct eo_encode_options options = {head[2], (int32_t)head[3], head[4]};
        encode_one(tokenizer, &text, &options);
        free(first);
        free(second);
    }
    eo_tokenizer_close(tokenizer);
    return 0;
}

static int encode_each(char **paths)
{
    int result = 0;

    while (result == 0 && *paths != NULL) {
        result = encode(*paths++);
    }
    return result;
}

static int open_each(void)
{
    for (uint32_t bytes; get(&bytes);) {
        char *json = get_bytes(bytes);
        struct eo_tokenizer *tokenizer;
        struct eo_failure failure = {0};
        int result = eo_tokenizer_open(json, bytes, "tokenizer.json", &tokenizer, &failure);
        put_failure(result, &failure);
        eo_tokenizer_close(tokenizer);
        free(json);
    }
    return 0;
}

static int unicode(void)
{
    for (uint32_t code = 0; code < 0x110000; code++) {
        uint32_t lower[EO_MAX_LOWER] = {0};
        uint32_t row[5 + 2 * (1 + EO_MAX_PARTS)] = {0};
        uint32_t *at = row;

        *at++ = eo_unicode_flags(code) | (uint32_t)eo_unicode_is_space(code) << 8 |
                (uint32_t)eo_unicode_is_ideograph(code) << 9 | eo_unicode_combining(code) << 16;
        *at++ = eo_unicode_cluster(code);
        *at++ = eo_unicode_lower(code, lower);
        *at++ = lower[0];
        *at++ = row[2] > 1 ? lower[1] : 0;
        for (int compatible = 0; compatible < 2; compatible++) {
            uint32_t parts[EO_MAX_PARTS] = {0};
            *at++ = eo_unicode_decompose(code, compatible != 0, parts);
            memcpy(at, parts, sizeof parts);
            at += EO_MAX_PARTS;
        }
        (void)fwrite(row, sizeof row, 1, stdout);
    }
    return 0;
}

int main(int argc, char **argv)
{
    int result = argc >= 3 && strcmp(argv[1], "encode") == 0    ? encode_each(argv + 2)
                 : argc == 2 && strcmp(argv[1], "open") == 0    ? open_each()
                 : argc == 2 && strcmp(argv[1], "unicode") == 0 ? unicode()
                                                                : 2;

    return fflush(stdout) == 0 ? result : 3;
}
