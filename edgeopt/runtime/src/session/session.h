/* SPDX-FileCopyrightText: edgeopt contributors
 * SPDX-License-Identifier: Apache-2.0 */
/* An artifact opened in its engine, with buffers for every shape that it will run. */
#ifndef EO_SESSION_H
#define EO_SESSION_H

#include "bundle/packed.h"
#include "engines/discover.h"

/* One shape, bound. The inputs' data lies at the start of the session's buffers, whatever the shape. */
struct eo_shape {
    uint32_t batch;
    int32_t seq_len; /* 0 if the artifact has no sequences */
    struct eo_binding *binding;
    struct eo_tensor *inputs;  /* in the model's order */
    struct eo_tensor *outputs; /* in the model's order; what the engine was given */
};

enum { EO_TEXT_BYTES = 65536 }; /* of one text, if the options say nothing */

struct eo_reading; /* what text and images need: see tasks/reading.h */

struct eo_session {
    struct eo_bundle *bundle;
    const struct eo_manifest *manifest; /* of the graph that it runs */
    const struct eo_artifact_entry *entry;
    const struct eo_engine *engine;
    struct eo_model *model;
    struct eo_arena arena;
    const char *library;
    uint32_t packed_file; /* of the manifest, if it has a role there */
    enum eo_packed_role packed;
    char version[64];
    uint32_t input_port[EO_MAX_TENSORS]; /* the artifact's, of each of the model's inputs */
    uint32_t output_port[EO_MAX_TENSORS];
    void *buffers; /* of all inputs and outputs; what the tensors point into */
    struct eo_shape *shapes;
    uint32_t shape_count;
    struct eo_shape *selected;
    uint32_t max_batch;
    int32_t max_seq_len; /* of the shapes */
    uint32_t max_text_bytes;
    uint32_t max_image_side;
    struct eo_reading *reading;
};

/* Takes the options of a caller that may know fewer of them, or more: those must be unset. */
/* Copies the caller's struct, which begins with its struct_bytes and may be older or newer, over the
 * defaults in `own`, which stay if `given` is NULL. `macro` is what it should have begun with. */
int eo_take_struct(const void *given, const char *macro, const char *where, void *own,
                   uint32_t own_bytes, struct eo_failure *failure);

int eo_session_take_options(const struct eo_session_options *given,
                            struct eo_session_options *options, struct eo_failure *failure);

#endif
