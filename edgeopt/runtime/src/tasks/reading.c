/* SPDX-FileCopyrightText: edgeopt contributors
 * SPDX-License-Identifier: Apache-2.0 */
#include "tasks/reading.h"

#include "tasks/boxes.h"
#include "tasks/results.h"

#include <stdlib.h>
#include <string.h>

enum { ANSWERS = 8, OVERLAP_MAX = 128 };

static uint32_t find_input(const struct eo_signature *signature, const char *name)
{
    for (uint32_t i = 0; i < signature->input_count; i++) {
        if (strcmp(signature->inputs[i].name, name) == 0) {
            return i;
        }
    }
    return EO_NO_INPUT;
}

/* The last size of output 0, which is the same in every shape: labels, or the hidden dimension. */
static uint32_t width_of(const struct eo_session *session)
{
    const struct eo_tensor *output = &session->shapes[0].outputs[0];

    return output->rank == 0 ? 1 : (uint32_t)output->dims[output->rank - 1];
}

/* What the outputs must look like for the task; hand-made bundles may differ. */
static int check_outputs(const struct eo_session *session, struct eo_failure *failure)
{
    const struct eo_manifest *manifest = session->manifest;
    const struct eo_signature *signature = &session->entry->signature;
    const struct eo_task *task = manifest->task;
    bool embeds = task->result == EO_EMBEDDING && manifest->pooling == EO_NO_POOLING &&
                  signature->outputs[0].rank == 2 &&
                  signature->outputs[0].dims[1] > 0; /* in the graph itself */

    if (signature->output_count != task->outputs) {
        return eo_fail(failure, EO_EBUNDLE, task->name, "%u outputs, expected %u",
                       (unsigned)signature->output_count, (unsigned)task->outputs);
    }
    for (uint32_t i = 0; i < session->shape_count; i++) {
        const struct eo_shape *shape = &session->shapes[i];
        for (uint32_t j = 0; j < task->outputs; j++) {
            const struct eo_tensor *output = &shape->outputs[j];
            if (output->dtype != EO_FLOAT32 || output->rank != (embeds ? 2U : task->rank) ||
                output->dims[0] != (int64_t)shape->batch ||
                (task->by_token && !embeds && output->dims[1] != shape->seq_len) ||
                (task->label_dim >= 0 &&
                 output->dims[task->label_dim] != (int64_t)manifest->label_count)) {
                return eo_fail(failure, EO_EBUNDLE, signature->outputs[j].name,
                               "its shape is not that of the task %s", task->name);
            }
        }
    }
    return EO_OK;
}

/* What else a detector's outputs, and those of segmentation, must be. */
static int check_places(const struct eo_session *session, struct eo_failure *failure)
{
    const struct eo_manifest *manifest = session->manifest;
    const struct eo_tensor *outputs = session->shapes[0].outputs;

    if (manifest->task->result == EO_BOXES &&
        (manifest->activation == EO_NO_ACTIVATION || manifest->label_count == 0 ||
         outputs[0].dims[2] != (int64_t)manifest->label_count +
                                   (manifest->activation == EO_SOFTMAX) ||
         outputs[1].dims[1] != outputs[0].dims[1] || outputs[1].dims[2] != 4)) {
        return eo_fail(failure, EO_EBUNDLE, manifest->name,
                       "its outputs are not logits of its labels and boxes");
    }
    if (manifest->task->result == EO_CLASS_MAP &&
        (manifest->label_count == 0 || manifest->label_count > EO_CLASS_MAP_LABELS_MAX)) {
        return eo_fail(failure, EO_EUNSUPPORTED, manifest->name, "has %u labels, expected 1 to %u",
                       (unsigned)manifest->label_count, (unsigned)EO_CLASS_MAP_LABELS_MAX);
    }
    return EO_OK;
}

/* The logits of one image, of segmentation; without data before the first run. */
static struct eo_class_logits class_logits(const struct eo_session *session,
                                           const struct eo_tensor *output, uint32_t row)
{
    struct eo_class_logits map = {.labels = session->manifest->label_count,
                                  .rows = (uint32_t)output->dims[2],
                                  .columns = (uint32_t)output->dims[3]};

    if (output->data != NULL) {
        map.logits = (const float *)output->data +
                     (size_t)row * map.labels * map.rows * map.columns;
    }
    return map;
}

static int take_memory(struct eo_session *session, struct eo_failure *failure)
{
    const struct eo_manifest *manifest = session->manifest;
    struct eo_reading *reading = session->reading;
    size_t rows = session->max_batch;
    size_t tokens = session->max_seq_len > 0 ? (size_t)session->max_seq_len : 1;

    reading->item_max = manifest->task->result == EO_SPANS      ? ANSWERS
                        : manifest->task->result == EO_ENTITIES ? (uint32_t)tokens
                        : manifest->task->result == EO_BOXES
                            ? (uint32_t)session->shapes[0].outputs[0].dims[1]
                                                                : manifest->label_count;
    reading->vector_count =
        manifest->task->result == EO_EMBEDDING && manifest->pooling != EO_NO_POOLING
            ? width_of(session)
            : 0;
    reading->prompt_bytes = strlen(manifest->prompt);
    if (reading->tokenizer != NULL) {
        if (reading->prompt_bytes < UINT32_MAX - session->max_text_bytes) {
            reading->scratch_bytes = eo_tokenizer_scratch_bytes(
                reading->tokenizer, session->max_text_bytes + (uint32_t)reading->prompt_bytes,
                (uint32_t)tokens);
        }
        if (reading->scratch_bytes == 0) {
            return eo_fail(failure, EO_EINPUT, "max_text_bytes", "%u is too much for this machine",
                           (unsigned)session->max_text_bytes);
        }
    }
    reading->scratch = eo_arena_take(&session->arena, reading->scratch_bytes, 1);
    reading->tokens = eo_arena_take(&session->arena, rows * tokens, sizeof *reading->tokens);
    reading->token_counts = eo_arena_take(&session->arena, rows, sizeof *reading->token_counts);
    reading->items =
        eo_arena_take(&session->arena, rows * reading->item_max, sizeof *reading->items);
    reading->vectors =
        eo_arena_take(&session->arena, rows * reading->vector_count, sizeof *reading->vectors);
    reading->results = eo_arena_take(&session->arena, rows, sizeof *reading->results);
    if (reading->prompt_bytes > 0 && reading->tokenizer != NULL) {
        reading->prompted = eo_arena_take(
            &session->arena, reading->prompt_bytes + session->max_text_bytes, 1);
    }
    if (manifest->task->result == EO_BOXES) {
        reading->boxes =
            eo_arena_take(&session->arena, rows * reading->item_max, sizeof *reading->boxes);
    }
    if (manifest->task->result == EO_CLASS_MAP) {
        const struct eo_class_logits sizes =
            class_logits(session, &session->shapes[0].outputs[0], 0);
        if (eo_class_scratch_take(&session->arena, &sizes, session->max_image_side,
                                  &reading->class_scratch) != EO_OK) {
            return eo_fail(failure, EO_ENOMEM, "session", "no memory for a map of labels");
        }
    }
    if (reading->scratch == NULL || reading->tokens == NULL || reading->token_counts == NULL ||
        reading->items == NULL || reading->vectors == NULL ||
        (manifest->task->result == EO_BOXES && reading->boxes == NULL) || reading->results == NULL ||
        (reading->prompt_bytes > 0 && reading->tokenizer != NULL && reading->prompted == NULL)) {
        return eo_fail(failure, EO_ENOMEM, "session", "no memory for texts of %u bytes",
                       (unsigned)session->max_text_bytes);
    }
    if (reading->prompted != NULL) {
        memcpy(reading->prompted, manifest->prompt, reading->prompt_bytes);
    }
    return EO_OK;
}

/* Whether the channels stand last: (batch, height, width, 3) for (batch, 3, height, width). */
static int channels_last(const struct eo_tensor *pixels)
{
    return pixels->dims[1] != EO_IMAGE_CHANNELS;
}

static int is_image(const struct eo_tensor *pixels, const struct eo_image_spec *image,
                    uint32_t batch)
{
    const int last = channels_last(pixels);

    return pixels->dtype == EO_FLOAT32 && pixels->rank == 4 && pixels->dims[0] == (int64_t)batch &&
           pixels->dims[last ? 3 : 1] == EO_IMAGE_CHANNELS &&
           pixels->dims[last ? 1 : 2] == image->height && pixels->dims[last ? 2 : 3] == image->width;
}

static int take_image_memory(struct eo_session *session, struct eo_failure *failure)
{
    const struct eo_manifest *manifest = session->manifest;
    const struct eo_tensor *pixels = &session->shapes[0].inputs[0];
    uint32_t side = session->max_image_side;
    size_t bytes = eo_image_scratch_bytes(side, side, &manifest->image);

    if (!manifest->has_image || session->entry->signature.input_count != 1 ||
        !is_image(pixels, &manifest->image, session->shapes[0].batch)) {
        return eo_fail(failure, EO_EBUNDLE, manifest->name,
                       "its input is not an image of the size in the manifest");
    }
    if (bytes == 0) {
        return eo_fail(failure, EO_EINPUT, "max_image_side", "%u is too much", (unsigned)side);
    }
    session->reading->image_scratch = (struct eo_image_scratch){
        .memory = eo_arena_take(&session->arena, bytes, 1), .max_width = side, .max_height = side};
    return session->reading->image_scratch.memory == NULL
               ? eo_fail(failure, EO_ENOMEM, "session", "no memory for images of %u by %u",
                         (unsigned)side, (unsigned)side)
               : EO_OK;
}

int eo_reading_open(struct eo_session *session, struct eo_failure *failure)
{
    const struct eo_manifest *manifest = session->manifest;
    struct eo_reading *reading = eo_arena_take(&session->arena, 1, sizeof *reading);
    int result;

    if (reading == NULL) {
        return eo_fail(failure, EO_ENOMEM, "session", "no memory");
    }
    session->reading = reading;
    result = check_outputs(session, failure);
    if (result == EO_OK) {
        result = check_places(session, failure);
    }
    if (result != EO_OK) {
        return result;
    }
    reading->ids = find_input(&manifest->signature, "input_ids");
    reading->mask = find_input(&manifest->signature, "attention_mask");
    reading->types = find_input(&manifest->signature, "token_type_ids");
    if (manifest->task->input == EO_IMAGE) {
        result = take_image_memory(session, failure);
        if (result != EO_OK) {
            return result;
        }
    } else {
        struct eo_file file;
        result = eo_bundle_tokenizer(session->bundle, manifest->tokenizer, &file,
                                     &reading->tokenizer, &reading->why_not);
        if (result != EO_OK && result != EO_EUNSUPPORTED) {
            *failure = reading->why_not;
            return result;
        }
    }
    return take_memory(session, failure);
}

void eo_reading_close(struct eo_session *session)
{
    session->reading = NULL; /* all of it is the arena's */
}

const float *eo_reading_output(const struct eo_session *session, uint32_t index, uint32_t row)
{
    const eo_tensor *output = eo_session_output(session, index);
    const float *data = output->data;

    return data + output->count / (uint64_t)output->dims[0] * row;
}

static void put(const struct eo_tensor *tensor, size_t at, int32_t value)
{
    if (tensor->dtype == EO_INT64) {
        ((int64_t *)tensor->data)[at] = value;
    } else {
        ((int32_t *)tensor->data)[at] = value;
    }
}

static void fill_row(struct eo_session *session, uint32_t row, const struct eo_token *tokens,
                     uint32_t count)
{
    const struct eo_reading *reading = session->reading;
    const struct eo_shape *shape = session->selected;
    const int32_t pad_id = session->manifest->pad_id;
    const bool typed = session->manifest->token_types;
    const size_t seq_len = (size_t)shape->seq_len;

    for (size_t i = 0; i < seq_len; i++) {
        const size_t at = row * seq_len + i;
        const bool is_token = i < count;
        if (reading->ids != EO_NO_INPUT) {
            put(&shape->inputs[reading->ids], at, is_token ? tokens[i].id : pad_id);
        }
        if (reading->mask != EO_NO_INPUT) {
            put(&shape->inputs[reading->mask], at, is_token);
        }
        if (reading->types != EO_NO_INPUT) {
            put(&shape->inputs[reading->types], at, typed && is_token ? tokens[i].type_id : 0);
        }
    }
}

int eo_reading_fill(struct eo_session *session, uint32_t count, uint32_t longest,
                    struct eo_failure *failure)
{
    const struct eo_reading *reading = session->reading;
    int result = eo_session_select(session, count, longest == 0 ? 1 : longest, failure);

    for (uint32_t row = 0; result == EO_OK && row < session->selected->batch; row++) {
        uint32_t from = row < count ? row : 0; /* rows that nobody reads repeat the first */
        fill_row(session, row, reading->tokens + (size_t)from * (size_t)session->max_seq_len,
                 reading->token_counts[from]);
    }
    return result;
}

static struct eo_result *begin_result(struct eo_reading *reading, uint32_t row)
{
    struct eo_result *result = &reading->results[row];

    *result = (struct eo_result){.items = reading->items + (size_t)row * reading->item_max};
    return result;
}

static void find_boxes(struct eo_session *session, uint32_t row, const struct eo_image *image,
                       struct eo_result *result)
{
    struct eo_reading *reading = session->reading;
    const size_t first = (size_t)row * reading->item_max;
    const struct eo_proposals found = {.logits = eo_reading_output(session, 0, row),
                                       .boxes = eo_reading_output(session, 1, row),
                                       .queries = reading->item_max,
                                       .width = width_of(session)};

    eo_boxes_find(session->manifest, &found, image, reading->items + first,
                  reading->boxes + first);
    result->item_count = reading->item_max;
}

/* The result of one row of a task that reads each text or image once; `image` is NULL for a text. */
static void finish_row(struct eo_session *session, uint32_t row, const struct eo_image *image)
{
    const struct eo_manifest *manifest = session->manifest;
    struct eo_reading *reading = session->reading;
    struct eo_result *result = &reading->results[row];
    struct eo_item *items = reading->items + (size_t)row * reading->item_max;
    const struct eo_token *tokens = reading->tokens + (size_t)row * (size_t)session->max_seq_len;
    const float *output = eo_reading_output(session, 0, row);

    if (manifest->task->result == EO_ENTITIES) {
        result->item_count = eo_results_entities(manifest, output, tokens,
                                                 reading->token_counts[row], items);
    } else if (manifest->task->result == EO_EMBEDDING) {
        float *vector = reading->vectors + (size_t)row * reading->vector_count;
        if (reading->vector_count > 0) {
            eo_results_embed(manifest, output, reading->token_counts[row], reading->vector_count,
                             vector);
            result->vector = vector;
            result->vector_count = reading->vector_count;
        } else if (session->entry->signature.outputs[0].rank == 2) {
            result->vector = output; /* the graph's own, which lives until the next run too */
            result->vector_count = width_of(session);
        }
    } else if (manifest->task->result == EO_BOXES) {
        find_boxes(session, row, image, result);
    } else if (manifest->task->result == EO_CLASS_MAP) {
        const struct eo_class_logits map =
            class_logits(session, eo_session_output(session, 0), row);
        result->item_count = eo_class_map_shares(&map, &reading->class_scratch, items);
    } else {
        result->item_count =
            eo_results_classify(output, manifest->label_count, manifest->activation, items);
    }
}

static int encode(struct eo_session *session, const struct eo_text *text, uint32_t row,
                  enum eo_truncation truncation, uint32_t pair_skip,
                  struct eo_token_counts *counts, struct eo_failure *failure)
{
    struct eo_reading *reading = session->reading;
    const struct eo_encode_options options = {.max_tokens = (uint32_t)session->max_seq_len,
                                              .truncation = truncation,
                                              .pair_skip = pair_skip};
    struct eo_text prompted = *text;
    int result;

    if (text->bytes > session->max_text_bytes || text->pair_bytes > session->max_text_bytes) {
        return eo_fail(failure, EO_EINPUT, "text",
                       "has %zu bytes, the session was opened for up to %u (max_text_bytes)",
                       text->bytes > text->pair_bytes ? text->bytes : text->pair_bytes,
                       (unsigned)session->max_text_bytes);
    }
    if (reading->prompted != NULL) {
        prompted.text = reading->prompted;
        prompted.bytes += reading->prompt_bytes;
        if (text->bytes > 0) {
            memcpy(reading->prompted + reading->prompt_bytes, text->text, text->bytes);
        }
    }
    result = eo_tokenizer_encode(reading->tokenizer, &prompted, &options, reading->scratch,
                                 reading->scratch_bytes,
                                 reading->tokens + (size_t)row * options.max_tokens, counts,
                                 failure);
    reading->token_counts[row] = result == EO_OK ? counts->count : 0;
    return result;
}

/* Reads the context in windows that overlap, one run each, and keeps the best answers of all. */
static int answer(struct eo_session *session, const struct eo_text *text, uint32_t row,
                  struct eo_failure *failure)
{
    struct eo_reading *reading = session->reading;
    struct eo_result *result = begin_result(reading, row);
    struct eo_item *items = reading->items + (size_t)row * reading->item_max;
    uint32_t skip = 0;

    if (text->pair == NULL) {
        return eo_fail(failure, EO_EINPUT, "text", "question answering needs the context as pair");
    }
    for (;;) {
        const struct eo_token *tokens = reading->tokens; /* windows are read in row 0 */
        struct eo_token_counts counts;
        uint32_t window = 0, overlap;
        int status = encode(session, text, 0, EO_ONLY_SECOND, skip, &counts, failure);
        if (status != EO_OK) {
            return status;
        }
        for (uint32_t i = 0; i < counts.count; i++) {
            window += tokens[i].sequence == 1 && tokens[i].special == 0;
        }
        status = eo_reading_fill(session, 1, counts.count, failure);
        if (status == EO_OK) {
            status = eo_session_run(session, failure);
        }
        if (status != EO_OK) {
            return status;
        }
        result->item_count = eo_results_answers(
            eo_reading_output(session, 0, 0), eo_reading_output(session, 1, 0), tokens, counts.count,
            items, result->item_count, reading->item_max);
        result->tokens = counts.total;
        if (skip + window >= counts.pair) {
            return EO_OK;
        }
        overlap = window / 2 < OVERLAP_MAX ? window / 2 : OVERLAP_MAX;
        skip += window - overlap;
    }
}

static int read_texts(struct eo_session *session, const struct eo_text *texts, uint32_t count,
                      struct eo_failure *failure)
{
    struct eo_reading *reading = session->reading;
    uint32_t longest = 0;
    int result;

    for (uint32_t row = 0; row < count; row++) {
        struct eo_result *told = begin_result(reading, row);
        struct eo_token_counts counts;
        result = encode(session, &texts[row], row, EO_LONGEST_FIRST, 0, &counts, failure);
        if (result != EO_OK) {
            return result;
        }
        told->tokens = counts.total;
        told->truncated = counts.total > counts.count;
        longest = counts.count > longest ? counts.count : longest;
    }
    result = eo_reading_fill(session, count, longest, failure);
    if (result == EO_OK) {
        result = eo_session_run(session, failure);
    }
    for (uint32_t row = 0; result == EO_OK && row < count; row++) {
        finish_row(session, row, NULL);
    }
    return result;
}

int eo_session_run_texts(eo_session *session, const eo_text *texts, uint32_t count,
                         eo_failure *failure)
{
    struct eo_reading *reading = session->reading;
    int result = EO_OK;

    reading->result_count = 0;
    if (session->manifest->task->input == EO_IMAGE) {
        return eo_fail(failure, EO_EINPUT, session->manifest->name,
                       "is a model of images, not of texts");
    }
    if (reading->tokenizer == NULL) {
        return eo_fail(failure, reading->why_not.code, reading->why_not.where, "%s",
                       reading->why_not.message);
    }
    if (count == 0 || count > session->max_batch) {
        return eo_fail(failure, EO_EINPUT, "texts", "%u of them, the session was opened for 1 to %u",
                       (unsigned)count, (unsigned)session->max_batch);
    }
    if (session->manifest->task->result == EO_SPANS) {
        for (uint32_t row = 0; result == EO_OK && row < count; row++) {
            result = answer(session, &texts[row], row, failure);
        }
    } else {
        result = read_texts(session, texts, count, failure);
    }
    reading->result_count = result == EO_OK ? count : 0;
    return result;
}

int eo_session_run_images(eo_session *session, const eo_image *images, uint32_t count,
                          eo_failure *failure)
{
    const struct eo_manifest *manifest = session->manifest;
    struct eo_reading *reading = session->reading;
    const struct eo_tensor *pixels;
    size_t values = (size_t)manifest->image.height * manifest->image.width * EO_IMAGE_CHANNELS;
    int result;

    reading->result_count = 0;
    if (manifest->task->input != EO_IMAGE) {
        return eo_fail(failure, EO_EINPUT, manifest->name, "is a model of texts, not of images");
    }
    if (count == 0 || count > session->max_batch) {
        return eo_fail(failure, EO_EINPUT, "images",
                       "%u of them, the session was opened for 1 to %u", (unsigned)count,
                       (unsigned)session->max_batch);
    }
    result = eo_session_select(session, count, 0, failure);
    pixels = eo_session_input(session, 0);
    for (uint32_t row = 0; result == EO_OK && row < count; row++) {
        result = eo_image_prepare(&images[row], &manifest->image, &reading->image_scratch,
                                  channels_last(pixels), (float *)pixels->data + row * values, failure);
    }
    if (result == EO_OK) {
        result = eo_session_run(session, failure);
    }
    for (uint32_t row = 0; result == EO_OK && row < count; row++) {
        (void)begin_result(reading, row);
        finish_row(session, row, &images[row]);
    }
    reading->result_count = result == EO_OK ? count : 0;
    return result;
}

const eo_result *eo_session_result(const eo_session *session, uint32_t index)
{
    return index < session->reading->result_count ? &session->reading->results[index] : NULL;
}

const eo_box *eo_session_boxes(const eo_session *session, uint32_t index)
{
    const struct eo_reading *reading = session->reading;

    return reading->boxes != NULL && index < reading->result_count
               ? reading->boxes + (size_t)index * reading->item_max
               : NULL;
}

int eo_session_class_map(eo_session *session, uint32_t index, uint32_t width, uint32_t height,
                         uint16_t *labels, eo_failure *failure)
{
    const struct eo_tensor *output =
        session->reading->result_count > 0 ? eo_session_output(session, 0) : NULL;
    struct eo_class_logits map;

    if (session->manifest->task->result != EO_CLASS_MAP) {
        return eo_fail(failure, EO_EINPUT, session->manifest->name,
                       "is for %s: it labels no pixels", session->manifest->task->name);
    }
    if (output == NULL || index >= session->reading->result_count ||
        (int64_t)index >= output->dims[0]) { /* of another shape, selected since */
        return eo_fail(failure, EO_EINPUT, "index", "%u, the last run had %u images",
                       (unsigned)index, (unsigned)session->reading->result_count);
    }
    if (width == 0 || height == 0 || width > session->reading->class_scratch.side ||
        height > EO_IMAGE_SOURCE_MAX) {
        return eo_fail(failure, EO_EINPUT, "size", "%u x %u pixels, at most %u wide was made room for",
                       (unsigned)width, (unsigned)height,
                       (unsigned)session->reading->class_scratch.side);
    }
    map = class_logits(session, output, index);
    eo_class_map_write(&map, &session->reading->class_scratch, width, height, labels);
    return EO_OK;
}
