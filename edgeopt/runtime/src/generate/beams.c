/* SPDX-FileCopyrightText: edgeopt contributors
 * SPDX-License-Identifier: Apache-2.0 */
/* All beams run in the one cache, one after the other. What a run adds to it is kept apart, by the
 * beam that ran; a beam's history names for each of its tokens whose run it was. Before a run only
 * what the cache has of another beam is copied into it. Source of the rules:
 * GenerationMixin._beam_search of transformers 5. */
#include "generate/beams.h"

#include "generate/cache.h"
#include "generate/evaluate.h"

#include <math.h>
#include <stdlib.h>
#include <string.h>

/* A way to go on. */
struct option {
    float score; /* sum of log probabilities */
    uint32_t beam;
    int32_t token;
};

struct beam {
    float score;     /* of an ended one: with the length penalty */
    uint32_t count;  /* tokens of the answer */
    int32_t *tokens; /* context */
    uint8_t *runs;   /* context: the beam that ran each */
};

struct eo_beams {
    struct beam all[3][EO_BEAMS_MAX];
    struct beam *now, *next, *ended; /* of these; the best first */
    uint32_t now_count, ended_count;
    struct option *options; /* the best first */
    uint32_t option_count, option_most;
    uint8_t *in_cache; /* context: whose run the cache has of each token of the answer */
    char *rows;        /* (beams, context, row_bytes) */
    size_t row_bytes;
};

uint64_t eo_beams_row_bytes(const struct eo_generation *generation, uint32_t beams)
{
    return beams > 1 ? beams * eo_cache_row_bytes(generation, false) : 0;
}

int eo_beams_open(struct eo_generator *generator, struct eo_failure *failure)
{
    struct eo_arena *arena = &generator->session.arena;
    const uint32_t beams = generator->beams, context = generator->context;
    const uint32_t stops = generator->generation.stops.count;
    struct eo_beams *all = beams < 2 ? NULL : eo_arena_take(arena, 1, sizeof *all);
    bool whole = all != NULL;

    if (beams < 2) {
        return EO_OK;
    }
    for (uint32_t i = 0; whole && i < 3 * EO_BEAMS_MAX; i++) {
        struct beam *one = &all->all[i / EO_BEAMS_MAX][i % EO_BEAMS_MAX];
        if (i % EO_BEAMS_MAX < beams) {
            one->tokens = eo_arena_take(arena, context, sizeof *one->tokens);
            one->runs = eo_arena_take(arena, context, 1);
            whole = one->tokens != NULL && one->runs != NULL;
        }
    }
    if (whole) {
        all->now = all->all[0];
        all->next = all->all[1];
        all->ended = all->all[2];
        all->option_most = (stops > 1 ? 1 + stops : 2) * beams; /* as many may all end */
        all->options = eo_arena_take(arena, all->option_most, sizeof *all->options);
        all->in_cache = eo_arena_take(arena, context, 1);
        all->row_bytes = (size_t)eo_cache_row_bytes(&generator->generation, false);
        /* Not touched here, as the cache itself is not. */
        all->rows = calloc((size_t)beams * context, all->row_bytes);
        whole = all->options != NULL && all->in_cache != NULL && all->rows != NULL;
        generator->search = all;
    }
    return whole ? EO_OK
                 : eo_fail(failure, EO_ENOMEM, "beams", "no memory for %u of them", (unsigned)beams);
}

void eo_beams_close(struct eo_generator *generator)
{
    if (generator->search != NULL) {
        free(generator->search->rows);
    }
}

int32_t eo_beams_token(const struct eo_generator *generator)
{
    return generator->search->ended[0].tokens[generator->answered];
}

/* The row of the answer's token at `at`, as `run` made it. */
static char *row_of(const struct eo_generator *generator, uint32_t run, uint32_t at)
{
    const struct eo_beams *all = generator->search;

    return all->rows + ((size_t)run * generator->context + at) * all->row_bytes;
}

/* Has `generator` stand where beam `index` does, and runs its last token. */
static int run_beam(struct eo_generator *generator, uint32_t index, uint32_t prompt,
                    struct eo_failure *failure)
{
    struct eo_beams *all = generator->search;
    struct beam *beam = &all->now[index];
    const uint32_t last = beam->count - 1;
    uint32_t begins;
    int result;

    generator->count = prompt;
    begins = eo_decoded(generator);
    memcpy(generator->tokens + prompt, beam->tokens, beam->count * sizeof *beam->tokens);
    generator->count = prompt + beam->count;
    generator->answered = beam->count;
    for (uint32_t i = 0; i < last; i++) {
        if (all->in_cache[i] != beam->runs[i]) {
            eo_cache_copy(generator, false, begins + i, row_of(generator, beam->runs[i], i), true);
            all->in_cache[i] = beam->runs[i];
        }
    }
    generator->cached = begins + last;
    result = eo_evaluate(generator, failure);
    if (result == EO_OK) {
        beam->runs[last] = all->in_cache[last] = (uint8_t)index;
        eo_cache_copy(generator, false, begins + last, row_of(generator, index, last), false);
        if (generator->sampler.how.repetition_penalty != 0.0F) {
            eo_see(generator);
        }
    }
    return result;
}

static void add_option(struct eo_beams *all, struct option one)
{
    uint32_t at = all->option_count;

    if (at == all->option_most && !(one.score > all->options[at - 1].score)) {
        return;
    }
    at -= at == all->option_most;
    all->option_count = at + 1;
    for (; at > 0 && one.score > all->options[at - 1].score; at--) {
        all->options[at] = all->options[at - 1];
    }
    all->options[at] = one;
}

/* Adds the ways in which beam `index`, whose logits are those of the last run, may go on. */
static int add_options(struct eo_generator *generator, uint32_t index, struct eo_failure *failure)
{
    struct eo_beams *all = generator->search;
    const float before = all->now[index].score, *logits = generator->logits;
    const int32_t forced = eo_forced(generator);
    float peak = -INFINITY, scale;
    double sum = 0;

    for (uint32_t i = 0; i < generator->vocabulary; i++) {
        peak = logits[i] > peak || isnan(logits[i]) ? logits[i] : peak;
    }
    for (uint32_t i = 0; i < generator->vocabulary; i++) {
        sum += expf(logits[i] - peak);
    }
    if (!isfinite(sum)) {
        return eo_fail(failure, EO_EENGINE, "logits", "the network gave no numbers");
    }
    if (forced >= 0) {
        add_option(all, (struct option){before, index, forced});
        return EO_OK;
    }
    scale = (float)log(sum);
    eo_ban(generator); /* what is banned leaves the others as likely as they were */
    for (uint32_t i = 0; i < generator->vocabulary; i++) {
        float found = eo_sampler_penalised(&generator->sampler, logits[i] - peak - scale, i);
        if (found > -INFINITY) {
            add_option(all, (struct option){before + found, index, (int32_t)i});
        }
    }
    return EO_OK;
}

/* `beam` becomes what `option` makes of it. */
static void extend(const struct eo_beams *all, const struct option *option, struct beam *beam)
{
    const struct beam *from = &all->now[option->beam];

    memcpy(beam->tokens, from->tokens, from->count * sizeof *from->tokens);
    memcpy(beam->runs, from->runs, from->count);
    beam->tokens[from->count] = option->token;
    beam->count = from->count + 1;
    beam->score = option->score;
}

/* Puts an ended beam among the best ones. */
static void end_beam(struct eo_beams *all, const struct option *option, float score, uint32_t most)
{
    uint32_t at = all->ended_count;
    struct beam one;

    if (at == most && !(score > all->ended[at - 1].score)) {
        return;
    }
    at -= at == most;
    all->ended_count = at + 1;
    one = all->ended[at]; /* its memory */
    extend(all, option, &one);
    one.score = score;
    for (; at > 0 && score > all->ended[at - 1].score; at--) {
        all->ended[at] = all->ended[at - 1];
    }
    all->ended[at] = one;
}

/* Takes the best ways to go on; false if no beam goes on, or none can become better. */
static bool go_on(struct eo_generator *generator, uint32_t length, uint32_t longest)
{
    const eo_sampling *how = &generator->sampler.how;
    const bool never = how->early_stopping == EO_EARLY_NEVER && how->length_penalty > 0;
    const float scale = (float)pow(length, how->length_penalty);
    const float best = never ? (float)pow(longest, how->length_penalty) : scale;
    struct eo_beams *all = generator->search;
    struct beam *before;
    uint32_t count = 0;

    for (uint32_t i = 0; i < all->option_count; i++) {
        const struct option *one = &all->options[i];
        if (length < longest && !eo_is_stop(generator, one->token)) {
            if (count < how->num_beams) {
                extend(all, one, &all->next[count++]);
            }
        } else if (i < how->num_beams) {
            end_beam(all, one, one->score / scale, how->num_beams);
        }
    }
    before = all->now;
    all->now = all->next;
    all->next = before;
    all->now_count = count;
    return count > 0 && (all->ended_count < how->num_beams ||
                         (how->early_stopping != EO_EARLY_YES &&
                          all->now[0].score / best > all->ended[how->num_beams - 1].score));
}

/* From the prompt, whose logits are those of the last run. */
static int search(struct eo_generator *generator, uint32_t prompt, struct eo_failure *failure)
{
    struct eo_beams *all = generator->search;
    const uint32_t longest = eo_room(generator);
    uint32_t length = 0;
    int result = EO_OK;

    all->now[0].score = 0;
    all->now[0].count = all->ended_count = 0;
    all->now_count = 1;
    memset(all->in_cache, EO_BEAMS_MAX, generator->context); /* no beam's */
    do {
        all->option_count = 0;
        for (uint32_t i = 0; result == EO_OK && i < all->now_count; i++) {
            result = length == 0 ? EO_OK : run_beam(generator, i, prompt, failure);
            if (result == EO_OK) {
                result = add_options(generator, i, failure);
            }
        }
        length++;
    } while (result == EO_OK && go_on(generator, length, longest));
    if (result == EO_OK && all->ended_count == 0) {
        result = eo_fail(failure, EO_EENGINE, "logits", "no token may be chosen");
    }
    return result;
}

int eo_beams_search(struct eo_generator *generator, struct eo_failure *failure)
{
    const uint32_t answered = generator->answered, prompt = generator->count - answered;
    int result;

    if (generator->found) {
        return EO_OK;
    }
    generator->count = prompt;
    generator->answered = 0;
    eo_see(generator);
    result = eo_evaluate(generator, failure);
    if (result == EO_OK) {
        result = search(generator, prompt, failure);
    }
    /* The prompt's last token is run again if it is asked for its logits. */
    generator->count = prompt;
    generator->cached = eo_decoded(generator) - 1;
    generator->answered = answered;
    generator->count = prompt + answered;
    generator->found = result == EO_OK;
    if (result == EO_OK) {
        memcpy(generator->tokens + prompt, generator->search->ended[0].tokens,
               answered * sizeof *generator->tokens);
    }
    return result;
}
