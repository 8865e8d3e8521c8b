/* SPDX-FileCopyrightText: edgeopt contributors
 * SPDX-License-Identifier: Apache-2.0 */
/* Opens a generator of the job's bundle. */
#ifndef EO_OPEN_H
#define EO_OPEN_H

#include "generate/generator.h"
#include "generation/options.h"
#include "job.h"

/* The likeliest tokens one by one, whatever the bundle says. */
eo_sampling eo_greedy(void);

/* Opens it, and says which engine it is and what its cache takes. Its session is the job's until the
 * caller closes it. */
int eo_open_generator(struct eo_job *job, const struct eo_generate_options *options,
                      struct eo_generator **generator, struct eo_failure *failure);

#endif
