/* SPDX-FileCopyrightText: edgeopt contributors
 * SPDX-License-Identifier: Apache-2.0 */
/* What the engine for TFLite files is made of: the two C interfaces that LiteRT's libraries may have,
 * each in a file of its own, and the signatures of a file, which both of them fill in. */
#ifndef EO_TFLITE_MODEL_H
#define EO_TFLITE_MODEL_H

#include "engines/engine.h"
#include "engines/tflite_abi.h"

#include <stdbool.h>

enum { EO_TFLITE_SAID = 512 };

/* XNNPACK's name for a cache without a file; without one it packs the weights for each signature. */
#define EO_TFLITE_WEIGHT_CACHE ":memory"

/* One input or output of one signature. One that is stored in 8 bits is float32 to the caller:
 * numbers become (number - zero_point) * scale, and back. */
struct tflite_form {
    const char *name; /* owned by the engine's library */
    int32_t dtype;
    int32_t is_quantised;
    float scale; /* 0 until it is set: numbers stand for themselves */
    int32_t zero_point;
    struct litert_tensor_type type;
};

struct tflite_signature {
    struct tfl_runner *runner; /* TfLite only; shared by the bindings */
    uint32_t input_count;
    uint32_t output_count;
    struct tflite_form inputs[EO_MAX_TENSORS];
    struct tflite_form outputs[EO_MAX_TENSORS];
};

struct tflite_model {
    const struct tflite_interface *interface;
    const void *data; /* the file, used where it lies */
    size_t bytes;
    void *mapped; /* NULL if it was given in memory */
    void *library;
    bool is_profiled;
    bool is_packed; /* weights lie in the file that the caller gave */
    struct litert_api litert;
    struct litert_environment *environment;
    struct litert_model *file;
    struct litert_compiled *compiled;
    struct tfl_api tfl;
    struct tfl_model *tfl_file;
    struct tfl_delegate *xnnpack;
    struct tfl_interpreter *interpreter;
    char said[EO_TFLITE_SAID]; /* what TfLite reported last */
    uint32_t signature_count;
    struct tflite_signature *signatures; /* the first one's names and dtypes are the artifact's */
};

struct tflite_binding {
    struct tflite_model *model;
    uint32_t signature;
    struct litert_buffer *inputs[EO_MAX_TENSORS]; /* LiteRt: over the caller's buffers */
    struct litert_buffer *outputs[EO_MAX_TENSORS];
    struct eo_tensor given[EO_MAX_TENSORS];   /* what is copied in */
    struct tfl_tensor *taken[EO_MAX_TENSORS]; /* TfLite: and where to */
    void *stored_inputs[EO_MAX_TENSORS];      /* LiteRt: of those in 8 bits, else NULL */
    void *stored_outputs[EO_MAX_TENSORS];
    struct eo_tensor results[EO_MAX_TENSORS]; /* of those in 8 bits in the caller's buffers */
};

/* What differs between the two. `load` and `version` come before a model is open, and `close` does
 * for what was opened of it. */
struct tflite_interface {
    int (*load)(void *library, const char *path, struct tflite_model *model,
                struct eo_failure *failure);
    const char *(*version)(void *library, const struct tflite_model *model); /* NULL: not told */
    int (*open)(struct tflite_model *model, const struct eo_open *how, struct eo_failure *failure);
    int (*bind)(struct tflite_binding *binding, const struct eo_tensor *inputs,
                const struct eo_tensor *outputs, struct eo_failure *failure);
    int (*run)(struct tflite_binding *binding, struct eo_failure *failure);
    void (*unbind)(struct tflite_binding *binding);
    void (*close)(struct tflite_model *model);
    int (*operators)(struct tflite_model *model, eo_operator_sink *sink, void *context,
                     struct eo_failure *failure); /* NULL: it cannot */
};

extern const struct tflite_interface eo_tflite_litert; /* LiteRt* */
extern const struct tflite_interface eo_tflite_tfl;    /* TfLite* */

#endif
