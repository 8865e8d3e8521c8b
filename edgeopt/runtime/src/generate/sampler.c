/* SPDX-FileCopyrightText: edgeopt contributors
 * SPDX-License-Identifier: Apache-2.0 */
#include "generate/sampler.h"

#include <math.h>

int eo_sampler_check(const struct eo_sampling *how, struct eo_failure *failure)
{
    const struct {
        const char *name;
        float value, low, high;
    } numbers[] = {{"temperature", how->temperature, 0.0F, 100.0F},
                   {"top_p", how->top_p, 0.0F, 1.0F},
                   {"min_p", how->min_p, 0.0F, 1.0F},
                   {"repetition_penalty", how->repetition_penalty, 0.0F, 100.0F},
                   {"length_penalty", (float)how->length_penalty, -100.0F, 100.0F},
                   {"early_stopping", (float)how->early_stopping, 0.0F, (float)EO_EARLY_NEVER}};

    for (size_t i = 0; i < sizeof numbers / sizeof numbers[0]; i++) {
        /* What is no number is neither. */
        if (!(numbers[i].value >= numbers[i].low && numbers[i].value <= numbers[i].high)) {
            return eo_fail(failure, EO_EINPUT, numbers[i].name, "is %g, expected %g to %g",
                           (double)numbers[i].value, (double)numbers[i].low,
                           (double)numbers[i].high);
        }
    }
    return EO_OK;
}

void eo_sampler_saw(struct eo_sampler *sampler, int32_t id)
{
    sampler->seen[id / 8] |= (uint8_t)(1U << id % 8);
}

float eo_sampler_penalised(const struct eo_sampler *sampler, float logit, uint32_t id)
{
    float penalty = sampler->how.repetition_penalty;

    if (penalty == 0.0F || (sampler->seen[id / 8] >> id % 8 & 1) == 0) {
        return logit;
    }
    return logit < 0 ? logit * penalty : logit / penalty;
}

/* From 0 to below 1. Source: splitmix64.c of Sebastiano Vigna, in the public domain. */
static double random_share(uint64_t *state)
{
    uint64_t z = *state += 0x9e3779b97f4a7c15U;

    z = (z ^ z >> 30) * 0xbf58476d1ce4e5b9U;
    z = (z ^ z >> 27) * 0x94d049bb133111ebU;
    z ^= z >> 31;
    return (double)(z >> 11) * 0x1p-53;
}

static bool is_before(struct eo_candidate a, struct eo_candidate b)
{
    return a.logit > b.logit || (a.logit == b.logit && a.id < b.id);
}

/* Moves the candidate at `at` down until the heap of `count` is one again. */
static void sift(struct eo_candidate *heap, uint32_t at, uint32_t count)
{
    struct eo_candidate moved = heap[at];

    for (uint32_t child; (child = 2 * at + 1) < count; at = child) {
        child += child + 1 < count && is_before(heap[child + 1], heap[child]);
        if (!is_before(heap[child], moved)) {
            break;
        }
        heap[at] = heap[child];
    }
    heap[at] = moved;
}

static double weight(const struct eo_sampler *sampler, struct eo_candidate one, float peak)
{
    return exp(((double)one.logit - peak) / sampler->how.temperature);
}

static double sum(const struct eo_sampler *sampler, uint32_t first, uint32_t end, float peak)
{
    double total = 0;

    for (uint32_t i = first; i < end; i++) {
        total += weight(sampler, sampler->candidates[i], peak);
    }
    return total;
}

/* Puts the best `top_k`, and those as good as the last of them, at the end, the best last; returns
 * where they begin. Without top_k as many are put there as have the share `top_p` of all. */
static uint32_t rank(struct eo_sampler *sampler, float peak)
{
    struct eo_candidate *heap = sampler->candidates;
    uint32_t left = sampler->count, most = sampler->how.top_k;
    double wanted = most == 0 ? sampler->how.top_p * sum(sampler, 0, left, peak) : 0, had = 0;

    for (uint32_t i = left / 2; i-- > 0;) {
        sift(heap, i, left);
    }
    while (left > 0) {
        struct eo_candidate best = heap[0];
        uint32_t taken = sampler->count - left;
        if (taken > 0 && (most > 0 ? taken >= most && best.logit < heap[left].logit
                                   : had >= wanted)) {
            break;
        }
        had += weight(sampler, best, peak);
        heap[0] = heap[--left];
        sift(heap, 0, left);
        heap[left] = best;
    }
    return left;
}

/* Leaves out the worst of the ranked ones beyond top_p's share of them; returns where the rest is. */
static uint32_t cut(const struct eo_sampler *sampler, uint32_t first, float peak)
{
    double wanted = sampler->how.top_p * sum(sampler, first, sampler->count, peak), had = 0;

    for (uint32_t i = sampler->count; i-- > first;) {
        if (had >= wanted && i + 1 < sampler->count) {
            return i + 1;
        }
        had += weight(sampler, sampler->candidates[i], peak);
    }
    return first;
}

static int32_t draw(struct eo_sampler *sampler, uint32_t first, float peak)
{
    const double least = sampler->how.min_p; /* of the best one's weight, which is 1 */
    double total = 0, at, passed = 0;
    int32_t id = 0;

    for (uint32_t i = first; i < sampler->count; i++) {
        double of = weight(sampler, sampler->candidates[i], peak);
        total += of >= least ? of : 0;
    }
    at = random_share(&sampler->state) * total;
    for (uint32_t i = sampler->count; i-- > first;) {
        double of = weight(sampler, sampler->candidates[i], peak);
        if (of >= least) {
            id = sampler->candidates[i].id;
            passed += of;
            if (passed > at) {
                break;
            }
        }
    }
    return id;
}

int eo_sampler_next(struct eo_sampler *sampler, const float *logits, int32_t *id,
                    struct eo_failure *failure)
{
    const struct eo_sampling *how = &sampler->how;
    struct eo_candidate best = {-INFINITY, -1};
    uint32_t first = 0;

    for (uint32_t i = 0; i < sampler->count; i++) {
        struct eo_candidate one = {eo_sampler_penalised(sampler, logits[i], i), (int32_t)i};
        if (isnan(one.logit)) {
            best.id = -1;
            break;
        }
        sampler->candidates[i] = one;
        best = is_before(one, best) ? one : best;
    }
    if (best.id < 0 || isinf(best.logit)) {
        return eo_fail(failure, EO_EENGINE, "logits", "the network gave no numbers");
    }
    *id = best.id;
    if (how->temperature == 0.0F) {
        return EO_OK;
    }
    if (how->top_k > 0 || (how->top_p > 0.0F && how->top_p < 1.0F)) {
        first = rank(sampler, best.logit);
    }
    if (how->top_k > 0 && how->top_p > 0.0F && how->top_p < 1.0F) {
        first = cut(sampler, first, best.logit);
    }
    *id = draw(sampler, first, best.logit);
    return EO_OK;
}
