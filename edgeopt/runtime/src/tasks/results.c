/* SPDX-FileCopyrightText: edgeopt contributors
 * SPDX-License-Identifier: Apache-2.0 */
#include "tasks/results.h"

#include "bundle/bundle.h"

#include <math.h>
#include <string.h>

enum { ANSWER_TOKENS_MAX = 15 };

int eo_results_is_after(const struct eo_item *a, const struct eo_item *b)
{
    return a->score < b->score ||
           (a->score == b->score &&
            (a->label > b->label || (a->label == b->label && a->begin > b->begin)));
}

void eo_results_sift(struct eo_item *items, uint32_t at, uint32_t count)
{
    for (uint32_t child = 2 * at + 1; child < count; child = 2 * at + 1) {
        struct eo_item swapped;
        if (child + 1 < count && eo_results_is_after(&items[child + 1], &items[child])) {
            child++;
        }
        if (!eo_results_is_after(&items[child], &items[at])) {
            return;
        }
        swapped = items[at];
        items[at] = items[child];
        items[child] = swapped;
        at = child;
    }
}

void eo_results_heapify(struct eo_item *items, uint32_t count)
{
    for (uint32_t i = count / 2; i-- > 0;) {
        eo_results_sift(items, i, count);
    }
}

void eo_results_sort(struct eo_item *items, uint32_t count)
{
    eo_results_heapify(items, count);
    for (uint32_t left = count; left > 1;) {
        const struct eo_item last = items[0];
        left--;
        items[0] = items[left];
        items[left] = last;
        eo_results_sift(items, 0, left);
    }
}

static float largest(const float *values, uint32_t count)
{
    float most = values[0];

    for (uint32_t i = 1; i < count; i++) {
        most = values[i] > most ? values[i] : most;
    }
    return most;
}

uint32_t eo_results_classify(const float *logits, uint32_t count, enum eo_activation activation,
                             struct eo_item *items)
{
    float most = count == 0 ? 0 : largest(logits, count), sum = 0;

    for (uint32_t i = 0; i < count; i++) {
        float score = activation == EO_SOFTMAX   ? expf(logits[i] - most)
                      : activation == EO_SIGMOID ? 1 / (1 + expf(-logits[i]))
                                                 : logits[i];
        items[i] = (struct eo_item){.label = i, .score = score};
        sum += score;
    }
    for (uint32_t i = 0; activation == EO_SOFTMAX && i < count; i++) {
        items[i].score /= sum;
    }
    eo_results_sort(items, count);
    return count;
}

int eo_bundle_compare(const eo_bundle *bundle, const float *image, const float *texts,
                      uint32_t count, uint32_t size, float *logits, float *scores,
                      eo_failure *failure)
{
    const struct eo_manifest *manifest = &bundle->manifest;
    float sum = 0, most = -INFINITY;

    if (manifest->task->outputs != 0) {
        return eo_fail(failure, EO_EINPUT, manifest->name,
                       "is for %s: it compares no image with texts", manifest->task->name);
    }
    for (uint32_t i = 0; i < count; i++) {
        double product = 0;
        float logit;
        for (uint32_t j = 0; j < size; j++) {
            product += (double)image[j] * (double)texts[(size_t)i * size + j];
        }
        logit = (float)(product * manifest->scale + manifest->bias);
        most = logit > most ? logit : most;
        if (logits != NULL) {
            logits[i] = logit;
        }
        if (scores != NULL) {
            scores[i] = logit;
        }
    }
    for (uint32_t i = 0; scores != NULL && i < count; i++) {
        scores[i] = manifest->activation == EO_SOFTMAX ? expf(scores[i] - most)
                                                       : 1 / (1 + expf(-scores[i]));
        sum += scores[i];
    }
    for (uint32_t i = 0; scores != NULL && manifest->activation == EO_SOFTMAX && i < count; i++) {
        scores[i] /= sum;
    }
    return EO_OK;
}

/* The entity that a label is of: what follows "B-" or "I-". */
static const char *entity_of(const char *label)
{
    return (label[0] == 'B' || label[0] == 'I') && label[1] == '-' ? label + 2 : label;
}

uint32_t eo_results_entities(const struct eo_manifest *manifest, const float *logits,
                             const struct eo_token *tokens, uint32_t count, struct eo_item *items)
{
    uint32_t labels = manifest->label_count, used = 0, joined = 0;
    const char *before = NULL; /* the label of the group that is open; NULL: none */

    for (uint32_t i = 0; i < count; i++) {
        const float *row = logits + (size_t)i * labels;
        const char *label;
        float sum = 0;
        uint32_t best = 0;
        if (tokens[i].special != 0) {
            continue;
        }
        for (uint32_t j = 1; j < labels; j++) {
            best = row[j] > row[best] ? j : best;
        }
        for (uint32_t j = 0; j < labels; j++) {
            sum += expf(row[j] - row[best]);
        }
        label = manifest->labels[best];
        if (strcmp(label, "O") == 0) {
            before = NULL;
            continue;
        }
        if (before != NULL && strcmp(entity_of(before), entity_of(label)) == 0 &&
            strncmp(label, "B-", 2) != 0) {
            struct eo_item *open = &items[used - 1];
            open->score += (1 / sum - open->score) / (float)++joined;
            open->end = tokens[i].end;
        } else {
            items[used++] = (struct eo_item){.label = best,
                                             .score = 1 / sum,
                                             .begin = tokens[i].begin,
                                             .end = tokens[i].end};
            joined = 1;
        }
        before = label;
    }
    return used;
}

void eo_results_embed(const struct eo_manifest *manifest, const float *hidden, uint32_t count,
                      uint32_t size, float *vector)
{
    float squares = 0;

    memcpy(vector, hidden, size * sizeof *vector); /* the first token's */
    for (uint32_t i = 1; manifest->pooling != EO_CLS && i < count; i++) {
        const float *row = hidden + (size_t)i * size;
        for (uint32_t j = 0; j < size; j++) {
            vector[j] = manifest->pooling == EO_MEAN ? vector[j] + row[j]
                        : row[j] > vector[j]         ? row[j]
                                                     : vector[j];
        }
    }
    for (uint32_t j = 0; j < size; j++) {
        vector[j] /= manifest->pooling == EO_MEAN ? (float)count : 1;
        squares += vector[j] * vector[j];
    }
    for (uint32_t j = 0; manifest->normalize && squares > 0 && j < size; j++) {
        vector[j] /= sqrtf(squares);
    }
}

static bool in_context(const struct eo_token *token)
{
    return token->sequence == 1 && !token->special;
}

/* 1 / the sum of exp(logit - most) over the context and the first token, which stands for "no
 * answer"; 0 if nothing is finite. */
static float normaliser(const float *logits, const struct eo_token *tokens, uint32_t count,
                        float *most)
{
    float sum = 0;

    *most = logits[0];
    for (uint32_t i = 1; i < count; i++) {
        *most = in_context(&tokens[i]) && logits[i] > *most ? logits[i] : *most;
    }
    for (uint32_t i = 0; i < count; i++) {
        sum += i == 0 || in_context(&tokens[i]) ? expf(logits[i] - *most) : 0;
    }
    return sum > 0 ? 1 / sum : 0;
}

/* From the first to the last token of the words that tokens first..last are in. */
static struct eo_item span_of(const struct eo_token *tokens, uint32_t count, uint32_t first,
                              uint32_t last, float score)
{
    uint32_t from = first, to = last;

    while (from > 0 && in_context(&tokens[from - 1]) &&
           tokens[from - 1].word == tokens[first].word) {
        from--;
    }
    while (to + 1 < count && in_context(&tokens[to + 1]) &&
           tokens[to + 1].word == tokens[last].word) {
        to++;
    }
    return (struct eo_item){.score = score, .begin = tokens[from].begin, .end = tokens[to].end};
}

/* Puts `item` in its place by score; a span that is there already keeps its better score. */
static uint32_t insert_answer(struct eo_item *items, uint32_t used, uint32_t max,
                              const struct eo_item *item)
{
    uint32_t at = used;

    for (uint32_t i = 0; i < used; i++) {
        if (items[i].begin == item->begin && items[i].end == item->end) {
            if (items[i].score >= item->score) {
                return used;
            }
            memmove(items + i, items + i + 1, (used - i - 1) * sizeof *items);
            used--;
            at = used;
            break;
        }
    }
    while (at > 0 && items[at - 1].score < item->score) {
        at--;
    }
    if (at == max) {
        return used;
    }
    used = used == max ? max - 1 : used;
    memmove(items + at + 1, items + at, (used - at) * sizeof *items);
    items[at] = *item;
    return used + 1;
}

uint32_t eo_results_answers(const float *start, const float *end, const struct eo_token *tokens,
                            uint32_t count, struct eo_item *items, uint32_t used, uint32_t max)
{
    float start_most, end_most;
    float start_part = normaliser(start, tokens, count, &start_most);
    float end_part = normaliser(end, tokens, count, &end_most);

    for (uint32_t i = 0; i < count; i++) {
        float first;
        if (!in_context(&tokens[i])) {
            continue;
        }
        first = expf(start[i] - start_most) * start_part;
        for (uint32_t j = i; j < count && j < i + ANSWER_TOKENS_MAX; j++) {
            float score = first * expf(end[j] - end_most) * end_part;
            if (in_context(&tokens[j]) && (used < max || score > items[used - 1].score)) {
                struct eo_item item = span_of(tokens, count, i, j, score);
                used = insert_answer(items, used, max, &item);
            }
        }
    }
    return used;
}
