/* SPDX-FileCopyrightText: edgeopt contributors
 * SPDX-License-Identifier: Apache-2.0 */
/* What the commands work with: one bundle and, for most, one session. */
#ifndef EO_JOB_H
#define EO_JOB_H

#include "arguments.h"
#include "events.h"
#include "session/session.h"

struct eo_job {
    const struct eo_arguments *arguments;
    struct eo_events *events;
    struct eo_bundle *bundle;
    struct eo_session *session;
    bool has_run;       /* the session, once */
    bool peak_is_older; /* what the kernel has as the peak may be of a phase before: see memory.h */
    int64_t heard_ns;   /* when the host last wrote to stdin; 0: never */
};

/* Open the bundle, and then a session of it, of whose engine the latter tells. What is open is the
 * caller's to close, after a failure too. */
int eo_job_open_bundle(struct eo_job *job, struct eo_failure *failure);
int eo_job_open_session(struct eo_job *job, struct eo_failure *failure);

/* Fails if nobody reads the events any more. */
int eo_job_reader_gone(const struct eo_job *job, struct eo_failure *failure);

/* Fails if the host wrote to stdin while the agent measured, and then ended or was silent for long: a
 * link that stalls has no end, and the agent would be in the way of the next measurement. One that
 * never wrote is not waited for. */
int eo_job_host_gone(struct eo_job *job, struct eo_failure *failure);

#endif
