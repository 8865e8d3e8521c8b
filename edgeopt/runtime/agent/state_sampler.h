/* SPDX-FileCopyrightText: edgeopt contributors
 * SPDX-License-Identifier: Apache-2.0 */
/* Reads files and commands of the board again and again while another process is measured. */
#ifndef EO_STATE_SAMPLER_H
#define EO_STATE_SAMPLER_H

#include "base/failure.h"
#include "events.h"

#include <sys/types.h>

#define EO_MAX_READS 128

struct eo_state_sampler {
    pid_t process; /* 0: none runs */
    int tether;    /* the process ends when this end of a pipe is closed, or with us */
};

/* Starts a process of its own, whose time and memory are not the measured one's, which reads each of
 * `reads` every so many milliseconds on average: `key` holds them as text, `value` a path, or a command for sh if
 * it does not begin with a slash. It writes to the descriptor of `events`, whole lines at a time:
 * "read" events with the place in `reads`, the clock before and after, and the text or the error; a
 * control character in it is a blank. At its end a "sampler" event tells the CPU time of all that. */
int eo_state_sampler_start(struct eo_state_sampler *sampler, const struct eo_option *reads, uint32_t count,
                     const struct eo_events *events, struct eo_failure *failure);

/* Ends it and waits for its last line. */
void eo_state_sampler_stop(struct eo_state_sampler *sampler);

#endif
