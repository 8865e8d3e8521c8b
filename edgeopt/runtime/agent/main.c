/* SPDX-FileCopyrightText: edgeopt contributors
 * SPDX-License-Identifier: Apache-2.0 */
/* edgeopt-agent: opens a bundle on the board with the runtime library, checks an artifact against its
 * golden outputs, and times it. */
#include "answers.h"
#include "base/arch.h"
#include "clock.h"
#include "lines.h"
#include "process.h"
#include "run.h"
#include "tokens.h"

#include <signal.h>
#include <stdio.h>
#include <stdlib.h>
#include <unistd.h>

enum { EXIT_FAILED = 1, EXIT_ARGUMENTS = 2, EXIT_READER_GONE = 3 };

static void say_hello(struct eo_events *events)
{
    eo_events_begin(events, "hello");
    eo_events_text(events, "agent", EO_VERSION);
    eo_events_text(events, "arch", EO_ARCH);
    eo_events_integer(events, "pid", (int64_t)getpid());
    eo_events_end(events);
}

/* Says what the model makes of the texts, or images. */
static int read_samples(struct eo_job *job, struct eo_failure *failure)
{
    int result = eo_job_open_bundle(job, failure);

    if (result == EO_OK) {
        result = eo_job_open_session(job, failure);
    }
    return result == EO_OK ? eo_lines_read(job, eo_answer_text, job, failure) : result;
}

static int info(const struct eo_job *job, struct eo_failure *failure)
{
    const struct eo_session_options *options = &job->arguments->session;
    struct eo_events *events = job->events;
    char text[4096];

    eo_process_features(text, sizeof text);
    eo_events_begin(events, "cpu");
    eo_events_text(events, "arch", EO_ARCH);
    eo_events_words(events, "features", text);
    eo_events_integer(events, "cores_online", (int64_t)sysconf(_SC_NPROCESSORS_ONLN));
    eo_events_end(events);
    if (options->engine != NULL) {
        const struct eo_engine *engine = eo_engine_named(options->engine);
        char path[EO_PATH_BYTES];
        if (engine == NULL) {
            return eo_fail(failure, EO_EINPUT, "--engine", "unknown engine %s", options->engine);
        }
        if (eo_discover(engine, options->libraries, ".", path, failure) != EO_OK ||
            engine->version(path, text, sizeof text, failure) != 0) {
            return failure->code;
        }
        eo_events_begin(events, "engine");
        eo_events_text(events, "engine", engine->name);
        eo_events_text(events, "version", text);
        eo_events_text(events, "library", path);
        eo_events_end(events);
    }
    return eo_job_reader_gone(job, failure);
}

/* Says the clock for each that comes in: who asks can tell its own clock's offset. */
static int tell_clock(struct eo_job *job, struct eo_failure *failure)
{
    char beats[64];

    while (read(STDIN_FILENO, beats, sizeof beats) > 0) {
        eo_events_begin(job->events, "clock");
        eo_events_integer(job->events, "ns", eo_clock_wall_ns());
        eo_events_end(job->events);
    }
    return eo_job_reader_gone(job, failure);
}

/* Gives events the stdout we were started with, and engines, which may print, our stderr. */
static int take_stdout(void)
{
    int descriptor = dup(STDOUT_FILENO);

    if (descriptor < 0 || dup2(STDERR_FILENO, STDOUT_FILENO) < 0) {
        return -1;
    }
    return descriptor;
}

static int fail(struct eo_events *events, const struct eo_failure *failure, int status)
{
    eo_events_begin(events, "error");
    eo_events_text(events, "where", failure->where);
    eo_events_text(events, "message", failure->message);
    eo_events_end(events);
    return eo_events_is_broken(events) ? EXIT_READER_GONE : status;
}

int main(int argc, char **argv)
{
    struct eo_arguments arguments;
    struct eo_failure failure;
    struct eo_events events;
    struct eo_job job = {.arguments = &arguments, .events = &events};
    int descriptor;
    int result;

    if (eo_parse(argc, argv, &arguments, &failure) != EO_OK) {
        eo_events_open(&events, STDOUT_FILENO);
        return fail(&events, &failure, EXIT_ARGUMENTS);
    }
    if (arguments.command == EO_VERSION_ONLY || arguments.command == EO_HELP) {
        return fputs(arguments.command == EO_HELP ? eo_usage : EO_VERSION "\n", stdout) < 0 ||
                       fflush(stdout) != 0
                   ? EXIT_FAILED
                   : 0;
    }
    /* One session runs here, with the threads that it is asked for: what was inherited is another's. */
    if (unsetenv("TVM_NUM_THREADS") != 0) {
        return EXIT_FAILED;
    }
    descriptor = take_stdout();
    /* Without SIGPIPE a write to a closed channel fails, and the agent ends in an orderly way. */
    if (descriptor < 0 || signal(SIGPIPE, SIG_IGN) == SIG_ERR) {
        return EXIT_FAILED;
    }
    eo_events_open(&events, descriptor);
    say_hello(&events);
    switch (arguments.command) {
    case EO_RUN:
    case EO_BLOCKS:
    case EO_TEXTS:
    case EO_OPERATORS:
        result = eo_run(&job, &failure);
        break;
    case EO_READ:
        result = read_samples(&job, &failure);
        break;
    case EO_TOKENS:
        result = eo_tokens(&job, &failure);
        break;
    case EO_CLOCK:
        result = tell_clock(&job, &failure);
        break;
    default:
        result = info(&job, &failure);
    }
    eo_session_close(job.session);
    eo_bundle_close(job.bundle);
    return result == EO_OK ? 0 : fail(&events, &failure, EXIT_FAILED);
}
