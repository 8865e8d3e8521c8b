/* SPDX-FileCopyrightText: edgeopt contributors
 * SPDX-License-Identifier: Apache-2.0 */
/* What an open tokenizer is made of. */
#ifndef EO_TOKENIZER_MODEL_H
#define EO_TOKENIZER_MODEL_H

#include "base/arena.h"
#include "tokenizer/added_tokens.h"
#include "tokenizer/normalizer.h"
#include "tokenizer/pre_tokenizer.h"
#include "tokenizer/sink.h"
#include "tokenizer/vocabulary.h"

#define EO_MAX_WORD_CHARS 256 /* 100 in every model that is known */

struct eo_wordpiece {
    uint32_t max_word_chars;
    const char *prefix; /* of a token that is not the first of its word */
    uint32_t prefix_bytes;
    uint32_t prefix_hash;
};

/* Two tokens beside each other that become one, by rank: the lower goes first. */
struct eo_merge {
    uint32_t left;
    uint32_t right;
    uint32_t merged;
};

struct eo_bpe {
    bool byte_level; /* it merges bytes, else characters */
    bool byte_fallback;
    bool fuse_unknown;
    bool ignore_merges;
    char suffix[16]; /* of the last byte or character of a word; "": none */
    uint32_t byte_ids[256];  /* of byte_level, or those of byte_fallback; or EO_NO_TOKEN */
    struct eo_merge *merges; /* by rank */
    uint32_t merge_count;
    uint32_t *slots; /* of a hash table over the pairs; 0: free, else rank + 1 */
    uint32_t mask;
};

struct eo_unigram {
    double *scores;    /* by id */
    bool exact_scores; /* the nearest numbers to those in the file, not what the package reads */
    double unknown_score;
    bool byte_fallback;
    uint32_t byte_ids[256]; /* of byte_fallback; or EO_NO_TOKEN */
    uint8_t *starts;        /* by the hash of what tokens start with: see unigram.c */
    uint32_t starts_mask;
};

enum eo_piece_kind { EO_PIECE_TEXT, EO_PIECE_PAIR, EO_PIECE_TOKEN };

struct eo_template_piece {
    uint8_t kind; /* enum eo_piece_kind */
    uint8_t type_id;
    uint32_t id; /* of EO_PIECE_TOKEN */
};

#define EO_MAX_PIECES 32

struct eo_template {
    struct eo_template_piece pieces[EO_MAX_PIECES];
    uint32_t count;
};

enum eo_model_kind { EO_WORDPIECE, EO_BPE, EO_UNIGRAM, EO_WORD_LEVEL };

struct eo_tokenizer {
    int32_t kind;          /* enum eo_model_kind */
    struct eo_arena arena; /* what the parts below point to, if it is not freed by itself */
    struct eo_vocabulary vocabulary;
    uint32_t model_count; /* ids below are the model's own, the others added ones */
    bool has_gaps;        /* some id below model_count is no token's */
    uint32_t unknown;     /* EO_NO_TOKEN: the model has none */
    struct eo_added_set added;            /* looked for in the text as it is */
    struct eo_added_set added_normalized; /* looked for in the normalised text */
    struct eo_normalizer normalizer;
    struct eo_pre_tokenizer pre_tokenizer;
    struct eo_wordpiece wordpiece;
    struct eo_bpe bpe;
    struct eo_unigram unigram;
    struct eo_template single;
    struct eo_template pair;
    bool trim_offsets; /* byte-level: tokens do not cover the space around them */
    bool trim_keeps_prefix_space;
};

/* Characters that are split no more, and the bytes of the text that each stands for. */
struct eo_word {
    const uint32_t *codes;
    const uint32_t *begins;
    const uint32_t *ends;
    uint32_t count; /* more than 0 */
};

/* Each model gives its tokens of a word to `sink`. `scratch` has as many bytes as are said for
 * words of up to `chars` characters, and is aligned to 8. */
void eo_wordpiece_encode(const struct eo_tokenizer *tokenizer, const struct eo_word *word,
                         struct eo_sink *sink);

uint64_t eo_word_level_scratch(uint64_t chars);
void eo_word_level_encode(const struct eo_tokenizer *tokenizer, const struct eo_word *word,
                          void *scratch, struct eo_sink *sink);

uint64_t eo_bpe_scratch(uint64_t chars);
void eo_bpe_encode(const struct eo_tokenizer *tokenizer, const struct eo_word *word, void *scratch,
                   struct eo_sink *sink);

uint64_t eo_unigram_scratch(uint64_t chars);
void eo_unigram_encode(const struct eo_tokenizer *tokenizer, const struct eo_word *word,
                       void *scratch, struct eo_sink *sink);

/* The token of the model's own whose text has `bytes` bytes and `hash`; EO_NO_TOKEN: none. */
static inline uint32_t eo_model_token(const struct eo_tokenizer *tokenizer, uint32_t hash,
                                      const char *text, size_t bytes)
{
    uint32_t id = eo_vocabulary_find_joined(&tokenizer->vocabulary, hash, "", 0, text, bytes);

    return id < tokenizer->model_count ? id : EO_NO_TOKEN;
}

/* The character that stands for `byte` in the vocabulary of a byte-level model. */
uint32_t eo_byte_char(uint8_t byte);

/* Adds a merge of the next rank to the hash table; EO_EUNSUPPORTED if too many pairs fall on one
 * place. Of two merges of one pair the later one counts. */
int eo_bpe_index(struct eo_bpe *bpe, uint32_t rank);

/* Enters all tokens of the vocabulary into `starts`, which has starts_mask + 1 zeroed bytes. */
void eo_unigram_index(struct eo_tokenizer *tokenizer);

#endif
