/* SPDX-FileCopyrightText: edgeopt contributors
 * SPDX-License-Identifier: Apache-2.0 */
/* The part of onnxruntime's C interface that the engine calls, by position in its function table.
 *
 * Source: include/onnxruntime/core/session/onnxruntime_c_api.h, struct OrtApi, of
 * https://github.com/microsoft/onnxruntime (MIT). The table only grows at its end, and
 * onnxruntime_c_api.cc holds the old positions with static_assert ("Size of version X API cannot
 * change"). The slots up to 132 came with API version 5 (onnxruntime 1.5), and those further on, which
 * are used only if the library is of such a version, with 23 (onnxruntime 1.23).
 * Its notice is in THIRD_PARTY_NOTICES.txt. */
#ifndef EO_ONNX_ABI_H
#define EO_ONNX_ABI_H

#include <stddef.h>
#include <stdint.h>

#define EO_ORT_API_VERSION 5
#define EO_ORT_STATS_MINOR 23 /* of onnxruntime 1, the first that tells what an arena took */
#define EO_ORT_WEIGHTS_MINOR 18 /* the first that takes weights' files from memory */

struct ort_status;
struct ort_env;
struct ort_session;
struct ort_session_options;
struct ort_run_options;
struct ort_value;
struct ort_memory_info;
struct ort_type_info;
struct ort_tensor_info;
struct ort_pairs; /* OrtKeyValuePairs */

/* On Linux, OrtAllocator is a struct of these four (same header). */
struct ort_allocator {
    uint32_t version;
    void *(*alloc)(struct ort_allocator *allocator, size_t size);
    void (*release)(struct ort_allocator *allocator, void *memory);
    const struct ort_memory_info *(*info)(const struct ort_allocator *allocator);
};

enum { ORT_FLOAT = 1, ORT_INT32 = 6, ORT_INT64 = 7 };        /* ONNXTensorElementDataType */
enum { ORT_LEVEL_ERROR = 3 };                                /* OrtLoggingLevel */
enum { ORT_ARENA_ALLOCATOR = 1, ORT_MEM_TYPE_DEFAULT = 0 };  /* OrtAllocatorType, OrtMemType */
enum { ORT_DISABLE_ALL = 0, ORT_ENABLE_BASIC = 1, ORT_ENABLE_EXTENDED = 2, ORT_ENABLE_ALL = 99 };
enum { ORT_SEQUENTIAL = 0 };                                 /* ExecutionMode */

typedef struct ort_status *ort_result; /* NULL: success */

struct ort_api {
    void *slot_0[2];
    const char *(*get_error_message)(const struct ort_status *status); /* 2 */
    ort_result (*create_env)(int level, const char *id, struct ort_env **out); /* 3 */
    void *slot_4[3];
    ort_result (*create_session)(const struct ort_env *env, const char *path,
                                 const struct ort_session_options *options,
                                 struct ort_session **out); /* 7 */
    ort_result (*create_session_from)(const struct ort_env *env, const void *model, size_t bytes,
                                      const struct ort_session_options *options,
                                      struct ort_session **out); /* 8 CreateSessionFromArray */
    ort_result (*run)(struct ort_session *session, const struct ort_run_options *options,
                      const char *const *input_names, const struct ort_value *const *inputs,
                      size_t input_count, const char *const *output_names, size_t output_count,
                      struct ort_value **outputs); /* 9 */
    ort_result (*create_session_options)(struct ort_session_options **out); /* 10 */
    ort_result (*set_optimized_path)(struct ort_session_options *options, const char *path); /* 11 */
    void *slot_12[1];
    ort_result (*set_execution_mode)(struct ort_session_options *options, int mode); /* 13 */
    ort_result (*enable_profiling)(struct ort_session_options *options, const char *prefix); /* 14 */
    void *slot_15[8];
    ort_result (*set_optimization_level)(struct ort_session_options *options, int level); /* 23 */
    ort_result (*set_intra_op_threads)(struct ort_session_options *options, int threads); /* 24 */
    ort_result (*set_inter_op_threads)(struct ort_session_options *options, int threads); /* 25 */
    void *slot_26[4];
    ort_result (*input_count)(const struct ort_session *session, size_t *out);  /* 30 */
    ort_result (*output_count)(const struct ort_session *session, size_t *out); /* 31 */
    void *slot_32[1];
    ort_result (*input_type)(const struct ort_session *session, size_t index,
                             struct ort_type_info **out); /* 33 */
    ort_result (*output_type)(const struct ort_session *session, size_t index,
                              struct ort_type_info **out); /* 34 */
    void *slot_35[1];
    ort_result (*input_name)(const struct ort_session *session, size_t index,
                             struct ort_allocator *allocator, char **out); /* 36 */
    ort_result (*output_name)(const struct ort_session *session, size_t index,
                              struct ort_allocator *allocator, char **out); /* 37 */
    void *slot_38[11];
    ort_result (*create_tensor_over)(const struct ort_memory_info *where, void *data, size_t bytes,
                                     const int64_t *dims, size_t rank, int element_type,
                                     struct ort_value **out); /* 49 CreateTensorWithDataAsOrtValue */
    void *slot_50[1];
    ort_result (*tensor_data)(struct ort_value *value, void **out); /* 51 */
    void *slot_52[3];
    ort_result (*as_tensor_info)(const struct ort_type_info *type,
                                 const struct ort_tensor_info **out); /* 55, not owned */
    void *slot_56[4];
    ort_result (*element_type)(const struct ort_tensor_info *info, int *out);      /* 60 */
    ort_result (*rank)(const struct ort_tensor_info *info, size_t *out);           /* 61 */
    ort_result (*dims)(const struct ort_tensor_info *info, int64_t *out, size_t rank); /* 62 */
    void *slot_63[2];
    ort_result (*value_info)(const struct ort_value *value, struct ort_tensor_info **out); /* 65 */
    void *slot_66[3];
    ort_result (*cpu_memory_info)(int allocator_type, int memory_type,
                                  struct ort_memory_info **out); /* 69 */
    void *slot_70[6];
    ort_result (*allocator_free)(struct ort_allocator *allocator, void *memory); /* 76 */
    void *slot_77[1];
    ort_result (*default_allocator)(struct ort_allocator **out); /* 78, not owned */
    void *slot_79[13];
    void (*release_env)(struct ort_env *env);                         /* 92 */
    void (*release_status)(struct ort_status *status);                /* 93 */
    void (*release_memory_info)(struct ort_memory_info *info);        /* 94 */
    void (*release_session)(struct ort_session *session);             /* 95 */
    void (*release_value)(struct ort_value *value);                   /* 96 */
    void *slot_97[1];
    void (*release_type_info)(struct ort_type_info *info);            /* 98 */
    void (*release_tensor_info)(struct ort_tensor_info *info);        /* 99 */
    void (*release_session_options)(struct ort_session_options *options); /* 100 */
    void *slot_101[29];
    ort_result (*add_config)(struct ort_session_options *options, const char *key,
                             const char *value); /* 130 AddSessionConfigEntry */
    ort_result (*create_allocator)(const struct ort_session *session,
                                   const struct ort_memory_info *where,
                                   struct ort_allocator **out);      /* 131 */
    void (*release_allocator)(struct ort_allocator *allocator);      /* 132 */
    void *slot_133[146];
    ort_result (*add_weights)(struct ort_session_options *options, const char *const *names,
                              char *const *data, const size_t *bytes,
                              size_t count); /* 279 AddExternalInitializersFromFilesInMemory */
    void *slot_280[17];
    const char *(*pair)(const struct ort_pairs *pairs, const char *key); /* 297, NULL: none */
    void *slot_298[2];
    void (*release_pairs)(struct ort_pairs *pairs); /* 300 */
    void *slot_301[18];
    ort_result (*allocator_stats)(const struct ort_allocator *allocator,
                                  struct ort_pairs **out); /* 319 AllocatorGetStats */
};

_Static_assert(offsetof(struct ort_api, run) == 9 * sizeof(void *), "slot 9");
_Static_assert(offsetof(struct ort_api, enable_profiling) == 14 * sizeof(void *), "slot 14");
_Static_assert(offsetof(struct ort_api, output_name) == 37 * sizeof(void *), "slot 37");
_Static_assert(offsetof(struct ort_api, value_info) == 65 * sizeof(void *), "slot 65");
_Static_assert(offsetof(struct ort_api, release_env) == 92 * sizeof(void *), "slot 92");
_Static_assert(offsetof(struct ort_api, add_config) == 130 * sizeof(void *), "slot 130");
_Static_assert(offsetof(struct ort_api, add_weights) == 279 * sizeof(void *), "slot 279");
_Static_assert(offsetof(struct ort_api, pair) == 297 * sizeof(void *), "slot 297");
_Static_assert(offsetof(struct ort_api, allocator_stats) == 319 * sizeof(void *), "slot 319");

struct ort_api_base {
    const struct ort_api *(*get_api)(uint32_t version); /* NULL if the library is older */
    const char *(*version)(void);
};

typedef const struct ort_api_base *(*ort_get_api_base)(void); /* symbol OrtGetApiBase */

#endif
