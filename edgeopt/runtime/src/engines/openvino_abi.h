/* SPDX-FileCopyrightText: edgeopt contributors
 * SPDX-License-Identifier: Apache-2.0 */
/* The part of OpenVINO's C interface that the engine uses, declared here because its headers are
 * not shipped. Source: openvino/c/ of OpenVINO 2026.4; the same since 2022.1 (API 2.0).
 * Its notice is in THIRD_PARTY_NOTICES.txt. */
#ifndef EO_OPENVINO_ABI_H
#define EO_OPENVINO_ABI_H

#include <stddef.h>
#include <stdint.h>

enum { OV_F32 = 4, OV_I32 = 9, OV_I64 = 10, OV_U8 = 16 }; /* ov_element_type_e */

struct ov_core;
struct ov_model;
struct ov_compiled;
struct ov_request;
struct ov_port;
struct ov_tensor;

struct ov_version {
    const char *build;
    const char *description;
};

struct ov_shape {
    int64_t rank;
    int64_t *dims;
};

struct ov_profiled { /* ov_profiling_info_t */
    int status;
    int64_t real_us; /* the mean of all calls */
    int64_t cpu_us;
    const char *name;
    const char *kernel;
    const char *type;
};

struct ov_profile {
    struct ov_profiled *nodes;
    size_t count;
};

/* Every function that returns int returns 0 for success (ov_status_e). */
struct ov_api {
    int (*get_version)(struct ov_version *version);
    void (*version_free)(struct ov_version *version);
    const char *(*last_error)(void);
    const char *(*error_info)(int status);
    void (*free_text)(const char *text);
    int (*core_create)(struct ov_core **core);
    void (*core_free)(struct ov_core *core);
    int (*set_property)(const struct ov_core *core, const char *device, ...);
    int (*compile)(const struct ov_core *core, const char *path, const char *device,
                   size_t property_words, struct ov_compiled **compiled, ...);
    int (*read_from_memory)(const struct ov_core *core, const char *graph, size_t bytes,
                            const struct ov_tensor *weights, struct ov_model **model);
    int (*compile_model)(const struct ov_core *core, const struct ov_model *model,
                         const char *device, size_t property_words,
                         struct ov_compiled **compiled, ...);
    void (*model_free)(struct ov_model *model);
    void (*compiled_free)(struct ov_compiled *compiled);
    int (*inputs_size)(const struct ov_compiled *compiled, size_t *size);
    int (*outputs_size)(const struct ov_compiled *compiled, size_t *size);
    int (*input)(const struct ov_compiled *compiled, size_t index, struct ov_port **port);
    int (*output)(const struct ov_compiled *compiled, size_t index, struct ov_port **port);
    int (*port_name)(const struct ov_port *port, char **name);
    int (*port_type)(const struct ov_port *port, int *type);
    void (*port_free)(struct ov_port *port);
    int (*request_create)(const struct ov_compiled *compiled, struct ov_request **request);
    void (*request_free)(struct ov_request *request);
    int (*set_input)(struct ov_request *request, size_t index, const struct ov_tensor *tensor);
    int (*set_output)(struct ov_request *request, size_t index, const struct ov_tensor *tensor);
    int (*infer)(struct ov_request *request);
    int (*profile)(const struct ov_request *request, struct ov_profile *profile);
    void (*profile_free)(struct ov_profile *profile);
    int (*tensor_over)(int type, struct ov_shape shape, void *data, struct ov_tensor **tensor);
    void (*tensor_free)(struct ov_tensor *tensor);
};

#endif
