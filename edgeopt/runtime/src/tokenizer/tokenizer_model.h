/* SPDX-FileCopyrightText: edgeopt contributors
 * SPDX-License-Identifier: Apache-2.0 */
/* What an open tokenizer is made of. */
#ifndef EO_TOKENIZER_MODEL_H
#define EO_TOKENIZER_MODEL_H

#include "tokenizer/added_tokens.h"
#include "tokenizer/sink.h"
#include "tokenizer/vocabulary.h"

/* BertNormalizer; all false does nothing. */
struct eo_bert_normalizer {
    bool clean_text;
    bool handle_chinese_chars;
    bool strip_accents;
    bool lowercase;
};

#define EO_MAX_WORD_CHARS 256 /* 100 in every model that is known */

struct eo_wordpiece {
    struct eo_bert_normalizer normalizer;
    uint32_t unknown;
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

struct eo_byte_bpe {
    bool add_prefix_space;
    bool use_regex;
    bool fuse_unknown;
    bool ignore_merges;
    uint32_t unknown;        /* EO_NO_TOKEN: every byte has a token */
    uint32_t byte_ids[256];  /* or EO_NO_TOKEN */
    struct eo_merge *merges; /* by rank */
    uint32_t merge_count;
    uint32_t *slots; /* of a hash table over the pairs; 0: free, else rank + 1 */
    uint32_t mask;
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

enum eo_model_kind { EO_WORDPIECE, EO_BYTE_BPE };

struct eo_tokenizer {
    int32_t kind; /* enum eo_model_kind */
    struct eo_vocabulary vocabulary;
    uint32_t model_count; /* ids below are the model's own, the others added ones */
    bool has_gaps;        /* some id below model_count is no token's */
    struct eo_added_set added;            /* looked for in the text as it is */
    struct eo_added_set added_normalized; /* looked for in the normalised text */
    struct eo_wordpiece wordpiece;
    struct eo_byte_bpe bpe;
    struct eo_template single;
    struct eo_template pair;
    bool trim_offsets; /* byte-level: tokens do not cover the space around them */
    bool trim_keeps_prefix_space;
};

/* Normalised characters and the bytes of the text that each stands for. */
struct eo_normalized {
    uint32_t *codes;
    uint32_t *begins;
    uint32_t *ends;
    uint32_t *reordered; /* half as many: room for sorting marks */
    uint32_t count;
};

/* Normalises bytes begin..end of `text`; gives no more characters than there are bytes. */
void eo_bert_normalize(const struct eo_bert_normalizer *normalizer, const char *text,
                       uint32_t begin, uint32_t end, struct eo_normalized *out);

/* Bytes of scratch for a text of `text_bytes`. The tokens of `text` go to `sink`. */
uint64_t eo_wordpiece_scratch(uint32_t text_bytes);
void eo_wordpiece_encode(const struct eo_tokenizer *tokenizer, const char *text,
                         uint32_t text_bytes, void *scratch, struct eo_sink *sink);

uint64_t eo_byte_bpe_scratch(uint32_t text_bytes);
void eo_byte_bpe_encode(const struct eo_tokenizer *tokenizer, const char *text,
                        uint32_t text_bytes, void *scratch, struct eo_sink *sink);

/* The character that stands for `byte` in the vocabulary of a byte-level model. */
uint32_t eo_byte_char(uint8_t byte);

/* Adds a merge of the next rank to the hash table; EO_EUNSUPPORTED if too many pairs fall on one
 * place. Of two merges of one pair the later one counts. */
int eo_byte_bpe_index(struct eo_byte_bpe *bpe, uint32_t rank);

#endif
