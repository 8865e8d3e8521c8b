/* SPDX-FileCopyrightText: edgeopt contributors
 * SPDX-License-Identifier: Apache-2.0 */
/* Times a generator: a prompt of some length, and token by token what it is gone on with. */
#ifndef EO_ANSWERING_H
#define EO_ANSWERING_H

#include "generation/options.h"
#include "job.h"

/* Opens the bundle, checks its golden prompts, and times answers; says all of it. Nothing is timed if
 * a golden prompt disagrees. What is open is closed again. */
int eo_answering_run(struct eo_job *job, const struct eo_generate_options *options,
                     struct eo_failure *failure);

#endif
