/* SPDX-FileCopyrightText: edgeopt contributors
 * SPDX-License-Identifier: Apache-2.0 */
#include "job.h"

#include "base/affinity.h"
#include "clock.h"
#include "process.h"

#include <poll.h>
#include <unistd.h>

int eo_job_reader_gone(const struct eo_job *job, struct eo_failure *failure)
{
    return eo_events_is_broken(job->events) ? eo_fail(failure, EO_EIO, "stdout", "its reader is gone")
                                            : EO_OK;
}

int eo_job_host_gone(struct eo_job *job, struct eo_failure *failure)
{
    const int64_t silence_ns = INT64_C(1000000000) * EO_SILENCE_S;
    struct pollfd input = {.fd = STDIN_FILENO, .events = POLLIN};
    int64_t now_ns = eo_clock_wall_ns();
    ssize_t got = 1;
    char beats[64];

    while (got > 0 && poll(&input, 1, 0) > 0) {
        got = read(STDIN_FILENO, beats, sizeof beats);
        job->heard_ns = got > 0 ? now_ns : job->heard_ns;
    }
    return job->heard_ns != 0 && (got == 0 || now_ns - job->heard_ns > silence_ns)
               ? eo_fail(failure, EO_EIO, "stdin", "the host is gone")
               : EO_OK;
}

/* Gives this thread, which computes too, the CPUs of the engine's threads. What is wrong with them
 * the session tells, and that a bundle's own do not exist here is no failure. */
static void pin(const struct eo_job *job, const char *asked)
{
    eo_cpus before;

    (void)eo_affinity_set(asked != NULL ? asked : job->bundle->manifest.cpus, &before, NULL);
}

int eo_job_open_bundle(struct eo_job *job, struct eo_failure *failure)
{
    const char *cpus = job->arguments->session.cpus;
    int result = eo_bundle_open(job->arguments->bundle, &job->bundle, failure);

    if (result == EO_OK && (cpus != NULL || job->bundle->manifest.cpus != NULL)) {
        pin(job, cpus);
    }
    return result;
}

int eo_job_open_session(struct eo_job *job, struct eo_failure *failure)
{
    char cpus[128];
    int64_t begin_ns = eo_clock_wall_ns();
    int result =
        eo_session_open(job->bundle, &job->arguments->session, &job->session, failure);

    if (result != EO_OK) {
        return result;
    }
    eo_events_begin(job->events, "engine");
    eo_events_text(job->events, "engine", eo_session_engine(job->session));
    eo_events_text(job->events, "version", eo_session_engine_version(job->session));
    eo_events_text(job->events, "precision", eo_session_precision(job->session));
    eo_events_text(job->events, "library", eo_session_library(job->session));
    eo_events_integer(job->events, "load_ns", eo_clock_wall_ns() - begin_ns);
    eo_process_cpus(cpus, sizeof cpus);
    eo_events_text(job->events, "cpus", cpus);
    eo_events_end(job->events);
    return eo_job_reader_gone(job, failure);
}
