/* SPDX-FileCopyrightText: edgeopt contributors
 * SPDX-License-Identifier: Apache-2.0 */
#include "run.h"

#include "clock.h"
#include "golden_calls.h"
#include "golden_texts.h"
#include "lines.h"
#include "measure.h"
#include "memory.h"
#include "operators.h"

#include <poll.h>
#include <unistd.h>

/* What the timing loop works with. */
struct timed {
    struct eo_job *job;
    const struct eo_text *text; /* NULL: what lies in the inputs */
    bool is_warmup;
};

static int run_timed(void *context, struct eo_failure *failure)
{
    const struct timed *timed = context;

    return timed->text == NULL ? eo_session_run(timed->job->session, failure)
                               : eo_session_run_texts(timed->job->session, timed->text, 1, failure);
}

static int send_samples(void *context, const struct eo_samples *samples, struct eo_failure *failure)
{
    const struct timed *timed = context;
    struct eo_job *job = timed->job;

    eo_events_begin(job->events, timed->is_warmup ? "warmup" : "samples");
    eo_events_integer(job->events, "first", samples->first);
    eo_events_integers(job->events, timed->is_warmup ? "ns" : "wall_ns", samples->wall_ns, samples->count);
    if (!timed->is_warmup) {
        eo_events_span(job->events, samples->begin_ns, samples->end_ns);
        eo_events_integers(job->events, "cpu_ns", samples->cpu_ns, samples->count);
    }
    eo_events_end(job->events);
    return eo_job_reader_gone(job, failure) == EO_OK ? eo_job_host_gone(job, failure) : failure->code;
}

static int time_runs(struct timed *timed, int64_t runs, int64_t duration_ms,
                     struct eo_failure *failure)
{
    const struct eo_timed loop = {.context = timed, .run = run_timed, .samples = send_samples};

    return eo_measure(&loop, runs, duration_ms * 1000000, failure);
}

/* Reads how many runs the next block has: a number in a line; 0 at the end of the input. Empty lines
 * say that the host lives. Reads byte by byte, so that nothing of a later block is lost. */
static int next_block(int64_t *runs, struct eo_failure *failure)
{
    struct pollfd input = {.fd = STDIN_FILENO, .events = POLLIN};
    bool digits = false;
    char byte = 0;

    *runs = 0;
    for (;;) {
        ssize_t got = poll(&input, 1, EO_SILENCE_S * 1000) > 0 ? read(STDIN_FILENO, &byte, 1) : -1;
        if (got == 0) {
            return digits ? eo_fail(failure, EO_EINPUT, "stdin", "ends within a line") : EO_OK;
        }
        if (got < 0) {
            return eo_fail(failure, EO_EIO, "stdin", "the host is gone");
        }
        if (byte == '\n' && *runs > 0) {
            return EO_OK;
        }
        if (byte != '\n' && (byte < '0' || byte > '9' || *runs > 100000000)) {
            return eo_fail(failure, EO_EINPUT, "stdin", "expected a number of runs in each line");
        }
        digits = byte != '\n';
        *runs = digits ? *runs * 10 + (byte - '0') : 0;
    }
}

/* Times the blocks of runs that the host asks for, one by one: another program runs in between. */
static int time_blocks(struct timed *timed, struct eo_failure *failure)
{
    const struct eo_job *job = timed->job;
    int64_t runs = 1;
    int result = eo_job_reader_gone(job, failure);

    while (result == EO_OK && (result = next_block(&runs, failure)) == EO_OK && runs > 0) {
        result = time_runs(timed, runs, 0, failure);
        if (result == EO_OK) {
            eo_events_begin(job->events, "block");
            eo_events_integer(job->events, "runs", runs);
            eo_events_end(job->events);
            result = eo_job_reader_gone(job, failure);
        }
    }
    return result;
}

/* Times one text as it is served, when it comes: from the text to the answer. The host waits for that
 * before it sends the next. */
static int time_text(void *context, const struct eo_text *text, struct eo_failure *failure)
{
    struct timed *timed = context;
    const struct eo_job *job = timed->job;
    int result;

    timed->text = text;
    result = time_runs(timed, 1, 0, failure);
    if (result == EO_OK) {
        const struct eo_result *found = eo_session_result(job->session, 0);
        eo_events_begin(job->events, "text");
        eo_events_integer(job->events, "tokens", found->tokens);
        eo_events_bool(job->events, "truncated", found->truncated != 0);
        eo_events_end(job->events);
    }
    return result;
}

/* Each run by itself, so that none is timed with what is said of another. */
static int time_operators(struct timed *timed, struct eo_failure *failure)
{
    const struct eo_job *job = timed->job;
    int result = eo_operators_say(job->session, job->events, failure);

    for (int32_t i = 0; result == EO_OK && i < job->arguments->runs; i++) {
        result = time_runs(timed, 1, 0, failure);
    }
    return result == EO_OK ? eo_operators_say(job->session, job->events, failure) : result;
}

/* Says that the host may ask now: for blocks of runs, or texts. */
static void say_ready(const struct eo_job *job)
{
    eo_events_begin(job->events, "ready");
    eo_events_end(job->events);
}

static int time_as_asked(struct timed *timed, struct eo_failure *failure)
{
    const struct eo_arguments *arguments = timed->job->arguments;

    if (arguments->command == EO_RUN) {
        return time_runs(timed, arguments->runs, arguments->duration_ms, failure);
    }
    if (arguments->command == EO_OPERATORS) {
        return time_operators(timed, failure);
    }
    say_ready(timed->job);
    return arguments->command == EO_BLOCKS
               ? time_blocks(timed, failure)
               : eo_lines_read(timed->job, time_text, timed, failure);
}

/* Lets the board rest for so long, and says from when to when. */
static void idle(const struct eo_job *job)
{
    const int64_t begin_ns = eo_clock_wall_ns();

    (void)poll(NULL, 0, job->arguments->idle_ms); /* no signal of ours returns from it */
    eo_events_begin(job->events, "idle");
    eo_events_span(job->events, begin_ns, eo_clock_wall_ns());
    eo_events_end(job->events);
}

int eo_run(struct eo_job *job, struct eo_failure *failure)
{
    const struct eo_arguments *arguments = job->arguments;
    struct timed timed = {.job = job};
    struct eo_state_sampler sampler = {0};
    bool agree = true;
    int result = arguments->read_count == 0
                     ? EO_OK
                     : eo_state_sampler_start(&sampler, arguments->reads, arguments->read_count,
                                        job->events, failure);

    if (result == EO_OK && arguments->idle_ms > 0) {
        idle(job);
    }
    if (result == EO_OK) {
        result = eo_job_open_bundle(job, failure);
    }
    if (result == EO_OK) {
        eo_memory_say(job, "before");
        result = eo_job_open_session(job, failure);
    }
    if (result == EO_OK) {
        eo_memory_say(job, "loaded");
        result = eo_golden_calls_check(job, true, &agree, failure);
    }
    if (result == EO_OK) {
        eo_memory_say(job, "first");
        result = eo_golden_texts_check(job->bundle, job->session, job->events, &agree, failure);
    }
    if (result == EO_OK) {
        result = eo_golden_calls_check(job, false, &agree, failure);
    }
    if (result == EO_OK && job->session->max_batch > 1) {
        result = eo_golden_batch_check(job, &agree, failure);
    }
    if (result == EO_OK && agree) {
        timed.is_warmup = true;
        result = time_runs(&timed, arguments->warmup, 0, failure);
        timed.is_warmup = false;
    }
    if (result == EO_OK && agree) {
        result = time_as_asked(&timed, failure);
    }
    eo_state_sampler_stop(&sampler);
    if (result == EO_OK) {
        eo_memory_say(job, "steady");
        eo_events_begin(job->events, "done");
        eo_events_bool(job->events, "outputs_agree", agree);
        eo_events_end(job->events);
    }
    return result;
}
