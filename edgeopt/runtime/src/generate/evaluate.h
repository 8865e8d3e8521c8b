/* SPDX-FileCopyrightText: edgeopt contributors
 * SPDX-License-Identifier: Apache-2.0 */
/* Running a generator's tokens, and which of them may come next. */
#ifndef EO_EVALUATE_H
#define EO_EVALUATE_H

#include "generate/generator.h"

bool eo_has_encoder(const struct eo_generator *generator);

/* How many tokens the decoder has: what it begins with, and those that are not the encoder's. */
uint32_t eo_decoded(const struct eo_generator *generator);
int32_t eo_decoded_token(const struct eo_generator *generator, uint32_t index);

/* Tells the graph of the source that the cache has, or will have. */
void eo_set_source(struct eo_generator *generator);

/* Runs the tokens that are not in the cache yet, in as few parts as there are lengths for. */
int eo_evaluate(struct eo_generator *generator, struct eo_failure *failure);

bool eo_is_stop(const struct eo_generator *generator, int32_t id);

/* Has the sampler know the decoder's tokens, and no others. */
void eo_see(struct eo_generator *generator);

/* How many tokens the answer may still have. */
uint32_t eo_room(const struct eo_generator *generator);

/* The next token if it is not chosen by its logits; else -1. */
int32_t eo_forced(const struct eo_generator *generator);

/* Makes the logits of tokens that may not come next -infinity. */
void eo_ban(struct eo_generator *generator);

#endif
