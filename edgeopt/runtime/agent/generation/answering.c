/* SPDX-FileCopyrightText: edgeopt contributors
 * SPDX-License-Identifier: Apache-2.0 */
#include "generation/answering.h"

#include "clock.h"
#include "generation/golden_prompts.h"
#include "generation/open.h"
#include "measure.h"
#include "memory.h"

#include <poll.h>
#include <stdlib.h>

/* So many logits at most are told of a prompt: each one, each second, and so on. */
enum { LOGITS_TOLD = 1024 };

/* What the timing loop works with. */
struct answering {
    struct eo_job *job;
    struct eo_generator *generator;
    eo_sampling sampling;
    int32_t *prompt;
    uint32_t prompt_count;
    uint32_t new_tokens;
    int64_t *token_ns; /* of each new token of the last answer, from the one before it, or the prompt's start */
    int64_t *tokens;
    int64_t done; /* answers that were sent, of the warm-up or the measured ones */
    bool is_warmup;
};

/* One answer: the clock of the process is read after each token too, which tells tokens apart where
 * instructions are counted. */
static int answer(void *context, struct eo_failure *failure)
{
    struct answering *timed = context;
    int64_t before_ns = eo_clock_wall_ns();
    int result = eo_generator_prompt_tokens(timed->generator, timed->prompt, timed->prompt_count,
                                            &timed->sampling, failure);

    for (uint32_t i = 0; result == EO_OK && i < timed->new_tokens; i++) {
        eo_piece piece;
        int64_t now_ns;
        result = eo_generator_next(timed->generator, &piece, failure);
        now_ns = eo_clock_wall_ns();
        (void)eo_clock_cpu_ns();
        timed->token_ns[i] = now_ns - before_ns;
        timed->tokens[i] = piece.token;
        before_ns = now_ns;
        if (result == EO_OK && piece.token < 0) {
            result = eo_fail(failure, EO_EENGINE, "generator", "an answer ended after %u of %u tokens",
                             (unsigned)i, (unsigned)timed->new_tokens);
        }
    }
    return result;
}

static int send_answer(void *context, const struct eo_samples *samples, struct eo_failure *failure)
{
    struct answering *timed = context;
    struct eo_events *events = timed->job->events;

    eo_events_begin(events, timed->is_warmup ? "warmup" : "samples");
    eo_events_integer(events, "first", timed->done++);
    eo_events_integers(events, timed->is_warmup ? "ns" : "wall_ns", samples->wall_ns, samples->count);
    if (!timed->is_warmup) {
        eo_events_span(events, samples->begin_ns, samples->end_ns);
        eo_events_integers(events, "cpu_ns", samples->cpu_ns, samples->count);
    }
    eo_events_end(events);
    if (!timed->is_warmup) {
        eo_events_begin(events, "answer");
        eo_events_integers(events, "token_ns", timed->token_ns, timed->new_tokens);
        eo_events_integers(events, "tokens", timed->tokens, timed->new_tokens);
        eo_events_end(events);
    }
    return eo_job_reader_gone(timed->job, failure) == EO_OK ? eo_job_host_gone(timed->job, failure)
                                                            : failure->code;
}

/* Each by itself, with an empty cache: a prompt that is in it already would not be read. */
static int time_answers(struct answering *timed, int32_t count, struct eo_failure *failure)
{
    const struct eo_timed loop = {.context = timed, .run = answer, .samples = send_answer};
    int result = EO_OK;

    timed->done = 0;
    for (int32_t i = 0; result == EO_OK && i < count; i++) {
        eo_generator_reset(timed->generator);
        result = eo_measure(&loop, 1, 0, failure);
    }
    return result;
}

/* Says the logits after the prompt that is timed: another machine can tell whether they are right. */
static int say_prompt(struct answering *timed, struct eo_failure *failure)
{
    struct eo_events *events = timed->job->events;
    const float *logits;
    float *told;
    uint32_t count, stride, kept = 0;
    int result;

    eo_generator_reset(timed->generator);
    result = eo_generator_prompt_tokens(timed->generator, timed->prompt, timed->prompt_count,
                                        &timed->sampling, failure);
    if (result != EO_OK) {
        return result;
    }
    logits = eo_generator_logits(timed->generator, &count);
    stride = (count + LOGITS_TOLD - 1) / LOGITS_TOLD;
    told = calloc(LOGITS_TOLD, sizeof *told);
    if (told == NULL) {
        return eo_fail(failure, EO_ENOMEM, "logits", "no memory");
    }
    for (uint32_t i = 0; i < count; i += stride) {
        told[kept++] = logits[i];
    }
    eo_events_begin(events, "prompt");
    eo_events_integer(events, "tokens", (int64_t)timed->prompt_count);
    eo_events_integer(events, "vocabulary", (int64_t)count);
    eo_events_integer(events, "stride", (int64_t)stride);
    eo_events_numbers(events, "logits", told, kept);
    eo_events_end(events);
    free(told);
    return eo_job_reader_gone(timed->job, failure);
}

static int take_memory(struct answering *timed, const struct eo_generate_options *options,
                       struct eo_failure *failure)
{
    timed->prompt_count = (uint32_t)timed->job->arguments->seq_len;
    timed->new_tokens = (uint32_t)options->new_tokens;
    timed->sampling = eo_greedy();
    timed->sampling.max_tokens = timed->new_tokens;
    timed->prompt = calloc(timed->prompt_count, sizeof *timed->prompt);
    timed->token_ns = calloc(timed->new_tokens, sizeof *timed->token_ns);
    timed->tokens = calloc(timed->new_tokens, sizeof *timed->tokens);
    return timed->prompt == NULL || timed->token_ns == NULL || timed->tokens == NULL
               ? eo_fail(failure, EO_ENOMEM, "answers", "no memory")
               : EO_OK;
}

/* Times prompt and answers. A token that ends a text does not end one here: all are as long. */
static int time_all(struct answering *timed, struct eo_failure *failure)
{
    const struct eo_arguments *arguments = timed->job->arguments;
    int result = eo_golden_prompts_fill(timed->job, timed->prompt, timed->prompt_count, failure);

    timed->generator->generation.stops.count = 0;
    if (result == EO_OK) {
        result = say_prompt(timed, failure);
    }
    if (result == EO_OK) {
        timed->is_warmup = true;
        result = time_answers(timed, arguments->warmup, failure);
    }
    timed->is_warmup = false;
    return result == EO_OK ? time_answers(timed, arguments->runs, failure) : result;
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

static int run(struct answering *timed, const struct eo_generate_options *options, bool *agree,
               struct eo_failure *failure)
{
    struct eo_job *job = timed->job;
    int result = take_memory(timed, options, failure);

    if (result == EO_OK && job->arguments->idle_ms > 0) {
        idle(job);
    }
    if (result == EO_OK) {
        result = eo_job_open_bundle(job, failure);
    }
    if (result == EO_OK) {
        eo_memory_say(job, "before");
        result = eo_open_generator(job, options, &timed->generator, failure);
    }
    if (result == EO_OK) {
        eo_memory_say(job, "loaded");
        result = eo_golden_prompts_check(job, timed->generator, agree, failure);
    }
    return result == EO_OK && *agree ? time_all(timed, failure) : result;
}

int eo_answering_run(struct eo_job *job, const struct eo_generate_options *options,
                     struct eo_failure *failure)
{
    const struct eo_arguments *arguments = job->arguments;
    struct answering timed = {.job = job};
    struct eo_state_sampler sampler = {0};
    bool agree = true;
    int result = arguments->seq_len == 0
                     ? eo_fail(failure, EO_EINPUT, "--seq-len", "is missing")
                     : EO_OK;

    if (result == EO_OK && arguments->read_count > 0) {
        result = eo_state_sampler_start(&sampler, arguments->reads, arguments->read_count, job->events,
                                  failure);
    }
    if (result == EO_OK) {
        result = run(&timed, options, &agree, failure);
    }
    eo_state_sampler_stop(&sampler);
    if (result == EO_OK) {
        eo_memory_say(job, "steady");
        eo_events_begin(job->events, "done");
        eo_events_bool(job->events, "outputs_agree", agree);
        eo_events_end(job->events);
    }
    job->session = NULL; /* the generator's */
    eo_generator_close(timed.generator);
    free(timed.prompt);
    free(timed.token_ns);
    free(timed.tokens);
    return result;
}
