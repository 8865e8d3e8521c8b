/* SPDX-FileCopyrightText: edgeopt contributors
 * SPDX-License-Identifier: Apache-2.0 */
#include "tasks/boxes.h"

#include "tasks/results.h"

#include <math.h>

/* The query that an item came from stands in its `begin` until its box is found. */

static struct eo_item best_of(const float *logits, uint32_t query, uint32_t labels, uint32_t width)
{
    uint32_t best = 0;
    float most, sum = 0;

    for (uint32_t i = 1; i < labels; i++) {
        best = logits[i] > logits[best] ? i : best;
    }
    most = logits[best];
    for (uint32_t i = labels; i < width; i++) {
        most = logits[i] > most ? logits[i] : most;
    }
    for (uint32_t i = 0; i < width; i++) {
        sum += expf(logits[i] - most);
    }
    return (struct eo_item){
        .label = best, .score = expf(logits[best] - most) / sum, .begin = query};
}

/* The best `queries` of all labels of all queries: a heap keeps them, the worst on top. */
static void keep_best(const struct eo_proposals *found, uint32_t labels, struct eo_item *items)
{
    uint32_t used = 0;

    for (uint32_t query = 0; query < found->queries; query++) {
        const float *logits = found->logits + (size_t)query * found->width;
        for (uint32_t label = 0; label < labels; label++) {
            const struct eo_item item = {.label = label, .score = logits[label], .begin = query};
            if (used < found->queries) {
                items[used++] = item;
                if (used == found->queries) {
                    eo_results_heapify(items, used);
                }
            } else if (eo_results_is_after(&items[0], &item)) {
                items[0] = item;
                eo_results_sift(items, 0, used);
            }
        }
    }
    for (uint32_t i = 0; i < used; i++) {
        items[i].score = 1 / (1 + expf(-items[i].score));
    }
}

void eo_boxes_find(const struct eo_manifest *manifest, const struct eo_proposals *found,
                   const struct eo_image *image, struct eo_item *items, struct eo_box *boxes)
{
    const float across = (float)image->width, down = (float)image->height;

    if (manifest->activation == EO_SOFTMAX) {
        for (uint32_t i = 0; i < found->queries; i++) {
            items[i] = best_of(found->logits + (size_t)i * found->width, i, manifest->label_count,
                               found->width);
        }
    } else {
        keep_best(found, manifest->label_count, items);
    }
    eo_results_sort(items, found->queries);
    for (uint32_t i = 0; i < found->queries; i++) {
        const float *box = found->boxes + (size_t)items[i].begin * 4;
        boxes[i] = (struct eo_box){.x_min = (box[0] - box[2] / 2) * across,
                                   .y_min = (box[1] - box[3] / 2) * down,
                                   .x_max = (box[0] + box[2] / 2) * across,
                                   .y_max = (box[1] + box[3] / 2) * down};
        items[i].begin = 0;
    }
}
