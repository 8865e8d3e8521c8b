/* SPDX-FileCopyrightText: edgeopt contributors
 * SPDX-License-Identifier: Apache-2.0 */
/* What the library asks of an engine. An engine is engine_<name>.c, with one such table, and what is
 * its own besides, in <name>_*; with EO_WITHOUT_<NAME> it is left out.
 *
 * A model is opened once, bound once for each shape, and each binding then run any number of times.
 * `run` allocates nothing of ours, and the results of a run stand until the next run of the model.
 * A model and its bindings are used by one thread at a time. */
#ifndef EO_ENGINE_H
#define EO_ENGINE_H

#include <stdbool.h>

#include "base/tensor.h"

#define EO_MAX_TENSORS 16

/* One file of an artifact. */
struct eo_file {
    const char *name; /* in the bundle */
    const char *path; /* NULL in a packed bundle */
    const void *data; /* mapped; stands until the model is closed */
    size_t bytes;
};

struct eo_open {
    const char *library; /* path of the engine's shared library, or its name for the loader */
    const struct eo_file *files; /* the one that the engine opens first */
    uint32_t file_count;
    int32_t threads;
    const struct eo_option *options; /* the engine's own; an unknown key is an error */
    uint32_t option_count;
    const char *packed; /* path of a file for weights that it packs, or has packed; NULL: none */
};

/* One input or output of the artifact. */
struct eo_port {
    const char *name; /* owned by the model */
    int32_t dtype;
};

/* Never defined: an engine casts them from and to structs of its own. */
struct eo_model;   /* an artifact in its engine */
struct eo_binding; /* its buffers for one shape */

/* What an operator took in all calls of it since the model was opened. */
struct eo_operator {
    const char *name;
    const char *type; /* NULL: `name` is the whole report that the engine writes of all operators */
    const char *kernel;
    int64_t ns;
};
typedef void eo_operator_sink(void *context, const struct eo_operator *operator);

struct eo_engine {
    const char *name;
    /* Whether it runs a length that it has not met before as fast as any other: then texts are not
     * padded where the artifact takes any length. */
    bool any_length;
    /* Whether an output may be bound to an input's memory, to which a run then appends: so a decoder
     * keeps what it computed of the tokens before. */
    bool appends;
    /* For an engine that keeps what it computed of the tokens before inside: how many times the bytes
     * of that it takes at most, and a call that forgets all of it, so that a text can begin. 0, NULL:
     * it has no such states. */
    uint32_t holds;
    int (*forget)(struct eo_model *model, struct eo_failure *failure);
    const char *const *libraries; /* file names to look for, the likeliest first; ends with NULL */
    /* Writes the library's own version, such as "1.31.1", without opening a model. */
    int (*version)(const char *library, char *text, size_t size, struct eo_failure *failure);
    int (*open)(const struct eo_open *how, struct eo_model **model, struct eo_failure *failure);
    uint32_t (*input_count)(const struct eo_model *model);
    uint32_t (*output_count)(const struct eo_model *model);
    struct eo_port (*input)(const struct eo_model *model, uint32_t index);
    struct eo_port (*output)(const struct eo_model *model, uint32_t index);
    /* Takes one tensor for each input and output in the artifact's order, in its dtypes, the data
     * aligned to EO_ALIGNMENT; the data must outlive the binding. An engine that makes its outputs
     * itself leaves the outputs' data alone. */
    int (*bind)(struct eo_model *model, const struct eo_tensor *inputs,
                const struct eo_tensor *outputs, struct eo_binding **binding,
                struct eo_failure *failure);
    int (*run)(struct eo_binding *binding, struct eo_failure *failure);
    /* After a run: output `index`, of the shape that was bound. */
    const struct eo_tensor *(*result)(const struct eo_binding *binding, uint32_t index);
    void (*unbind)(struct eo_binding *binding);
    void (*close)(struct eo_model *model); /* after every unbind */
    /* Whether it uses `packed`, which is written whole after the first run. NULL: never. */
    bool (*is_packed)(const struct eo_model *model);
    /* What the model's own arena took from the system, bytes; -1 if that is not told. NULL: never. */
    int64_t (*arena_bytes)(const struct eo_model *model);
    /* Tells of the operators in the order of execution, if the model was opened with the engine's
     * own option for that; a report is of the calls since the last time. NULL: it writes a file. */
    int (*operators)(struct eo_model *model, eo_operator_sink *sink, void *context,
                     struct eo_failure *failure);
};

#define EO_ALIGNMENT 64 /* the most that one of them asks for (LiteRT, OpenVINO, TVM) */

extern const struct eo_engine eo_engine_onnx;
extern const struct eo_engine eo_engine_openvino;
extern const struct eo_engine eo_engine_tflite;
extern const struct eo_engine eo_engine_tvm;

#endif
