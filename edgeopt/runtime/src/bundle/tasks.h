/* SPDX-FileCopyrightText: edgeopt contributors
 * SPDX-License-Identifier: Apache-2.0 */
/* The tasks of edgeopt/model/tasks.py. Written by: python -m tools.task_table */
#ifndef EO_TASKS_H
#define EO_TASKS_H

#include <stdbool.h>
#include <stdint.h>

enum eo_input_kind { EO_TEXT, EO_IMAGE };

/* What comes out for one input. */
enum eo_result_kind { EO_EMBEDDING, EO_SCORES, EO_ENTITIES, EO_SPANS };

struct eo_task {
    const char *name;
    enum eo_input_kind input;
    enum eo_result_kind result;
    uint32_t outputs; /* how many, each of */
    uint32_t rank;    /* dimensions, the batch among them */
    bool by_token;    /* the second one is the sequence */
    bool labelled;    /* the last one has a value for each label */
};

#define EO_INPUT_KINDS "text", "image"

#define EO_TASKS \
    { \
        {"feature-extraction", EO_TEXT, EO_EMBEDDING, 1, 3, true, false}, \
        {"sequence-classification", EO_TEXT, EO_SCORES, 1, 2, false, true}, \
        {"token-classification", EO_TEXT, EO_ENTITIES, 1, 3, true, true}, \
        {"question-answering", EO_TEXT, EO_SPANS, 2, 2, true, false}, \
        {"image-classification", EO_IMAGE, EO_SCORES, 1, 2, false, true}, \
        {"text-embedding", EO_TEXT, EO_EMBEDDING, 1, 2, false, false}, \
        {"image-embedding", EO_IMAGE, EO_EMBEDDING, 1, 2, false, false}, \
        {"zero-shot-image-classification", EO_IMAGE, EO_SCORES, 0, 0, false, true}, \
    }

#endif
