/* SPDX-FileCopyrightText: edgeopt contributors
 * SPDX-License-Identifier: Apache-2.0 */
#include "answers.h"

#include <stdio.h>
#include <stdlib.h>

/* `source` is the text that findings are places of; NULL for an image. */
static void say_result(const struct eo_job *job, const char *source, const struct eo_result *result)
{
    struct eo_events *events = job->events;
    const eo_box *boxes = source == NULL ? eo_session_boxes(job->session, 0) : NULL;

    for (uint32_t i = 0; i < result->item_count; i++) {
        const struct eo_item *item = &result->items[i];
        const char *label = eo_bundle_label(job->bundle, item->label);
        eo_events_begin(events, "item");
        if (label != NULL) {
            eo_events_text(events, "label", label);
        }
        eo_events_number(events, "score", item->score);
        if (source != NULL && item->end > 0) {
            eo_events_integer(events, "begin", item->begin);
            eo_events_integer(events, "end", item->end);
            eo_events_text_bytes(events, "text", source + item->begin, item->end - item->begin);
        }
        if (boxes != NULL) {
            const float sides[] = {boxes[i].x_min, boxes[i].y_min, boxes[i].x_max, boxes[i].y_max};
            eo_events_numbers(events, "box", sides, 4);
        }
        eo_events_end(events);
    }
    eo_events_begin(events, "result");
    eo_events_integer(events, "items", result->item_count);
    if (result->vector != NULL) {
        eo_events_numbers(events, "vector", result->vector, result->vector_count);
    }
    eo_events_integer(events, "tokens", result->tokens);
    eo_events_bool(events, "truncated", result->truncated != 0);
    eo_events_end(events);
}

int eo_answer_text(void *context, const struct eo_text *text, struct eo_failure *failure)
{
    const struct eo_job *job = context;
    int result = eo_session_run_texts(job->session, text, 1, failure);

    if (result == EO_OK) {
        say_result(job, text->pair != NULL ? text->pair : text->text,
                   eo_session_result(job->session, 0));
    }
    return result;
}

static void say_runs(const struct eo_job *job, const int64_t *labels, const int64_t *counts, size_t runs)
{
    eo_events_begin(job->events, "map");
    eo_events_integers(job->events, "labels", labels, runs);
    eo_events_integers(job->events, "counts", counts, runs);
    eo_events_end(job->events);
}

/* Says the label of each pixel, row by row from the top: how many have one label, and then another. */
static int say_map(const struct eo_job *job, const struct eo_image *image, struct eo_failure *failure)
{
    const size_t pixels = (size_t)image->width * image->height;
    uint16_t *map = malloc(pixels * sizeof *map);
    int64_t labels[256], counts[256];
    size_t runs = 0;
    int result = map == NULL ? eo_fail(failure, EO_ENOMEM, "map", "no memory")
                             : eo_session_class_map(job->session, 0, image->width, image->height,
                                                    map, failure);

    for (size_t i = 0; result == EO_OK && i < pixels; i++) {
        if (runs > 0 && map[i] == labels[runs - 1]) {
            counts[runs - 1]++;
            continue;
        }
        if (runs == sizeof labels / sizeof *labels) {
            say_runs(job, labels, counts, runs);
            runs = 0;
        }
        labels[runs] = map[i];
        counts[runs++] = 1;
    }
    if (runs > 0) {
        say_runs(job, labels, counts, runs);
    }
    free(map);
    return result;
}

int eo_answer_image(const struct eo_job *job, size_t bytes, bool as_map, struct eo_failure *failure)
{
    struct eo_image image;
    void *data = malloc(bytes);
    int result = EO_OK;

    if (data == NULL) {
        return eo_fail(failure, EO_ENOMEM, "image", "no memory for %zu bytes", bytes);
    }
    if (fread(data, 1, bytes, stdin) != bytes) {
        result = eo_fail(failure, EO_EINPUT, "stdin", "ends within an image");
    }
    if (result == EO_OK) {
        result = eo_image_from_ppm(data, bytes, &image, failure);
    }
    if (result == EO_OK) {
        result = eo_session_run_images(job->session, &image, 1, failure);
    }
    if (result == EO_OK && as_map) {
        result = say_map(job, &image, failure);
    }
    if (result == EO_OK) {
        say_result(job, NULL, eo_session_result(job->session, 0));
    }
    free(data);
    return result;
}
