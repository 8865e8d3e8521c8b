/* SPDX-FileCopyrightText: edgeopt contributors
 * SPDX-License-Identifier: Apache-2.0 */
#include "tasks/cascade_read.h"

#include "session/session.h"

#include <math.h>
#include <stdlib.h>
#include <string.h>

#define EARLY UINT32_MAX

struct eo_cascade {
    struct eo_arena arena;
    struct eo_cascade_rule rule;
    struct eo_session *small; /* NULL if no text leaves early */
    struct eo_session *large;
    struct eo_text *rest; /* (max_batch) the texts that go on */
    uint32_t *rows;       /* (max_batch) of each text among them, or EARLY */
    uint32_t count;       /* of the last run */
};

static int check_bundle(const char *path, const struct eo_cascade_part *part,
                        const struct eo_bundle *bundle, const char *which,
                        struct eo_failure *failure)
{
    const struct eo_manifest *manifest = &bundle->manifest;
    bool sorts = manifest->task->input == EO_TEXT && manifest->task->result == EO_SCORES;

    if (strcmp(part->digest, manifest->digest) != 0) {
        return eo_fail(failure, EO_EINPUT, path,
                       "was found for the %s bundle %.100s %.12s, but %.100s %.12s was given; "
                       "find it for these bundles with: edgeopt cascade SMALL LARGE --data FILE",
                       which, part->name, part->digest, manifest->name, manifest->digest);
    }
    if (!sorts || manifest->activation != EO_SOFTMAX) {
        return eo_fail(failure, EO_EINPUT, manifest->name,
                       "is for %s%s, but a cascade is for one label a text",
                       manifest->task->name, sorts ? " without softmax" : "");
    }
    return EO_OK;
}

static int check_labels(const struct eo_manifest *small, const struct eo_manifest *large,
                        struct eo_failure *failure)
{
    if (small->label_count == 0) {
        return eo_fail(failure, EO_EINPUT, small->name, "has no labels");
    }
    if (small->label_count != large->label_count) {
        return eo_fail(failure, EO_EINPUT, small->name, "has %u labels, but %.100s has %u",
                       (unsigned)small->label_count, large->name, (unsigned)large->label_count);
    }
    for (uint32_t i = 0; i < small->label_count; i++) {
        if (strcmp(small->labels[i], large->labels[i]) != 0) {
            return eo_fail(failure, EO_EINPUT, small->name,
                           "has other labels than %.100s: label %u is %.100s, there %.100s",
                           large->name, (unsigned)i, small->labels[i], large->labels[i]);
        }
    }
    return EO_OK;
}

static int check_asked(const char *option, const char *asked, const char *found,
                       const struct eo_cascade_part *part, struct eo_failure *failure)
{
    return asked == NULL || strcmp(asked, found) == 0
               ? EO_OK
               : eo_fail(failure, EO_EINPUT, option,
                         "is %.100s, but the cascade was found for %.100s of %.100s; leave it NULL",
                         asked, found, part->name);
}

/* Asks for the artifact of `part`, if the caller did not ask for another. */
static int fix_artifact(const struct eo_cascade_part *part, struct eo_session_options *options,
                        struct eo_failure *failure)
{
    int result = check_asked("engine", options->engine, part->engine, part, failure);

    if (result == EO_OK) {
        result = check_asked("precision", options->precision, part->precision, part, failure);
    }
    options->engine = part->engine;
    options->precision = part->precision;
    return result;
}

static int open_cascade(struct eo_cascade *cascade, const char *path, struct eo_bundle *small,
                        struct eo_bundle *large, const struct eo_session_options *given,
                        struct eo_failure *failure)
{
    const struct eo_cascade_rule *rule = &cascade->rule;
    struct eo_session_options for_small, for_large;
    int result = eo_session_take_options(given, &for_small, failure);

    for_large = for_small;
    if (result == EO_OK) {
        result = eo_cascade_read(path, &cascade->arena, &cascade->rule, failure);
    }
    if (result == EO_OK) {
        result = check_bundle(path, &rule->first, small, "small", failure);
    }
    if (result == EO_OK) {
        result = check_bundle(path, &rule->second, large, "large", failure);
    }
    if (result == EO_OK) {
        result = check_labels(&small->manifest, &large->manifest, failure);
    }
    if (result == EO_OK) {
        result = fix_artifact(&rule->first, &for_small, failure);
    }
    if (result == EO_OK) {
        result = fix_artifact(&rule->second, &for_large, failure);
    }
    if (result == EO_OK && rule->threshold <= 1) {
        result = eo_session_open(small, &for_small, &cascade->small, failure);
    }
    if (result == EO_OK) {
        result = eo_session_open(large, &for_large, &cascade->large, failure);
    }
    if (result == EO_OK) {
        const uint32_t batch = cascade->large->max_batch;
        cascade->rest = eo_arena_take(&cascade->arena, batch, sizeof *cascade->rest);
        cascade->rows = eo_arena_take(&cascade->arena, batch, sizeof *cascade->rows);
        if (cascade->rest == NULL || cascade->rows == NULL) {
            result = eo_fail(failure, EO_ENOMEM, path, "no memory for %u texts", (unsigned)batch);
        }
    }
    return result;
}

int eo_cascade_open(const char *path, eo_bundle *small, eo_bundle *large,
                    const eo_session_options *options, eo_cascade **out, eo_failure *failure)
{
    struct eo_cascade *cascade = calloc(1, sizeof *cascade);
    struct eo_failure local;
    struct eo_failure *told = failure != NULL ? failure : &local;
    int result;

    *out = NULL;
    if (cascade == NULL) {
        return eo_fail(told, EO_ENOMEM, path, "no memory for a cascade");
    }
    result = open_cascade(cascade, path, small, large, options, told);
    if (result != EO_OK) {
        eo_cascade_close(cascade);
        return result;
    }
    *out = cascade;
    return EO_OK;
}

void eo_cascade_close(eo_cascade *cascade)
{
    if (cascade == NULL) {
        return;
    }
    eo_session_close(cascade->small);
    eo_session_close(cascade->large);
    eo_arena_free(&cascade->arena);
    free(cascade);
}

/* The logit behind a score, but for a constant that all of a text have, over the temperature. A score
 * of 0 was rounded to it. NaN stays NaN. */
static double scaled(float score, double temperature)
{
    const double probability = (double)score;

    return log(probability < 1e-30 ? 1e-30 : probability) / temperature;
}

/* The highest probability after temperature scaling, as `confidence` of edgeopt/run/early_exit.py
 * and `_logits` of edgeopt/run/cascade.py find it. NaN, which is never sure, if a score is. */
static double confidence(const struct eo_result *result, double temperature)
{
    const double most = scaled(result->items[0].score, temperature); /* best first */
    double sum = 0;

    for (uint32_t i = 0; i < result->item_count; i++) {
        sum += exp(scaled(result->items[i].score, temperature) - most);
    }
    return 1 / sum;
}

int eo_cascade_run_texts(eo_cascade *cascade, const eo_text *texts, uint32_t count,
                         eo_failure *failure)
{
    const struct eo_cascade_rule *rule = &cascade->rule;
    uint32_t left = 0;
    int result = EO_OK;

    cascade->count = 0;
    if (count == 0 || count > cascade->large->max_batch) {
        return eo_fail(failure, EO_EINPUT, "texts",
                       "%u of them, the cascade was opened for 1 to %u", (unsigned)count,
                       (unsigned)cascade->large->max_batch);
    }
    if (cascade->small != NULL) {
        result = eo_session_run_texts(cascade->small, texts, count, failure);
    }
    for (uint32_t i = 0; result == EO_OK && i < count; i++) {
        const bool sure = cascade->small != NULL &&
                          confidence(eo_session_result(cascade->small, i), rule->temperature) >=
                              rule->threshold;
        cascade->rows[i] = sure ? EARLY : left;
        if (!sure) {
            cascade->rest[left++] = texts[i];
        }
    }
    if (left > 0) {
        result = eo_session_run_texts(cascade->large, cascade->rest, left, failure);
    }
    cascade->count = result == EO_OK ? count : 0;
    return result;
}

const eo_result *eo_cascade_result(const eo_cascade *cascade, uint32_t index)
{
    if (index >= cascade->count) {
        return NULL;
    }
    return cascade->rows[index] == EARLY
               ? eo_session_result(cascade->small, index)
               : eo_session_result(cascade->large, cascade->rows[index]);
}

uint32_t eo_cascade_early(const eo_cascade *cascade, uint32_t index)
{
    return index < cascade->count && cascade->rows[index] == EARLY;
}
