/* SPDX-FileCopyrightText: edgeopt contributors
 * SPDX-License-Identifier: Apache-2.0 */
/* Results of detectors and of segmentation from logits in a file, floats out.
 *
 *     places_main boxes IN OUT softmax|sigmoid QUERIES LABELS WIDTH HEIGHT
 *     places_main map IN OUT LABELS ROWS COLUMNS WIDTH HEIGHT
 *
 * `boxes` writes label, score and box of each item, `map` each pixel's label and then the items'
 * labels and shares. */
#include "base/arena.h"
#include "tasks/boxes.h"
#include "tasks/class_map.h"

#include <stdio.h>
#include <stdlib.h>
#include <string.h>

static uint32_t number(const char *text)
{
    return (uint32_t)strtoul(text, NULL, 10);
}

static float *read_floats(const char *path, size_t count)
{
    FILE *file = fopen(path, "rb");
    float *values = malloc(count * sizeof *values);

    if (file == NULL || values == NULL || fread(values, sizeof *values, count, file) != count) {
        exit(2);
    }
    fclose(file);
    return values;
}

static void write_float(FILE *file, float value)
{
    if (fwrite(&value, sizeof value, 1, file) != 1) {
        exit(2);
    }
}

static int boxes(char **words)
{
    const uint32_t queries = number(words[3]), labels = number(words[4]);
    const bool softmax = strcmp(words[2], "softmax") == 0;
    const uint32_t width = labels + softmax;
    float *values = read_floats(words[0], (size_t)queries * (width + 4));
    const struct eo_manifest manifest = {.label_count = labels,
                                         .activation = softmax ? EO_SOFTMAX : EO_SIGMOID};
    const struct eo_proposals found = {.logits = values,
                                       .boxes = values + (size_t)queries * width,
                                       .queries = queries,
                                       .width = width};
    const struct eo_image image = {.width = number(words[5]), .height = number(words[6])};
    struct eo_item *items = malloc(queries * sizeof *items);
    struct eo_box *places = malloc(queries * sizeof *places);
    FILE *out = fopen(words[1], "wb");

    if (items == NULL || places == NULL || out == NULL) {
        return 2;
    }
    eo_boxes_find(&manifest, &found, &image, items, places);
    for (uint32_t i = 0; i < queries; i++) {
        write_float(out, (float)items[i].label);
        write_float(out, items[i].score);
        write_float(out, places[i].x_min);
        write_float(out, places[i].y_min);
        write_float(out, places[i].x_max);
        write_float(out, places[i].y_max);
    }
    free(values);
    free(items);
    free(places);
    return fclose(out) != 0;
}

static int map(char **words)
{
    const uint32_t width = number(words[5]), height = number(words[6]);
    struct eo_class_logits logits = {
        .labels = number(words[2]), .rows = number(words[3]), .columns = number(words[4])};
    float *values =
        read_floats(words[0], (size_t)logits.labels * logits.rows * logits.columns);
    struct eo_item *items = malloc(logits.labels * sizeof *items);
    uint16_t *labels = malloc((size_t)width * height * sizeof *labels);
    FILE *out = fopen(words[1], "wb");
    struct eo_arena arena = {0};
    struct eo_class_scratch scratch;
    uint32_t count;

    if (items == NULL || labels == NULL || out == NULL ||
        eo_class_scratch_take(&arena, &logits, width, &scratch) != EO_OK) {
        return 2;
    }
    logits.logits = values;
    eo_class_map_write(&logits, &scratch, width, height, labels);
    for (size_t i = 0; i < (size_t)width * height; i++) {
        write_float(out, labels[i]);
    }
    count = eo_class_map_shares(&logits, &scratch, items);
    for (uint32_t i = 0; i < count; i++) {
        write_float(out, (float)items[i].label);
        write_float(out, items[i].score);
    }
    eo_arena_free(&arena);
    free(values);
    free(items);
    free(labels);
    return fclose(out) != 0;
}

int main(int count, char **words)
{
    return count != 9 ? 2 : strcmp(words[1], "boxes") == 0 ? boxes(words + 2) : map(words + 2);
}
