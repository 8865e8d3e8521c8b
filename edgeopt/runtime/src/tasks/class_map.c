/* SPDX-FileCopyrightText: edgeopt contributors
 * SPDX-License-Identifier: Apache-2.0 */
#include "tasks/class_map.h"

#include "tasks/results.h"

#include <string.h>

int eo_class_scratch_take(struct eo_arena *arena, const struct eo_class_logits *sizes,
                          uint32_t side, struct eo_class_scratch *scratch)
{
    scratch->side = side > sizes->columns ? side : sizes->columns;
    scratch->line = eo_arena_take(arena, sizes->columns, sizeof *scratch->line);
    scratch->best = eo_arena_take(arena, scratch->side, sizeof *scratch->best);
    scratch->weight = eo_arena_take(arena, scratch->side, sizeof *scratch->weight);
    scratch->left = eo_arena_take(arena, scratch->side, sizeof *scratch->left);
    scratch->row = eo_arena_take(arena, sizes->columns, sizeof *scratch->row);
    scratch->counts = eo_arena_take(arena, sizes->labels, sizeof *scratch->counts);
    return scratch->line == NULL || scratch->best == NULL || scratch->weight == NULL ||
                   scratch->left == NULL || scratch->row == NULL || scratch->counts == NULL
               ? EO_ENOMEM
               : EO_OK;
}

/* The grid's pixel before the middle of pixel `at`, and how much of the next one is in it. */
static uint32_t place(uint32_t at, uint32_t wanted, uint32_t source, float *weight)
{
    const float found = ((float)at + 0.5F) * ((float)source / (float)wanted) - 0.5F;
    uint32_t before = found <= 0 ? 0 : (uint32_t)found;

    before = before < source ? before : source - 1; /* where float32 rounds up */
    *weight = found <= 0 || before + 1 == source ? 0 : found - (float)before;
    return before;
}

static void fill_places(const struct eo_class_scratch *scratch, uint32_t width, uint32_t columns)
{
    for (uint32_t x = 0; x < width; x++) {
        scratch->left[x] = place(x, width, columns, &scratch->weight[x]);
    }
}

/* Row `y` of `height`; the scratch has the places of the columns. */
static void write_row(const struct eo_class_logits *map, const struct eo_class_scratch *scratch,
                      uint32_t y, uint32_t width, uint32_t height, uint16_t *labels)
{
    const size_t plane = (size_t)map->rows * map->columns;
    float below;
    const uint32_t row = place(y, height, map->rows, &below);
    const size_t next = row + 1 < map->rows ? map->columns : 0;

    for (uint32_t label = 0; label < map->labels; label++) {
        const float *from = map->logits + label * plane + (size_t)row * map->columns;
        float *line = scratch->line;
        for (uint32_t x = 0; x < map->columns; x++) {
            line[x] = from[x] * (1 - below) + from[x + next] * below;
        }
        for (uint32_t x = 0; x < width; x++) {
            const uint32_t left = scratch->left[x];
            const uint32_t right = left + 1 < map->columns ? left + 1 : left;
            const float weight = scratch->weight[x];
            const float value = line[left] * (1 - weight) + line[right] * weight;
            if (label == 0 || value > scratch->best[x]) {
                scratch->best[x] = value;
                labels[x] = (uint16_t)label;
            }
        }
    }
}

void eo_class_map_write(const struct eo_class_logits *map, const struct eo_class_scratch *scratch,
                        uint32_t width, uint32_t height, uint16_t *labels)
{
    fill_places(scratch, width, map->columns);
    for (uint32_t y = 0; y < height; y++) {
        write_row(map, scratch, y, width, height, labels + (size_t)y * width);
    }
}

uint32_t eo_class_map_shares(const struct eo_class_logits *map,
                             const struct eo_class_scratch *scratch, struct eo_item *items)
{
    const float pixels = (float)map->rows * (float)map->columns;
    uint32_t used = 0;

    memset(scratch->counts, 0, map->labels * sizeof *scratch->counts);
    fill_places(scratch, map->columns, map->columns);
    for (uint32_t y = 0; y < map->rows; y++) {
        write_row(map, scratch, y, map->columns, map->rows, scratch->row);
        for (uint32_t x = 0; x < map->columns; x++) {
            scratch->counts[scratch->row[x]]++;
        }
    }
    for (uint32_t label = 0; label < map->labels; label++) {
        if (scratch->counts[label] > 0) {
            items[used++] = (struct eo_item){
                .label = label, .score = (float)scratch->counts[label] / pixels};
        }
    }
    eo_results_sort(items, used);
    return used;
}
