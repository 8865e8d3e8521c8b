/* SPDX-FileCopyrightText: edgeopt contributors
 * SPDX-License-Identifier: Apache-2.0 */
/* Golden calls of a bundle, run and compared. */
#ifndef EO_GOLDEN_CALLS_H
#define EO_GOLDEN_CALLS_H

#include "job.h"

/* Checks goldens of one length from the last to the first, so that the first stays in the inputs for
 * the timing: the last alone if `begins`, which is the session's first run, else the others. If there
 * is but one, its inputs are put back then. Emits one golden event for each output; `agree` becomes
 * false if one does not. */
int eo_golden_calls_check(struct eo_job *job, bool begins, bool *agree, struct eo_failure *failure);

/* Fills as many rows as a session opened for a batch takes with those goldens in turns, runs it once,
 * and compares each row, as above. The inputs stay for the timing. */
int eo_golden_batch_check(struct eo_job *job, bool *agree, struct eo_failure *failure);

#endif
