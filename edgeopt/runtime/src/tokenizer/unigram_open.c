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

/* A number as serde_json reads it without its feature float_roundtrip, which is not the nearest one
 * always: two ways through a word may differ by that much. Source: parse_integer, parse_decimal,
 * parse_exponent and f64_from_parts of serde-rs/json, src/de.rs. */
struct number {
    uint64_t digits;
    int32_t exponent;
    bool full; /* no more digits fit */
};

static void take_digit(struct number *number, uint32_t digit, bool fraction)
{
    if (number->full || number->digits > UINT64_MAX / 10 ||
        number->digits * 10 > UINT64_MAX - digit) {
        number->full |= fraction;
        number->exponent += !fraction;
        return;
    }
    number->digits = number->digits * 10 + digit;
    number->exponent -= fraction;
}

/* The decimal power; exact up to 10^22, from there on as the C library rounds it. */
static double power_of_ten(int32_t exponent)
{
    char text[16];
    double power = 1;

    if (exponent > 22) {
        (void)snprintf(text, sizeof text, "1e%d", (int)exponent);
        return strtod(text, NULL);
    }
    while (exponent-- > 0) {
        power *= 10;
    }
    return power;
}

static double scaled(uint64_t digits, int32_t exponent)
{
    double value = (double)digits;

    for (; exponent < -308 && value != 0; exponent += 308) {
        value /= 1e308;
    }
    if (value == 0) {
        return 0;
    }
    return exponent < 0    ? value / power_of_ten(-exponent)
           : exponent > 308 ? HUGE_VAL
                            : value * power_of_ten(exponent);
}

/* False where `node` is no number that is finite. */
static bool read_score(const struct eo_reader *reader, uint32_t node, double *score)
{
    const struct eo_json_node *found = eo_read_node(reader, node);
    const char *at = reader->tree.text + found->begin, *end = reader->tree.text + found->end;
    struct number number = {0};
    bool negative = found->type == EO_JSON_NUMBER && *at == '-', fraction = false, down = false;
    int32_t exponent = 0;

    if (node == 0 || found->type != EO_JSON_NUMBER) {
        return false;
    }
    for (at += negative; at < end && *at != 'e' && *at != 'E'; at++) {
        if (*at == '.') {
            fraction = true;
        } else {
            take_digit(&number, (uint32_t)(*at - '0'), fraction);
        }
    }
    for (at += at < end; at < end; at++) {
        if (*at == '-' || *at == '+') {
            down = *at == '-';
        } else if (exponent < 1000000) {
            exponent = exponent * 10 + (*at - '0');
        }
    }
    *score = scaled(number.digits, number.exponent + (down ? -exponent : exponent));
    *score = negative ? -*score : *score;
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
    static const char *const keys[] = {"type", "unk_id", "vocab", "byte_fallback"};
    struct eo_tokenizer *tokenizer = reader->tokenizer;
    struct eo_unigram *unigram = &tokenizer->unigram;
    int result = eo_read_keys(reader, model, "model", keys, LENGTH(keys));

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
