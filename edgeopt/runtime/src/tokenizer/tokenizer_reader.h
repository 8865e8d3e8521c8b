/* SPDX-FileCopyrightText: edgeopt contributors
 * SPDX-License-Identifier: Apache-2.0 */
/* Reading a tokenizer.json part by part. A failure names the dotted key, what the file says there,
 * and what was expected (EO_EBUNDLE) or is supported (EO_EUNSUPPORTED). As a node, 0 is none. */
#ifndef EO_TOKENIZER_READER_H
#define EO_TOKENIZER_READER_H

#include "tokenizer/tokenizer_model.h"

#define MAX_KEY 96   /* of a dotted key in a message */
#define MAX_QUOTE 64 /* of what the file says, in a message */
#define LENGTH(array) (sizeof(array) / sizeof *(array))

struct eo_reader {
    struct eo_json_tree tree;
    const char *where;
    struct eo_failure *failure;
    struct eo_tokenizer *tokenizer; /* that is being filled */
};

/* What the file says at `node`, cut, on one line. */
const char *eo_read_quote(const struct eo_reader *reader, uint32_t node, char out[MAX_QUOTE]);

int eo_read_damaged(const struct eo_reader *reader, const char *key, uint32_t node,
                    const char *expected);
int eo_read_unsupported(const struct eo_reader *reader, const char *key, uint32_t node,
                        const char *supported);
int eo_read_no_memory(const struct eo_reader *reader);
int eo_read_crowded(const struct eo_reader *reader, const char *key);

const struct eo_json_node *eo_read_node(const struct eo_reader *reader, uint32_t node);
bool eo_read_is_null(const struct eo_reader *reader, uint32_t node); /* or not there */

/* The member `name` of `object`; 0 if either is not there. */
uint32_t eo_read_child(const struct eo_reader *reader, uint32_t object, const char *name);
/* The same, and "path.name" in `key`. */
uint32_t eo_read_member(const struct eo_reader *reader, uint32_t object, const char *path,
                        const char *name, char key[MAX_KEY]);

int eo_read_bool(const struct eo_reader *reader, uint32_t object, const char *path,
                 const char *name, bool *value);
/* Keeps `value` if the member is null or missing. */
int eo_read_optional_bool(const struct eo_reader *reader, uint32_t object, const char *path,
                          const char *name, bool *value);
int eo_read_integer(const struct eo_reader *reader, uint32_t object, const char *path,
                    const char *name, int64_t high, uint32_t *value);

/* The id in the vocabulary of string `node`, or EO_NO_TOKEN; `text` holds `size` bytes. */
uint32_t eo_read_token(const struct eo_reader *reader, uint32_t node, char *text, size_t size);

/* Refuses other keys than these: what they mean for the tokens is not known here. */
int eo_read_keys(const struct eo_reader *reader, uint32_t object, const char *path,
                 const char *const *names, size_t count);

/* The ids of <0x00> to <0xFF>, those of the tokens that stand for bytes; or EO_NO_TOKEN. */
void eo_read_byte_ids(const struct eo_reader *reader, uint32_t ids[256]);

/* The string at a member, kept with the tokenizer, a NUL after its `bytes`. */
int eo_read_text(const struct eo_reader *reader, uint32_t object, const char *path,
                 const char *name, char **text, uint32_t *bytes);
/* The same, as code points. */
int eo_read_codes(const struct eo_reader *reader, uint32_t object, const char *path,
                  const char *name, const uint32_t **codes, uint32_t *count);

/* A pattern: {"String": ...} or a {"Regex": ...} that is known. */
int eo_read_pattern(const struct eo_reader *reader, uint32_t object, const char *path,
                    struct eo_pattern *pattern);

/* The parts that have files of their own, into the tokenizer; `added` may be no node. */
int eo_read_normalizer(const struct eo_reader *reader, uint32_t node);
int eo_read_pre_tokenizer(const struct eo_reader *reader, uint32_t node);
int eo_read_vocabulary(const struct eo_reader *reader, uint32_t model, uint32_t added);
int eo_read_wordpiece(const struct eo_reader *reader, uint32_t model);
int eo_read_word_level(const struct eo_reader *reader, uint32_t model);
int eo_read_unigram(const struct eo_reader *reader, uint32_t model, uint32_t added);
int eo_read_bpe(const struct eo_reader *reader, uint32_t model);
int eo_read_added(const struct eo_reader *reader, uint32_t added);
int eo_read_post_processor(const struct eo_reader *reader, uint32_t node);

#endif
