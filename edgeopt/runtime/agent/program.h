/* SPDX-FileCopyrightText: edgeopt contributors
 * SPDX-License-Identifier: Apache-2.0 */
/* How a program that runs on a board begins, says who it is, and fails. */
#ifndef EO_PROGRAM_H
#define EO_PROGRAM_H

#include "job.h"

enum { EXIT_FAILED = 1, EXIT_ARGUMENTS = 2, EXIT_READER_GONE = 3 };

/* Gives events the stdout we were started with, and engines, which may print, our stderr. False if it
 * cannot. */
bool eo_program_begin(struct eo_events *events);

/* The first event. */
void eo_program_hello(struct eo_events *events);

/* Says the clock for each that comes in: who asks can tell its own clock's offset. */
int eo_program_clock(struct eo_job *job, struct eo_failure *failure);

/* Says what failed; returns the status to exit with, `status` if somebody hears it. */
int eo_program_fail(struct eo_events *events, const struct eo_failure *failure, int status);

#endif
