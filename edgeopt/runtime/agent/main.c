/* SPDX-FileCopyrightText: edgeopt contributors
 * SPDX-License-Identifier: Apache-2.0 */
/* edgeopt-agent: opens a bundle on the board with the runtime library, checks an artifact against its
 * golden outputs, and times it. */
#include "answers.h"
#include "base/arch.h"
#include "lines.h"
#include "process.h"
#include "program.h"
#include "run.h"
#include "tokens.h"

#include <stdio.h>
#include <unistd.h>

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

int main(int argc, char **argv)
{
    struct eo_arguments arguments;
    struct eo_failure failure;
    struct eo_events events;
    struct eo_job job = {.arguments = &arguments, .events = &events};
    int result;

    if (eo_parse(argc, argv, &arguments, &failure) != EO_OK) {
        eo_events_open(&events, STDOUT_FILENO);
        return eo_program_fail(&events, &failure, EXIT_ARGUMENTS);
    }
    if (arguments.command == EO_VERSION_ONLY || arguments.command == EO_HELP) {
        return fputs(arguments.command == EO_HELP ? eo_usage : EO_VERSION "\n", stdout) < 0 ||
                       fflush(stdout) != 0
                   ? EXIT_FAILED
                   : 0;
    }
    if (!eo_program_begin(&events)) {
        return EXIT_FAILED;
    }
    eo_program_hello(&events);
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
        result = eo_program_clock(&job, &failure);
        break;
    default:
        result = info(&job, &failure);
    }
    eo_session_close(job.session);
    eo_bundle_close(job.bundle);
    return result == EO_OK ? 0 : eo_program_fail(&events, &failure, EXIT_FAILED);
}
