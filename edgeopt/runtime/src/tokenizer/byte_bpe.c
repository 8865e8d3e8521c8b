/* SPDX-FileCopyrightText: edgeopt contributors
 * SPDX-License-Identifier: Apache-2.0 */
#include "tokenizer/tokenizer_model.h"

#include "base/utf8.h"
#include "tokenizer/unicode.h"

#define NO_SLOT UINT32_MAX
#define NO_RANK UINT32_MAX
#define MAX_PROBES 1024

/* One byte of a word, later the token that starts with it. */
struct slot {
    uint32_t id;   /* EO_NO_TOKEN: now part of a token before it */
    uint32_t at;   /* where the byte's character starts in the text */
    uint32_t prev; /* slot of the token before and after, or NO_SLOT */
    uint32_t next;
};

/* Merges to be tried, the lowest first: rank << 32 | slot. A binary heap. */
struct queue {
    uint64_t *keys;
    uint32_t count;
};

struct word {
    const struct eo_tokenizer *tokenizer;
    const char *text;
    uint32_t end; /* of the text */
    struct slot *slots;
    uint32_t count;
    uint32_t first; /* NO_SLOT: the word has no token */
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
static uint32_t *find_pair(const struct eo_byte_bpe *bpe, uint32_t left, uint32_t right)
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

int eo_byte_bpe_index(struct eo_byte_bpe *bpe, uint32_t rank)
{
    uint32_t *slot = find_pair(bpe, bpe->merges[rank].left, bpe->merges[rank].right);

    if (slot == NULL) {
        return EO_EUNSUPPORTED;
    }
    *slot = rank + 1;
    return EO_OK;
}

static uint32_t rank_of(const struct eo_byte_bpe *bpe, uint32_t left, uint32_t right)
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
    const struct eo_byte_bpe *bpe = &word->tokenizer->bpe;

    word->queue.count = 0;
    for (uint32_t at = word->first; at != NO_SLOT; at = word->slots[at].next) {
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
        slot->next = word->slots[right].next;
        word->slots[right].id = EO_NO_TOKEN;
        if (slot->next != NO_SLOT) {
            word->slots[slot->next].prev = left;
        }
        queue_pair(word, slot->prev);
        queue_pair(word, left);
    }
}

/* Adds the bytes of character `code`, which starts at `at` of the text. */
static void add_char(struct word *word, uint32_t code, uint32_t at)
{
    char bytes[4];
    uint32_t count = eo_utf8_write(code, bytes);

    for (uint32_t i = 0; i < count; i++) {
        word->slots[word->count++] =
            (struct slot){.id = word->tokenizer->bpe.byte_ids[(uint8_t)bytes[i]], .at = at};
    }
}

/* Links the slots that have a token; a byte without one is the unknown token, of which one after
 * the other become one if the model says so. */
static void link_slots(struct word *word)
{
    const struct eo_byte_bpe *bpe = &word->tokenizer->bpe;
    bool last_unknown = false;
    uint32_t last = NO_SLOT;

    word->first = NO_SLOT;
    for (uint32_t i = 0; i < word->count; i++) {
        bool unknown = word->slots[i].id == EO_NO_TOKEN;
        if (unknown && last_unknown && bpe->fuse_unknown) {
            continue;
        }
        if (unknown) {
            word->slots[i].id = bpe->unknown;
        }
        word->slots[i].prev = last;
        word->slots[i].next = NO_SLOT;
        if (last == NO_SLOT) {
            word->first = i;
        } else {
            word->slots[last].next = i;
        }
        last = i;
        last_unknown = unknown;
    }
}

/* Where the character ends that starts at `at`. */
static uint32_t char_end(const struct word *word, uint32_t at)
{
    size_t next = at;

    (void)eo_utf8_next(word->text, word->end, &next);
    return (uint32_t)next;
}

static void add_tokens(struct word *word, struct eo_sink *sink)
{
    for (uint32_t at = word->first, next; at != NO_SLOT; at = next) {
        const struct slot *slot = &word->slots[at];
        next = slot->next;
        eo_sink_add(sink, slot->id, slot->at,
                    char_end(word, word->slots[(next == NO_SLOT ? word->count : next) - 1].at));
    }
}

/* The token of the whole word, as the vocabulary writes its bytes; EO_NO_TOKEN if there is none.
 * The queue is not in use yet and lends its memory. */
static uint32_t whole_token(const struct word *word, bool prefixed, uint32_t begin, uint32_t end)
{
    const struct eo_vocabulary *vocabulary = &word->tokenizer->vocabulary;
    char *text = (char *)word->queue.keys;
    size_t bytes = prefixed ? eo_utf8_write(eo_byte_char(' '), text) : 0;
    uint32_t id;

    for (size_t at = begin; at < end;) {
        char one[4];
        uint32_t count = eo_utf8_write(eo_utf8_next(word->text, end, &at), one);
        for (uint32_t i = 0; i < count; i++) {
            bytes += eo_utf8_write(eo_byte_char((uint8_t)one[i]), text + bytes);
        }
        if (bytes > vocabulary->longest) {
            return EO_NO_TOKEN;
        }
    }
    id = eo_vocabulary_find(vocabulary, text, bytes);
    return id < word->tokenizer->model_count ? id : EO_NO_TOKEN;
}

/* Encodes bytes begin..end of the text as one word, with a space before it that is not in the text
 * if `prefixed`. */
static void add_word(struct word *word, bool prefixed, uint32_t begin, uint32_t end,
                     struct eo_sink *sink)
{
    uint32_t whole;

    word->count = 0;
    if (prefixed) {
        add_char(word, ' ', begin);
    }
    for (uint32_t at = begin; at < end;) {
        size_t next = at;
        uint32_t code = eo_utf8_next(word->text, end, &next);
        add_char(word, code, at);
        at = (uint32_t)next;
    }
    whole = word->tokenizer->bpe.ignore_merges ? whole_token(word, prefixed, begin, end)
                                               : EO_NO_TOKEN;
    if (whole != EO_NO_TOKEN) {
        eo_sink_add(sink, whole, begin, char_end(word, word->slots[word->count - 1].at));
    } else {
        link_slots(word);
        merge(word);
        add_tokens(word, sink);
    }
    eo_sink_end_word(sink);
}

/* What the regular expression of GPT-2 tells apart. */
enum category { LETTER, NUMBER, SPACE, OTHER, NOTHING };

static enum category category_of(uint32_t code)
{
    uint32_t flags;

    if (code < 0x80) {
        return (code | 0x20) >= 'a' && (code | 0x20) <= 'z' ? LETTER
               : code >= '0' && code <= '9'                 ? NUMBER
               : eo_unicode_is_space(code)                  ? SPACE
                                                            : OTHER;
    }
    flags = eo_unicode_flags(code);
    return (flags & EO_LETTER) != 0   ? LETTER
           : (flags & EO_NUMBER) != 0 ? NUMBER
           : eo_unicode_is_space(code) ? SPACE
                                       : OTHER;
}

/* The category of the character at `at`, and where the next one is; NOTHING at the end. */
static enum category look(const struct eo_chars *chars, uint32_t at, uint32_t *next)
{
    *next = at;
    return at < chars->end ? category_of(eo_chars_next(chars, next)) : NOTHING;
}

/* The end of 's, 't, 're, 've, 'm, 'll or 'd after the apostrophe at `at`; `at` if none is. */
static uint32_t contraction(const struct eo_chars *chars, uint32_t at)
{
    static const char endings[][3] = {"s", "t", "re", "ve", "m", "ll", "d"};

    for (size_t i = 0; i < sizeof endings / sizeof *endings; i++) {
        uint32_t bytes = endings[i][1] == '\0' ? 1 : 2;
        const char *after = chars->text + at + 1;
        if (chars->end - at > bytes && after[0] == endings[i][0] &&
            (bytes == 1 || after[1] == endings[i][1])) {
            return at + 1 + bytes;
        }
    }
    return at;
}

/* The end of a run of white space from `at` on: all of it at the end of the text, else all but the
 * last, if it is more than one. `prefixed`: a space that is not in the text is before it. */
static uint32_t space_end(const struct eo_chars *chars, bool prefixed, uint32_t at)
{
    uint32_t last = at, count = prefixed, next;
    enum category category;

    while ((category = look(chars, at, &next)) == SPACE) {
        last = at;
        at = next;
        count++;
    }
    return category == NOTHING || count == 1 ? at : last;
}

/* The end of the match at `at` of
 *   's|'t|'re|'ve|'m|'ll|'d| ?\p{L}+| ?\p{N}+| ?[^\s\p{L}\p{N}]+|\s+(?!\S)|\s+
 * if `prefixed` with a space before it. */
static uint32_t match_end(const struct eo_chars *chars, bool prefixed, uint32_t at)
{
    bool space = prefixed || chars->text[at] == ' ';
    uint32_t first = space && !prefixed ? at + 1 : at;
    uint32_t next, end;
    enum category category = look(chars, first, &next);

    if (category == SPACE || category == NOTHING) {
        return space_end(chars, prefixed, at);
    }
    if (!space && chars->text[at] == '\'') {
        end = contraction(chars, at);
        if (end != at) {
            return end;
        }
    }
    do {
        end = next;
    } while (look(chars, end, &next) == category);
    return end;
}

/* Splits part begin..end as the ByteLevel pre-tokenizer does, and encodes each word. */
static void add_words(struct word *word, uint32_t begin, uint32_t end, struct eo_sink *sink)
{
    const struct eo_byte_bpe *bpe = &word->tokenizer->bpe;
    struct eo_chars chars = {.text = word->text, .begin = begin, .end = end};
    bool prefixed = bpe->add_prefix_space && word->text[begin] != ' ';

    while (begin < end) {
        uint32_t next = bpe->use_regex ? match_end(&chars, prefixed, begin) : end;
        add_word(word, prefixed, begin, next, sink);
        prefixed = false;
        begin = next;
    }
}

/* Each byte is a slot, one of broken UTF-8 three: those of U+FFFD; and one for the prefix. */
static uint64_t max_slots(uint32_t text_bytes)
{
    return (uint64_t)text_bytes * 3 + 1;
}

uint64_t eo_byte_bpe_scratch(uint32_t text_bytes)
{
    return max_slots(text_bytes) * (2 * sizeof(uint64_t) + sizeof(struct slot));
}

void eo_byte_bpe_encode(const struct eo_tokenizer *tokenizer, const char *text,
                        uint32_t text_bytes, void *scratch, struct eo_sink *sink)
{
    uint64_t *keys = scratch;
    struct word word = {
        .tokenizer = tokenizer,
        .text = text,
        .end = text_bytes,
        .queue = {.keys = keys},
        .slots = (struct slot *)(keys + 2 * (size_t)max_slots(text_bytes)),
    };
    struct eo_chars chars = {.text = text, .begin = 0, .end = text_bytes};
    struct eo_added_scan scan = eo_added_scan(&tokenizer->added, chars);
    struct eo_part part, inner;

    while (eo_added_next(&scan, &part)) {
        struct eo_added_scan inside;
        if (part.id != EO_NO_TOKEN) {
            eo_sink_add_part(sink, &part, part.begin, part.end);
            continue;
        }
        chars.begin = part.begin;
        chars.end = part.end;
        inside = eo_added_scan(&tokenizer->added_normalized, chars);
        while (eo_added_next(&inside, &inner)) {
            if (inner.id != EO_NO_TOKEN) {
                eo_sink_add_part(sink, &inner, inner.begin, inner.end);
            } else {
                add_words(&word, inner.begin, inner.end, sink);
            }
        }
    }
}
