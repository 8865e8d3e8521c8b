/* SPDX-FileCopyrightText: edgeopt contributors
 * SPDX-License-Identifier: Apache-2.0 */
#include "tokenizer/tokenizer_model.h"

#include "base/utf8.h"

#include <string.h>

#define NO_SLOT UINT32_MAX
#define NO_RANK UINT32_MAX
#define MAX_PROBES 1024

/* One byte or character of a word, later the token that starts with it. */
struct slot {
    uint32_t id;    /* EO_NO_TOKEN: now part of a token before it */
    uint32_t bytes; /* of UTF-8 */
    uint32_t prev;  /* slot of the token before and after, or NO_SLOT */
    uint32_t next;
};

/* Merges to be tried, the lowest first: rank << 32 | slot. A binary heap. */
struct queue {
    uint64_t *keys;
    uint32_t count;
};

struct word {
    const struct eo_tokenizer *tokenizer;
    const struct eo_word *from;
    struct slot *slots;
    uint32_t count;
    struct queue queue;
};

uint32_t eo_byte_char(uint8_t byte)
{
    /* Printable Latin-1 stands for itself, the rest follows U+0100 in order.
     * Source: bytes_to_unicode in openai/gpt-2, src/encoder.py. */
    if (byte <= 0x20) {
        return 0x100U + byte;
    }
    if (byte >= 0x7f && byte <= 0xa0) {
        return 0x121U + (byte - 0x7fU);
    }
    return byte == 0xad ? 0x143 : byte;
}

static uint32_t pair_place(uint32_t left, uint32_t right)
{
    uint64_t key = ((uint64_t)left << 32 | right) * 0x9e3779b97f4a7c15U;

    key ^= key >> 32;
    key *= 0x9e3779b97f4a7c15U;
    return (uint32_t)(key >> 32);
}

/* The slot of the hash table that holds the pair or is free for it; NULL if neither is near. */
static uint32_t *find_pair(const struct eo_bpe *bpe, uint32_t left, uint32_t right)
{
    uint32_t place = pair_place(left, right);

    for (uint32_t i = 0; i < MAX_PROBES; i++) {
        uint32_t *slot = &bpe->slots[(place + i) & bpe->mask];
        if (*slot == 0 ||
            (bpe->merges[*slot - 1].left == left && bpe->merges[*slot - 1].right == right)) {
            return slot;
        }
    }
    return NULL;
}

int eo_bpe_index(struct eo_bpe *bpe, uint32_t rank)
{
    uint32_t *slot = find_pair(bpe, bpe->merges[rank].left, bpe->merges[rank].right);

    if (slot == NULL) {
        return EO_EUNSUPPORTED;
    }
    *slot = rank + 1;
    return EO_OK;
}

static uint32_t rank_of(const struct eo_bpe *bpe, uint32_t left, uint32_t right)
{
    const uint32_t *slot = find_pair(bpe, left, right);

    return slot == NULL || *slot == 0 ? NO_RANK : *slot - 1;
}

static void queue_push(struct queue *queue, uint64_t key)
{
    uint32_t at = queue->count++;

    while (at > 0 && queue->keys[(at - 1) / 2] > key) {
        queue->keys[at] = queue->keys[(at - 1) / 2];
        at = (at - 1) / 2;
    }
    queue->keys[at] = key;
}

static uint64_t queue_pop(struct queue *queue)
{
    uint64_t lowest = queue->keys[0];
    uint64_t key = queue->keys[--queue->count];
    uint32_t at = 0;

    for (uint32_t child; (child = 2 * at + 1) < queue->count; at = child) {
        if (child + 1 < queue->count && queue->keys[child + 1] < queue->keys[child]) {
            child++;
        }
        if (queue->keys[child] >= key) {
            break;
        }
        queue->keys[at] = queue->keys[child];
    }
    queue->keys[at] = key;
    return lowest;
}

/* Queues the merge of slot `left` and the one after it, if there is one. */
static void queue_pair(struct word *word, uint32_t left)
{
    uint32_t right = left == NO_SLOT ? NO_SLOT : word->slots[left].next;
    uint32_t rank;

    if (right == NO_SLOT) {
        return;
    }
    rank = rank_of(&word->tokenizer->bpe, word->slots[left].id, word->slots[right].id);
    if (rank != NO_RANK) {
        queue_push(&word->queue, (uint64_t)rank << 32 | left);
    }
}

/* Merges pairs, the lowest rank first and of one rank the leftmost, until none is left. A merge
 * takes one key off the queue and adds two at most: there are never more than twice the slots. */
static void merge(struct word *word)
{
    const struct eo_bpe *bpe = &word->tokenizer->bpe;

    word->queue.count = 0;
    for (uint32_t at = 0; at < word->count; at++) {
        queue_pair(word, at);
    }
    while (word->queue.count > 0) {
        uint64_t key = queue_pop(&word->queue);
        uint32_t left = (uint32_t)key, right, rank;
        struct slot *slot = &word->slots[left];
        if (slot->id == EO_NO_TOKEN || slot->next == NO_SLOT) {
            continue;
        }
        right = slot->next;
        rank = rank_of(bpe, slot->id, word->slots[right].id);
        if (rank == NO_RANK || bpe->merges[rank].merged != bpe->merges[key >> 32].merged) {
            continue; /* one of the two was merged elsewhere since */
        }
        slot->id = bpe->merges[rank].merged;
        slot->bytes += word->slots[right].bytes;
        slot->next = word->slots[right].next;
        word->slots[right].id = EO_NO_TOKEN;
        if (slot->next != NO_SLOT) {
            word->slots[slot->next].prev = left;
        }
        queue_pair(word, slot->prev);
        queue_pair(word, left);
    }
}

static void add_slot(struct word *word, uint32_t id, uint32_t bytes)
{
    uint32_t at = word->count++;

    word->slots[at] = (struct slot){
        .id = id, .bytes = bytes, .prev = at == 0 ? NO_SLOT : at - 1, .next = at + 1};
}

/* Adds the `*unknown` bytes that have no token and are not in the word yet. */
static void add_unknown(struct word *word, uint32_t *unknown)
{
    if (*unknown > 0) {
        add_slot(word, word->tokenizer->unknown, *unknown);
        *unknown = 0;
    }
}

/* Adds one byte or character of the word. One without a token is the unknown token, of which one
 * after the other become one if the model says so; if it has none, it is left out. */
static void add_part(struct word *word, uint32_t id, uint32_t bytes, uint32_t *unknown)
{
    const struct eo_bpe *bpe = &word->tokenizer->bpe;

    if (id != EO_NO_TOKEN) {
        add_unknown(word, unknown);
        add_slot(word, id, bytes);
    } else if (word->tokenizer->unknown != EO_NO_TOKEN) {
        if (!bpe->fuse_unknown) {
            add_unknown(word, unknown);
        }
        *unknown += bytes;
    }
}

/* Adds a character by its bytes if each of them has a token. As in the package they come before
 * what is unknown before them: merge_word of its models/bpe/model.rs. */
static bool falls_back(struct word *word, const char *bytes, uint32_t count)
{
    const struct eo_bpe *bpe = &word->tokenizer->bpe;

    for (uint32_t i = 0; i < count; i++) {
        if (!bpe->byte_fallback || bpe->byte_ids[(uint8_t)bytes[i]] == EO_NO_TOKEN) {
            return false;
        }
    }
    for (uint32_t i = 0; i < count; i++) {
        add_slot(word, bpe->byte_ids[(uint8_t)bytes[i]], 1);
    }
    return true;
}

/* The token of the last byte or character of a word, which has the suffix. */
static uint32_t last_token(const struct eo_tokenizer *tokenizer, const char *text, uint32_t bytes)
{
    const char *suffix = tokenizer->bpe.suffix;
    uint32_t hash = eo_hash(EO_HASH_START, text, bytes);
    uint32_t id = eo_vocabulary_find_joined(&tokenizer->vocabulary,
                                            eo_hash(hash, suffix, strlen(suffix)), text, bytes,
                                            suffix, strlen(suffix));

    return id < tokenizer->model_count ? id : EO_NO_TOKEN;
}

static void fill(struct word *word)
{
    const struct eo_bpe *bpe = &word->tokenizer->bpe;
    uint32_t unknown = 0;

    for (uint32_t i = 0; i < word->from->count; i++) {
        char bytes[4];
        uint32_t count = eo_utf8_write(word->from->codes[i], bytes), id;
        bool last = bpe->suffix[0] != '\0' && i + 1 == word->from->count;
        if (bpe->byte_level) {
            for (uint32_t j = 0; j < count; j++) {
                char one[4];
                uint8_t byte = (uint8_t)bytes[j];
                id = last && j + 1 == count
                         ? last_token(word->tokenizer, one, eo_utf8_write(eo_byte_char(byte), one))
                         : bpe->byte_ids[byte];
                add_part(word, id, 1, &unknown);
            }
            continue;
        }
        id = last ? last_token(word->tokenizer, bytes, count)
                  : eo_model_token(word->tokenizer, eo_hash(EO_HASH_START, bytes, count), bytes,
                                   count);
        if (id != EO_NO_TOKEN || !falls_back(word, bytes, count)) {
            add_part(word, id, count, &unknown);
        }
    }
    add_unknown(word, &unknown);
    if (word->count > 0) {
        word->slots[word->count - 1].next = NO_SLOT;
    }
}

/* Goes through the characters of a word by their bytes. */
struct places {
    const struct eo_word *word;
    uint32_t at;  /* a character */
    uint32_t end; /* bytes up to and with it */
};

static uint32_t char_bytes(uint32_t code)
{
    return code < 0x80 ? 1 : code < 0x800 ? 2 : code < 0x10000 ? 3 : 4;
}

/* The character that byte `byte` belongs to, none before the last answer. */
static uint32_t char_of(struct places *places, uint32_t byte)
{
    while (byte >= places->end && places->at + 1 < places->word->count) {
        places->end += char_bytes(places->word->codes[++places->at]);
    }
    return places->at;
}

static void add_tokens(struct word *word, struct eo_sink *sink)
{
    const struct eo_word *from = word->from;
    struct places places = {.word = from, .end = char_bytes(from->codes[0])};
    uint32_t at = word->count == 0 ? NO_SLOT : 0, byte = 0;

    for (; at != NO_SLOT; at = word->slots[at].next) {
        uint32_t begin = from->begins[char_of(&places, byte)];
        byte += word->slots[at].bytes;
        eo_sink_add(sink, word->slots[at].id, begin, from->ends[char_of(&places, byte - 1)]);
    }
}

/* The token of the whole word, as the vocabulary writes it; EO_NO_TOKEN if there is none. The
 * queue is not in use yet and lends its memory. */
static uint32_t whole_token(const struct word *word)
{
    const struct eo_tokenizer *tokenizer = word->tokenizer;
    char *text = (char *)word->queue.keys;
    uint32_t bytes = 0;

    for (uint32_t i = 0; i < word->from->count; i++) {
        char one[4];
        uint32_t count = eo_utf8_write(word->from->codes[i], one);
        for (uint32_t j = 0; j < count; j++) {
            if (tokenizer->bpe.byte_level) {
                bytes += eo_utf8_write(eo_byte_char((uint8_t)one[j]), text + bytes);
            } else {
                text[bytes++] = one[j];
            }
        }
        if (bytes > tokenizer->vocabulary.longest) {
            return EO_NO_TOKEN;
        }
    }
    return eo_model_token(tokenizer, eo_hash(EO_HASH_START, text, bytes), text, bytes);
}

/* Each byte of a word's UTF-8 is a slot at the most, and each slot two merges. */
uint64_t eo_bpe_scratch(uint64_t chars)
{
    return chars * 4 * (2 * sizeof(uint64_t) + sizeof(struct slot));
}

void eo_bpe_encode(const struct eo_tokenizer *tokenizer, const struct eo_word *from, void *scratch,
                   struct eo_sink *sink)
{
    uint64_t *keys = scratch;
    struct word word = {
        .tokenizer = tokenizer,
        .from = from,
        .queue = {.keys = keys},
        .slots = (struct slot *)(keys + (size_t)from->count * 8),
    };
    uint32_t whole = tokenizer->bpe.ignore_merges ? whole_token(&word) : EO_NO_TOKEN;

    if (whole != EO_NO_TOKEN) {
        eo_sink_add(sink, whole, from->begins[0], from->ends[from->count - 1]);
        return;
    }
    fill(&word);
    merge(&word);
    add_tokens(&word, sink);
}
