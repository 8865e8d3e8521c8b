/* SPDX-FileCopyrightText: edgeopt contributors
 * SPDX-License-Identifier: Apache-2.0 */
/* The likeliest way through a word by tokens with scores: encode_optimized and tokenize of the
 * package's models/unigram/model.rs, after EncodeOptimized of sentencepiece's unigram_model.cc. */
#include "tokenizer/tokenizer_model.h"

#include "base/utf8.h"

/* `starts` tells by the hash of some text: the characters of the longest token that starts with it
 * (MOST: or more), and whether there is such a token. It may be wrong if hashes fall together,
 * but only for more: what it tells of is looked up in the vocabulary. */
#define IS_TOKEN 0x80U
#define MOST 0x7fU

/* The best way to the end of a character. */
struct node {
    double score;
    uint32_t from; /* the node before it */
    uint32_t id;
    uint32_t bytes;  /* of the word's text up to here */
    uint32_t unused; /* to a multiple of 8 */
};

struct word {
    const struct eo_tokenizer *tokenizer;
    const struct eo_word *from;
    struct node *nodes; /* one more than characters */
    char *text;
};

static uint8_t *start_of(const struct eo_unigram *unigram, uint32_t hash)
{
    hash = (hash ^ hash >> 15) * 0x2c1b3c6dU;
    return &unigram->starts[(hash ^ hash >> 16) & unigram->starts_mask];
}

static void index_token(struct eo_unigram *unigram, const char *text, size_t bytes)
{
    uint32_t chars = 0, hash = EO_HASH_START;

    for (size_t i = 0; i < bytes; i++) {
        chars += (text[i] & 0xc0) != 0x80;
    }
    chars = chars < MOST ? chars : MOST;
    for (size_t at = 0; at < bytes;) {
        size_t before = at;
        uint8_t *start, most;
        (void)eo_utf8_next(text, bytes, &at);
        hash = eo_hash(hash, text + before, at - before);
        start = start_of(unigram, hash);
        most = *start & MOST;
        *start = (uint8_t)((*start & IS_TOKEN) | (chars > most ? chars : most) |
                           (at == bytes ? IS_TOKEN : 0));
    }
}

void eo_unigram_index(struct eo_tokenizer *tokenizer)
{
    for (uint32_t id = 0; id < tokenizer->model_count; id++) {
        size_t bytes;
        const char *text = eo_vocabulary_text(&tokenizer->vocabulary, id, &bytes);
        index_token(&tokenizer->unigram, text, bytes);
    }
}

static void reach(struct node *to, double score, uint32_t from, uint32_t id)
{
    if (to->id == EO_NO_TOKEN || score > to->score) {
        to->score = score;
        to->from = from;
        to->id = id;
    }
}

/* Goes on from node `at` with each token that starts there. */
static void step(const struct word *word, uint32_t at)
{
    const struct eo_tokenizer *tokenizer = word->tokenizer;
    const struct eo_unigram *unigram = &tokenizer->unigram;
    struct node *nodes = word->nodes;
    const char *text = word->text + nodes[at].bytes;
    uint32_t hash = EO_HASH_START, done = 0;
    bool single = false;

    for (uint32_t next = at + 1; next <= word->from->count; next++) {
        uint32_t bytes = nodes[next].bytes - nodes[at].bytes, id;
        uint8_t start;
        hash = eo_hash(hash, text + done, bytes - done);
        done = bytes;
        start = *start_of(unigram, hash);
        if ((start & MOST) < MOST && (start & MOST) < next - at) {
            break;
        }
        id = (start & IS_TOKEN) != 0 ? eo_model_token(tokenizer, hash, text, bytes) : EO_NO_TOKEN;
        if (id != EO_NO_TOKEN) {
            reach(&nodes[next], unigram->scores[id] + nodes[at].score, at, id);
            single |= next == at + 1;
        }
        if (bytes >= tokenizer->vocabulary.longest) {
            break;
        }
    }
    if (!single) {
        reach(&nodes[at + 1], unigram->unknown_score + nodes[at].score, at, tokenizer->unknown);
    }
}

/* Adds the unknown characters from node `first` to node `last` as one token, by their bytes if
 * each of them has a token. */
static void add_unknown(const struct word *word, uint32_t first, uint32_t last,
                        struct eo_sink *sink)
{
    const struct eo_unigram *unigram = &word->tokenizer->unigram;
    uint32_t begin = word->from->begins[first], end = word->from->ends[last - 1];
    const char *text = word->text + word->nodes[first].bytes;
    uint32_t bytes = word->nodes[last].bytes - word->nodes[first].bytes, i = 0;
    uint32_t id =
        eo_model_token(word->tokenizer, eo_hash(EO_HASH_START, text, bytes), text, bytes);

    while (unigram->byte_fallback && i < bytes &&
           unigram->byte_ids[(uint8_t)text[i]] != EO_NO_TOKEN) {
        i++;
    }
    if (id != EO_NO_TOKEN || i < bytes) {
        eo_sink_add(sink, id != EO_NO_TOKEN ? id : word->tokenizer->unknown, begin, end);
        return;
    }
    for (i = 0; i < bytes; i++) {
        eo_sink_add(sink, unigram->byte_ids[(uint8_t)text[i]], begin, end);
    }
}

/* Turns the links around: from now on a node's `from` is the one after it. */
static void turn(struct node *nodes, uint32_t last)
{
    uint32_t after = last, id = EO_NO_TOKEN;

    for (uint32_t at = last;;) {
        uint32_t before = nodes[at].from, own = nodes[at].id;
        nodes[at].from = after;
        nodes[at].id = id; /* of the token that starts here */
        after = at;
        id = own;
        if (at == 0) {
            return;
        }
        at = before;
    }
}

static void add_tokens(const struct word *word, struct eo_sink *sink)
{
    const struct node *nodes = word->nodes;
    uint32_t last = word->from->count;

    for (uint32_t at = 0, next; at < last; at = next) {
        uint32_t id = nodes[at].id;
        next = nodes[at].from;
        if (id != word->tokenizer->unknown) {
            eo_sink_add(sink, id, word->from->begins[at], word->from->ends[next - 1]);
            continue;
        }
        while (next < last && nodes[next].id == id) {
            next = nodes[next].from;
        }
        add_unknown(word, at, next, sink);
    }
}

uint64_t eo_unigram_scratch(uint64_t chars)
{
    return (chars + 1) * (sizeof(struct node) + 4) + sizeof(uint64_t);
}

void eo_unigram_encode(const struct eo_tokenizer *tokenizer, const struct eo_word *from,
                       void *scratch, struct eo_sink *sink)
{
    struct word word = {.tokenizer = tokenizer, .from = from, .nodes = scratch};
    uint32_t bytes = 0;

    word.text = (char *)(word.nodes + (size_t)from->count + 1);
    word.nodes[0] = (struct node){.id = EO_NO_TOKEN};
    for (uint32_t i = 0; i < from->count; i++) {
        bytes += eo_utf8_write(from->codes[i], word.text + bytes);
        word.nodes[i + 1] = (struct node){.id = EO_NO_TOKEN, .bytes = bytes};
    }
    for (uint32_t at = 0; at < from->count; at++) {
        step(&word, at);
    }
    turn(word.nodes, from->count);
    add_tokens(&word, sink);
}
