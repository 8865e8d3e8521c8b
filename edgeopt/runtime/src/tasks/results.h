/* SPDX-FileCopyrightText: edgeopt contributors
 * SPDX-License-Identifier: Apache-2.0 */
/* From one row of a session's outputs to its result. */
#ifndef EO_RESULTS_H
#define EO_RESULTS_H

#include "bundle/manifest.h"
#include "tokenizer/token.h"

/* Whether `a` stands behind `b`: best first, equal scores by label, then by begin. */
int eo_results_is_after(const struct eo_item *a, const struct eo_item *b);

/* A heap with the last of all on top, and a sort by it: qsort may allocate. `sift` puts items[at] in
 * its place below. */
void eo_results_sift(struct eo_item *items, uint32_t at, uint32_t count);
void eo_results_heapify(struct eo_item *items, uint32_t count);
void eo_results_sort(struct eo_item *items, uint32_t count);

/* Softmax or sigmoid of `count` logits, one item each, best first. */
uint32_t eo_results_classify(const float *logits, uint32_t count, enum eo_activation activation,
                             struct eo_item *items);

/* Neighbouring tokens of one entity together, those of label "O" left out, as the "simple" strategy
 * of transformers' token-classification pipeline does; the score is the tokens' mean. `logits` is
 * (seq, labels). */
uint32_t eo_results_entities(const struct eo_manifest *manifest, const float *logits,
                             const struct eo_token *tokens, uint32_t count, struct eo_item *items);

/* Pools `hidden` (count, size) over its `count` tokens into `vector` (size), as sentence-transformers
 * does. */
void eo_results_embed(const struct eo_manifest *manifest, const float *hidden, uint32_t count,
                      uint32_t size, float *vector);

/* Adds the best spans of one window to `items`, which stand best first and are at most `max`; returns
 * how many there are now. `start` and `end` are (count) logits. Source: transformers'
 * question-answering pipeline (select_starts_ends, answers of up to 15 tokens, whole words). */
uint32_t eo_results_answers(const float *start, const float *end, const struct eo_token *tokens,
                            uint32_t count, struct eo_item *items, uint32_t used, uint32_t max);

#endif
