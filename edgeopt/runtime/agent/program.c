/* SPDX-FileCopyrightText: edgeopt contributors
 * SPDX-License-Identifier: Apache-2.0 */
#include "program.h"

#include "base/arch.h"
#include "clock.h"

#include <signal.h>
#include <stdlib.h>
#include <unistd.h>

bool eo_program_begin(struct eo_events *events)
{
    int descriptor;

    /* One session runs here, with the threads that it is asked for: what was inherited is another's. */
    if (unsetenv("TVM_NUM_THREADS") != 0) {
        return false;
    }
    descriptor = dup(STDOUT_FILENO);
    /* Without SIGPIPE a write to a closed channel fails, and the agent ends in an orderly way. */
    if (descriptor < 0 || dup2(STDERR_FILENO, STDOUT_FILENO) < 0 ||
        signal(SIGPIPE, SIG_IGN) == SIG_ERR) {
        return false;
    }
    eo_events_open(events, descriptor);
    return true;
}

void eo_program_hello(struct eo_events *events)
{
    eo_events_begin(events, "hello");
    eo_events_text(events, "agent", EO_VERSION);
    eo_events_text(events, "arch", EO_ARCH);
    eo_events_integer(events, "pid", (int64_t)getpid());
    eo_events_end(events);
}

int eo_program_clock(struct eo_job *job, struct eo_failure *failure)
{
    char beats[64];

    while (read(STDIN_FILENO, beats, sizeof beats) > 0) {
        eo_events_begin(job->events, "clock");
        eo_events_integer(job->events, "ns", eo_clock_wall_ns());
        eo_events_end(job->events);
    }
    return eo_job_reader_gone(job, failure);
}

int eo_program_fail(struct eo_events *events, const struct eo_failure *failure, int status)
{
    eo_events_begin(events, "error");
    eo_events_text(events, "where", failure->where);
    eo_events_text(events, "message", failure->message);
    eo_events_end(events);
    return eo_events_is_broken(events) ? EXIT_READER_GONE : status;
}
