/* SPDX-FileCopyrightText: edgeopt contributors
 * SPDX-License-Identifier: Apache-2.0 */
/* Choosing the next token by its logits, as generate() of transformers does. */
#ifndef EO_SAMPLER_H
#define EO_SAMPLER_H

#include "base/failure.h"

#include <stdbool.h>

struct eo_candidate {
    float logit;
    int32_t id;
};

struct eo_sampler {
    struct eo_sampling how;
    uint64_t state;                  /* of the random numbers */
    uint32_t count;                  /* of the vocabulary */
    struct eo_candidate *candidates; /* count */
    uint8_t *seen;                   /* a bit for each token of prompt and answer */
};

/* Returns EO_EINPUT if a value is out of its range. */
int eo_sampler_check(const struct eo_sampling *how, struct eo_failure *failure);

void eo_sampler_saw(struct eo_sampler *sampler, int32_t id);

/* What is left of the token's logit, or the logarithm of its probability. */
float eo_sampler_penalised(const struct eo_sampler *sampler, float logit, uint32_t id);

/* Chooses one of `logits`; EO_EENGINE if they are no numbers. Nothing changes on a failure. */
int eo_sampler_next(struct eo_sampler *sampler, const float *logits, int32_t *id,
                    struct eo_failure *failure);

#endif
