/* SPDX-FileCopyrightText: edgeopt contributors
 * SPDX-License-Identifier: Apache-2.0 */
/* From the logits of semantic segmentation to a label for each pixel. */
#ifndef EO_CLASS_MAP_H
#define EO_CLASS_MAP_H

#include "base/arena.h"
#include "edgeopt_rt.h"

#define EO_CLASS_MAP_LABELS_MAX 65536 /* a label is an uint16_t */

/* One row of a session's output: `logits` (labels, rows, columns). */
struct eo_class_logits {
    const float *logits;
    uint32_t labels;
    uint32_t rows;
    uint32_t columns;
};

/* Memory for maps of up to `side` columns; it holds nothing between two calls. */
struct eo_class_scratch {
    uint32_t side;
    float *line;      /* (columns): one label's logits, between two rows of the grid */
    float *best;      /* (side): the largest so far */
    float *weight;    /* (side): of the right neighbour */
    uint32_t *left;   /* (side): the left one */
    uint16_t *row;    /* (columns) */
    uint32_t *counts; /* (labels): pixels */
};

/* Takes the scratch for maps up to `side` wide from `arena`. Returns EO_OK or EO_ENOMEM. */
int eo_class_scratch_take(struct eo_arena *arena, const struct eo_class_logits *sizes,
                          uint32_t side, struct eo_class_scratch *scratch);

/* Writes the label of each of height * width pixels, `width` at most the scratch's side: the largest
 * of the logits resized to that (bilinear, corners not aligned), as
 * post_process_semantic_segmentation of transformers' image processors. */
void eo_class_map_write(const struct eo_class_logits *map, const struct eo_class_scratch *scratch,
                        uint32_t width, uint32_t height, uint16_t *labels);

/* The labels of the grid's own pixels with their shares, largest first; `items` has room for all. */
uint32_t eo_class_map_shares(const struct eo_class_logits *map,
                             const struct eo_class_scratch *scratch, struct eo_item *items);

#endif
