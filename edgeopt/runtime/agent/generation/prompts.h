/* SPDX-FileCopyrightText: edgeopt contributors
 * SPDX-License-Identifier: Apache-2.0 */
/* Goes on with prompts that come on standard input. */
#ifndef EO_PROMPTS_H
#define EO_PROMPTS_H

#include "generation/options.h"
#include "job.h"

/* Opens the bundle, and answers each line of input, a JSON object of a text and how tokens are chosen:
 * {"text": ..., "max_tokens": ..., "temperature": ..., "stops": [...]} and the other members of
 * eo_sampling by their names. Says what the prompt is, and each piece of its answer as it is there. */
int eo_prompts_answer(struct eo_job *job, const struct eo_generate_options *options,
                      struct eo_failure *failure);

#endif
