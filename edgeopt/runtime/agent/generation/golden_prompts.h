/* SPDX-FileCopyrightText: edgeopt contributors
 * SPDX-License-Identifier: Apache-2.0 */
/* A bundle's golden prompts: edgeopt/bundle/golden_generation.py writes them. */
#ifndef EO_GOLDEN_PROMPTS_H
#define EO_GOLDEN_PROMPTS_H

#include "generate/generator.h"
#include "job.h"

/* Answers each golden prompt, and says how near the logits after it are to the reference's, and how many
 * of the reference's tokens follow, of those that the context has room for. `agree` becomes false if the prompt's tokens are others, the
 * logits' cosine is below the artifact's bound, or in FP32 another token follows. Of the first prompt
 * it says how long it took; and then what memory is taken. */
int eo_golden_prompts_check(struct eo_job *job, struct eo_generator *generator, bool *agree,
                            struct eo_failure *failure);

/* Fills `tokens` with `count` tokens: those of the golden prompts one after another, again and again. */
int eo_golden_prompts_fill(struct eo_job *job, int32_t *tokens, uint32_t count,
                           struct eo_failure *failure);

#endif
