/* SPDX-FileCopyrightText: edgeopt contributors
 * SPDX-License-Identifier: Apache-2.0 */
/* The tasks of edgeopt/model/tasks.py. Written by: python -m tools.task_table */
#ifndef EO_TASKS_H
#define EO_TASKS_H

#include <stdbool.h>
#include <stdint.h>

enum eo_input_kind { EO_TEXT, EO_IMAGE, EO_AUDIO };

/* What comes out for one input. */
enum eo_result_kind { EO_EMBEDDING, EO_SCORES, EO_ENTITIES, EO_SPANS, EO_BOXES, EO_CLASS_MAP, EO_GENERATED };

struct eo_task {
    const char *name;
    uint8_t input;    /* enum eo_input_kind */
    uint8_t result;   /* enum eo_result_kind */
    uint8_t outputs;  /* how many, each of */
    uint8_t rank;     /* dimensions, the batch among them */
    bool by_token;    /* the second one is the sequence */
    int8_t label_dim; /* which has exactly one value for each label; -1: none */
};

#define EO_INPUT_KINDS "text", "image", "audio"

#define EO_TASKS \
    { \
        {"feature-extraction", EO_TEXT, EO_EMBEDDING, 1, 3, true, -1}, \
        {"sequence-classification", EO_TEXT, EO_SCORES, 1, 2, false, 1}, \
        {"token-classification", EO_TEXT, EO_ENTITIES, 1, 3, true, 2}, \
        {"question-answering", EO_TEXT, EO_SPANS, 2, 2, true, -1}, \
        {"image-classification", EO_IMAGE, EO_SCORES, 1, 2, false, 1}, \
        {"text-embedding", EO_TEXT, EO_EMBEDDING, 1, 2, false, -1}, \
        {"image-embedding", EO_IMAGE, EO_EMBEDDING, 1, 2, false, -1}, \
        {"zero-shot-image-classification", EO_IMAGE, EO_SCORES, 0, 0, false, -1}, \
        {"image-feature-extraction", EO_IMAGE, EO_EMBEDDING, 1, 2, false, -1}, \
        {"object-detection", EO_IMAGE, EO_BOXES, 2, 3, false, -1}, \
        {"semantic-segmentation", EO_IMAGE, EO_CLASS_MAP, 1, 4, false, 1}, \
        {"text-generation", EO_TEXT, EO_GENERATED, 1, 2, false, -1}, \
        {"automatic-speech-recognition", EO_AUDIO, EO_GENERATED, 1, 2, false, -1}, \
    }

#endif
