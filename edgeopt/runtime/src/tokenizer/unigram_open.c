/* SPDX-FileCopyrightText: edgeopt contributors
 * SPDX-License-Identifier: Apache-2.0 */
#include "tokenizer/tokenizer_reader.h"

#include <math.h>
#include <stdio.h>
#include <stdlib.h>

#define UNKNOWN_PENALTY 10.0 /* K_UNK_PENALTY of the package's models/unigram/model.rs */
#define MAX_TOKEN_CHARS 256U /* what is looked for at each place of a text has to end somewhere */
#define MAX_STARTS (1U << 22)

/* ---- scores ---- */

#define MAX_DIGITS 40

/* A decimal: `count` digits, of which those that fit into 64 bits make `whole`. */
struct decimal {
    bool negative;
    char digits[MAX_DIGITS + 1];
    uint32_t count;
    int32_t exponent; /* of the digits */
    uint64_t whole;
    int32_t whole_exponent;
    bool full; /* no more digits fit into `whole` */
};

/* Source of what fits: parse_integer, parse_long_integer and parse_decimal of serde-rs/json,
 * src/de.rs. */
static void take_digit(struct decimal *decimal, char digit, bool fraction)
{
    uint64_t value = (uint64_t)(digit - '0');

    decimal->digits[decimal->count++] = digit;
    decimal->exponent -= fraction;
    if (decimal->full || decimal->whole > UINT64_MAX / 10 ||
        decimal->whole * 10 > UINT64_MAX - value) {
        decimal->full |= fraction;
        decimal->whole_exponent += !fraction;
        return;
    }
    decimal->whole = decimal->whole * 10 + value;
    decimal->whole_exponent -= fraction;
}

/* False if `node` is no number, or one of too many digits. */
static bool read_decimal(const struct eo_reader *reader, uint32_t node, struct decimal *decimal)
{
    const struct eo_json_node *found = eo_read_node(reader, node);
    const char *at = reader->tree.text + found->begin, *end = reader->tree.text + found->end;
    bool fraction = false, down = false;
    int32_t exponent = 0;

    if (node == 0 || found->type != EO_JSON_NUMBER) {
        return false;
    }
    decimal->negative = *at == '-';
    for (at += decimal->negative; at < end && *at != 'e' && *at != 'E'; at++) {
        if (*at == '.') {
            fraction = true;
        } else if (decimal->count == MAX_DIGITS) {
            return false;
        } else {
            take_digit(decimal, *at, fraction);
        }
    }
    for (at += at < end; at < end; at++) {
        if (*at == '-' || *at == '+') {
            down = *at == '-';
        } else if (exponent < 100000) {
            exponent = exponent * 10 + (*at - '0');
        }
    }
    decimal->exponent += down ? -exponent : exponent;
    decimal->whole_exponent += down ? -exponent : exponent;
    return true;
}

/* The nearest number to digits and an exponent: without a decimal sign, which is the locale's. */
static double nearest(const char *digits, int32_t exponent)
{
    char text[MAX_DIGITS + 16];

    (void)snprintf(text, sizeof text, "%se%d", digits, (int)exponent);
    return strtod(text, NULL);
}

/* What the package takes the number for: serde_json without its feature float_roundtrip divides a
 * rounded number by a rounded power of ten. Two ways through a word may differ by that much.
 * Source: f64_from_parts of serde-rs/json, src/de.rs. */
static double as_the_package(const struct decimal *decimal)
{
    double value = (double)decimal->whole;
    int32_t exponent = decimal->whole_exponent;

    for (; exponent < -308 && value != 0; exponent += 308) {
        value /= 1e308;
    }
    if (value == 0) {
        return 0;
    }
    return exponent < 0 ? value / nearest("1", -exponent) : value * nearest("1", exponent);
}

/* False if `node` is no number that is finite. */
static bool read_score(const struct eo_reader *reader, uint32_t node, double *score)
{
    struct decimal decimal = {0};

    if (!read_decimal(reader, node, &decimal)) {
        return false;
    }
    *score = reader->tokenizer->unigram.exact_scores ? nearest(decimal.digits, decimal.exponent)
                                                     : as_the_package(&decimal);
    *score = decimal.negative ? -*score : *score;
    return isfinite(*score);
}

/* ---- the vocabulary ---- */

static int add_token(const struct eo_reader *reader, uint32_t node, uint32_t id, uint32_t *starts)
{
    struct eo_tokenizer *tokenizer = reader->tokenizer;
    const struct eo_json_node *nodes = reader->tree.nodes;
    char key[MAX_KEY];
    const char *text;
    size_t bytes;
    uint32_t chars = 0;
    int result;

    (void)snprintf(key, sizeof key, "model.vocab[%u]", (unsigned)id);
    if (nodes[node].type != EO_JSON_ARRAY || eo_json_length(&reader->tree, node) != 2 ||
        nodes[node + 1].type != EO_JSON_STRING ||
        !read_score(reader, nodes[node + 1].next, &tokenizer->unigram.scores[id])) {
        return eo_read_damaged(reader, key, node, "a token and its score");
    }
    result = eo_vocabulary_replace(&tokenizer->vocabulary, &reader->tree, node + 1);
    if (result != EO_OK) {
        return eo_read_crowded(reader, "model.vocab");
    }
    text = eo_vocabulary_text(&tokenizer->vocabulary, id, &bytes);
    for (size_t i = 0; i < bytes; i++) {
        chars += (text[i] & 0xc0) != 0x80;
    }
    *starts += chars;
    return chars <= MAX_TOKEN_CHARS
               ? EO_OK
               : eo_fail(reader->failure, EO_EUNSUPPORTED, reader->where,
                         "%s has %u characters, supported: up to %u", key, (unsigned)chars,
                         (unsigned)MAX_TOKEN_CHARS);
}

static int fill_vocabulary(const struct eo_reader *reader, uint32_t vocab)
{
    const struct eo_json_node *nodes = reader->tree.nodes;
    struct eo_tokenizer *tokenizer = reader->tokenizer;
    struct eo_unigram *unigram = &tokenizer->unigram;
    double lowest = INFINITY;
    uint32_t id = 0, starts = 0, slots = 16;

    for (uint32_t i = vocab + 1; i < nodes[vocab].next; i = nodes[i].next, id++) {
        int result = add_token(reader, i, id, &starts);
        if (result != EO_OK) {
            return result;
        }
        lowest = unigram->scores[id] < lowest ? unigram->scores[id] : lowest;
    }
    unigram->unknown_score = lowest - UNKNOWN_PENALTY;
    while (slots < starts && slots < MAX_STARTS) {
        slots *= 2;
    }
    unigram->starts = calloc(slots, 1);
    unigram->starts_mask = slots - 1;
    if (unigram->starts == NULL) {
        return eo_read_no_memory(reader);
    }
    tokenizer->model_count = id;
    eo_unigram_index(tokenizer);
    return EO_OK;
}

static int read_list(const struct eo_reader *reader, uint32_t model, uint32_t added)
{
    const struct eo_json_node *nodes = reader->tree.nodes;
    struct eo_tokenizer *tokenizer = reader->tokenizer;
    uint32_t vocab = eo_read_child(reader, model, "vocab");
    uint32_t count = eo_json_length(&reader->tree, vocab);
    uint32_t added_count =
        eo_read_is_null(reader, added) ? 0 : eo_json_length(&reader->tree, added);
    size_t bytes = added_count == 0 ? 0 : nodes[added].end - nodes[added].begin;

    if (vocab == 0 || nodes[vocab].type != EO_JSON_ARRAY || count == 0) {
        return eo_read_damaged(reader, "model.vocab", vocab, "an array of tokens and their scores");
    }
    if ((uint64_t)count + added_count > EO_MAX_VOCABULARY) {
        return eo_fail(reader->failure, EO_EUNSUPPORTED, reader->where,
                       "model.vocab has %u tokens, supported: up to %u", (unsigned)count,
                       (unsigned)EO_MAX_VOCABULARY);
    }
    for (uint32_t i = vocab + 1; i < nodes[vocab].next; i = nodes[i].next) {
        bytes += nodes[i].end - nodes[i].begin;
    }
    tokenizer->unigram.scores = calloc(count, sizeof *tokenizer->unigram.scores);
    if (tokenizer->unigram.scores == NULL ||
        eo_vocabulary_open(&tokenizer->vocabulary, count + added_count, bytes) != EO_OK) {
        return eo_read_no_memory(reader);
    }
    return fill_vocabulary(reader, vocab);
}

int eo_read_unigram(const struct eo_reader *reader, uint32_t model, uint32_t added)
{
    static const char *const keys[] = {"type", "unk_id", "vocab", "byte_fallback",
                                       "exact_scores"};
    struct eo_tokenizer *tokenizer = reader->tokenizer;
    struct eo_unigram *unigram = &tokenizer->unigram;
    int result = eo_read_keys(reader, model, "model", keys, LENGTH(keys));

    if (result == EO_OK) { /* edgeopt writes it beside the scores that transformers has */
        result = eo_read_optional_bool(reader, model, "model", "exact_scores",
                                       &unigram->exact_scores);
    }
    if (result == EO_OK) {
        result = read_list(reader, model, added);
    }
    if (result == EO_OK) { /* without one, the package fails at texts with unknown characters */
        result = eo_read_integer(reader, model, "model", "unk_id",
                                 (int64_t)tokenizer->model_count - 1, &tokenizer->unknown);
    }
    if (result == EO_OK) {
        result = eo_read_optional_bool(reader, model, "model", "byte_fallback",
                                       &unigram->byte_fallback);
    }
    if (result == EO_OK) {
        eo_read_byte_ids(reader, unigram->byte_ids);
    }
    return result;
}
