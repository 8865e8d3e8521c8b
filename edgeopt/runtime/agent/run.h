/* SPDX-FileCopyrightText: edgeopt contributors
 * SPDX-License-Identifier: Apache-2.0 */
/* The commands `run`, `blocks`, `operators` and `texts`. */
#ifndef EO_RUN_H
#define EO_RUN_H

#include "job.h"

/* Checks the session against its goldens, and times it if it agrees: the golden call so often, in
 * blocks that the host asks for, with its operators told apart, or the texts on standard input. */
int eo_run(struct eo_job *job, struct eo_failure *failure);

#endif
