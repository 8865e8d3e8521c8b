/* SPDX-FileCopyrightText: edgeopt contributors
 * SPDX-License-Identifier: Apache-2.0 */
/* Beam search, as generate() of transformers does it. */
#ifndef EO_BEAMS_H
#define EO_BEAMS_H

#include "generate/generator.h"

/* What `beams` of them keep besides the cache, for each token of a context. */
uint64_t eo_beams_row_bytes(const struct eo_generation *generation, uint32_t beams);

/* Sets memory aside for the generator's beams, if they are several. */
int eo_beams_open(struct eo_generator *generator, struct eo_failure *failure);
void eo_beams_close(struct eo_generator *generator);

/* Finds the answer to the prompt, if it is not found yet. After a failure it may be asked for again,
 * and begins anew. */
int eo_beams_search(struct eo_generator *generator, struct eo_failure *failure);

/* The next token of the answer that was found. */
int32_t eo_beams_token(const struct eo_generator *generator);

#endif
