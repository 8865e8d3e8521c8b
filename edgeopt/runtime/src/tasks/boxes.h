/* SPDX-FileCopyrightText: edgeopt contributors
 * SPDX-License-Identifier: Apache-2.0 */
/* From one row of a detector's outputs to boxes with labels. */
#ifndef EO_BOXES_H
#define EO_BOXES_H

#include "bundle/manifest.h"

/* What a detector gives for one image: `logits` (queries, width) and `boxes` (queries, 4): the
 * centre's x and y, width and height, as shares of the image's. */
struct eo_proposals {
    const float *logits;
    const float *boxes;
    uint32_t queries;
    uint32_t width; /* of the logits: the labels, and with softmax one more for "nothing here" */
};

/* Writes `queries` items, best first, with their boxes in pixels of `image`. With softmax that is the
 * best label of each query, with sigmoid the best of all labels of all queries, as
 * post_process_object_detection of transformers' image processors (Detr, DeformableDetr). */
void eo_boxes_find(const struct eo_manifest *manifest, const struct eo_proposals *found,
                   const struct eo_image *image, struct eo_item *items, struct eo_box *boxes);

#endif
