/* SPDX-FileCopyrightText: edgeopt contributors
 * SPDX-License-Identifier: Apache-2.0 */
/* The part of the two C interfaces of LiteRT that the engine uses, declared here because their
 * headers are not shipped with the libraries.
 *
 * Sources: litert/c/ of google-ai-edge/LiteRT (litert_common.h, litert_any.h, litert_layout.h,
 * litert_model_types.h, litert_environment.h, litert_environment_options.h, litert_model.h,
 * litert_options.h, litert_opaque_options.h, litert_compiled_model.h, litert_tensor_buffer.h), the
 * same in v2.1.6, v2.2.0 and v2.3.0; and tflite/core/c/c_api.h there, the same since TensorFlow
 * Lite 2.5 (signature runners: 2.16), with tflite/delegates/xnnpack/xnnpack_delegate.h.
 * Their notices are in THIRD_PARTY_NOTICES.txt. */
#ifndef EO_TFLITE_ABI_H
#define EO_TFLITE_ABI_H

#include <stdarg.h>
#include <stddef.h>
#include <stdint.h>

/* LiteRtElementType and TfLiteType share their numbers. */
enum { LITERT_FLOAT32 = 1, LITERT_INT32 = 2, LITERT_UINT8 = 3, LITERT_INT64 = 4, LITERT_INT8 = 9 };

/* ---- LiteRt*: libLiteRt.so from 2.1.6 ---- */

enum {
    LITERT_CPU = 1,                    /* LiteRtHwAccelerators, a set of bits */
    LITERT_ANY_INT = 2,                /* LiteRtAnyType */
    LITERT_ENV_AUTO_REGISTER = 24,     /* LiteRtEnvOptionTag: bits of the accelerators to set up */
    LITERT_ENV_MIN_LOG_SEVERITY = 25,  /* LiteRtEnvOptionTag */
    LITERT_LOG_ERROR = 3,              /* LiteRtLogSeverity */
    LITERT_MAX_RANK = 8,
};

struct litert_any {
    int32_t type;
    union {
        int64_t integer;
        double real;
        const void *pointer;
    } value;
};

struct litert_env_option {
    int32_t tag;
    struct litert_any value;
};

struct litert_layout {
    unsigned int rank : 7;
    unsigned int has_strides : 1;
    int32_t dims[LITERT_MAX_RANK]; /* negative if dynamic */
    uint32_t strides[LITERT_MAX_RANK];
};

struct litert_tensor_type {
    int32_t element;
    struct litert_layout layout;
};

/* LiteRtQuantizationPerTensor: a value is (number - zero_point) * scale. */
struct litert_scale {
    float scale;
    int64_t zero_point;
};

struct litert_environment;
struct litert_model;
struct litert_signature;
struct litert_tensor;
struct litert_options;
struct litert_opaque;
struct litert_compiled;
struct litert_buffer;

/* Every function that returns int returns 0 for success (LiteRtStatus). */
struct litert_api {
    int (*create_environment)(int count, const struct litert_env_option *options,
                              struct litert_environment **environment);
    void (*destroy_environment)(struct litert_environment *environment);
    int (*model_from_buffer)(struct litert_environment *environment, const void *data,
                             size_t bytes, struct litert_model **model); /* data must stay */
    /* Not called: the first release that has it is the first to pass the environment above. */
    int (*model_from_fd)(struct litert_environment *environment, int fd, size_t offset,
                         size_t bytes, struct litert_model **model);
    void (*destroy_model)(struct litert_model *model);
    int (*signature_count)(struct litert_model *model, size_t *count);
    int (*signature)(struct litert_model *model, size_t index, struct litert_signature **signature);
    int (*input_count)(struct litert_signature *signature, size_t *count);
    int (*output_count)(struct litert_signature *signature, size_t *count);
    int (*input_name)(struct litert_signature *signature, size_t index, const char **name);
    int (*output_name)(struct litert_signature *signature, size_t index, const char **name);
    int (*input_tensor)(struct litert_signature *signature, size_t index,
                        struct litert_tensor **tensor);
    int (*output_tensor)(struct litert_signature *signature, size_t index,
                         struct litert_tensor **tensor);
    int (*tensor_type)(struct litert_tensor *tensor, struct litert_tensor_type *type);
    int (*tensor_scale)(struct litert_tensor *tensor, struct litert_scale *scale);
    int (*create_options)(struct litert_options **options);
    void (*destroy_options)(struct litert_options *options);
    int (*set_accelerators)(struct litert_options *options, int set);
    int (*create_opaque)(const char *identifier, void *payload, void (*destroy)(void *payload),
                         struct litert_opaque **opaque);
    void (*destroy_opaque)(struct litert_opaque *opaque);
    int (*add_opaque)(struct litert_options *options, struct litert_opaque *opaque); /* owns it */
    int (*create_compiled)(struct litert_environment *environment, struct litert_model *model,
                           struct litert_options *options, struct litert_compiled **compiled);
    void (*destroy_compiled)(struct litert_compiled *compiled);
    int (*buffer_over)(const struct litert_tensor_type *type, void *data, size_t bytes,
                       void (*destroy)(void *data), struct litert_buffer **buffer);
    void (*destroy_buffer)(struct litert_buffer *buffer);
    int (*run)(struct litert_compiled *compiled, size_t signature, size_t input_count,
               struct litert_buffer **inputs, size_t output_count, struct litert_buffer **outputs);
    int (*error_messages)(struct litert_compiled *compiled, char **messages); /* to be freed */
};

/* ---- TfLite*: libLiteRt.so 2.1.0 for aarch64, libtensorflowlite_c.so ---- */

/* TfLiteQuantizationParams, which comes back by value; a scale of 0 says that there is none. */
struct tfl_scale {
    float scale;
    int32_t zero_point;
};

struct tfl_model;
struct tfl_options;
struct tfl_interpreter;
struct tfl_runner;
struct tfl_tensor;
struct tfl_delegate;

/* TfLiteXNNPackDelegateOptions, which only grows at its end; comes back by value. */
struct tfl_xnnpack_options {
    int32_t threads;
    uint32_t runtime_flags;
    uint32_t flags;
    void *weights_cache;
    _Bool handle_variable_ops;
    const char *weight_cache_path; /* ":memory": shared by the signatures, in memory */
    unsigned char newer[256];
};

typedef void tfl_reporter(void *user, const char *format, va_list arguments);

/* Every function that returns a status returns 0 for success (TfLiteStatus). */
struct tfl_api {
    const char *(*version)(void);
    struct tfl_model *(*model_from_buffer)(const void *data, size_t bytes, tfl_reporter *reporter,
                                           void *user); /* data must stay */
    void (*model_delete)(struct tfl_model *model);
    struct tfl_options *(*options_create)(void);
    void (*options_delete)(struct tfl_options *options);
    void (*set_threads)(struct tfl_options *options, int32_t threads);
    void (*set_reporter)(struct tfl_options *options, tfl_reporter *reporter, void *user);
    void (*add_delegate)(struct tfl_options *options, struct tfl_delegate *delegate);
    struct tfl_xnnpack_options (*xnnpack_defaults)(void);
    struct tfl_delegate *(*xnnpack_create)(const struct tfl_xnnpack_options *options);
    void (*xnnpack_delete)(struct tfl_delegate *delegate);
    struct tfl_interpreter *(*create)(const struct tfl_model *model,
                                      const struct tfl_options *options);
    void (*interpreter_delete)(struct tfl_interpreter *interpreter);
    int32_t (*signature_count)(const struct tfl_interpreter *interpreter);
    const char *(*signature_key)(const struct tfl_interpreter *interpreter, int32_t index);
    struct tfl_runner *(*runner)(const struct tfl_interpreter *interpreter, const char *key);
    void (*runner_delete)(struct tfl_runner *runner);
    size_t (*input_count)(const struct tfl_runner *runner);
    size_t (*output_count)(const struct tfl_runner *runner);
    const char *(*input_name)(const struct tfl_runner *runner, int32_t index);
    const char *(*output_name)(const struct tfl_runner *runner, int32_t index);
    struct tfl_tensor *(*input)(struct tfl_runner *runner, const char *name);
    const struct tfl_tensor *(*output)(const struct tfl_runner *runner, const char *name);
    int (*allocate)(struct tfl_runner *runner);
    int (*invoke)(struct tfl_runner *runner);
    int (*type)(const struct tfl_tensor *tensor);
    struct tfl_scale (*scale)(const struct tfl_tensor *tensor);
    int32_t (*rank)(const struct tfl_tensor *tensor);
    int32_t (*dim)(const struct tfl_tensor *tensor, int32_t index);
    size_t (*bytes)(const struct tfl_tensor *tensor);
    void *(*data)(const struct tfl_tensor *tensor);
};

#endif
