/* SPDX-FileCopyrightText: edgeopt contributors
 * SPDX-License-Identifier: Apache-2.0 */
/* onnxruntime, opened with dlopen. */
#include "engines/engine.h"
#include "engines/library.h"
#include "engines/onnx_abi.h"

#include <dlfcn.h>
#include <stdbool.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>

/* A decoder has a key and a value for each layer besides: as many layers as a bundle may have. */
#define MAX_PORTS (EO_MAX_TENSORS + 2 * 256)

struct port {
    char *name; /* owned by onnxruntime's default allocator */
    int32_t dtype;
};

struct onnx_model {
    const struct ort_api *api;
    struct ort_allocator *allocator;
    struct ort_env *env;
    struct ort_session *session;
    struct ort_memory_info *memory;
    bool tells_arena, takes_weights;
    uint32_t input_count;
    uint32_t output_count;
    struct port inputs[MAX_PORTS];
    struct port outputs[MAX_PORTS];
    const char *input_names[MAX_PORTS];
    const char *output_names[MAX_PORTS];
};

struct onnx_binding {
    struct onnx_model *model;
    struct ort_value **inputs; /* over the caller's buffers, like the outputs, which stand behind */
    struct ort_value **outputs;
    struct eo_tensor results[]; /* one for each output; and behind them the values */
};

/* Turns onnxruntime's status into ours and releases it. */
static int check(const struct ort_api *api, ort_result status, const char *where,
                 struct eo_failure *failure)
{
    if (status == NULL) {
        return 0;
    }
    eo_fail(failure, EO_EENGINE, where, "%s", api->get_error_message(status));
    api->release_status(status);
    return -1;
}

static const struct ort_api_base *load(const char *path, struct eo_failure *failure)
{
    ort_get_api_base get_base = NULL;
    const struct eo_symbol symbols[] = {{"OrtGetApiBase", &get_base}, {NULL, NULL}};
    void *library = eo_library_open(path, RTLD_LOCAL, failure);

    if (library == NULL ||
        eo_library_symbols(library, path, symbols, "onnxruntime's library", failure) != 0) {
        return NULL;
    }
    return get_base();
}

static int ort_version(const char *path, char *text, size_t size, struct eo_failure *failure)
{
    const struct ort_api_base *base = load(path, failure);

    if (base == NULL) {
        return -1;
    }
    if (snprintf(text, size, "%s", base->version()) < 0) {
        return eo_fail(failure, EO_EENGINE, path, "version cannot be written");
    }
    return 0;
}

static int set_option(const struct ort_api *api, struct ort_session_options *options,
                      const struct eo_option *option, struct eo_failure *failure)
{
    static const struct {
        const char *name;
        int level;
    } levels[] = {{"disable", ORT_DISABLE_ALL},
                  {"basic", ORT_ENABLE_BASIC},
                  {"extended", ORT_ENABLE_EXTENDED},
                  {"all", ORT_ENABLE_ALL}};

    if (strcmp(option->key, "graph_optimization") == 0) {
        for (size_t i = 0; i < sizeof levels / sizeof levels[0]; i++) {
            if (strcmp(option->value, levels[i].name) == 0) {
                return check(api, api->set_optimization_level(options, levels[i].level),
                             option->key, failure);
            }
        }
        return eo_fail(failure, EO_EENGINE, option->key, "expected disable, basic, extended or all, found %s",
                       option->value);
    }
    if (strcmp(option->key, "operators") == 0) { /* closing the session ends VALUE_<time>.json */
        return check(api, api->enable_profiling(options, option->value), option->key, failure);
    }
    if (strcmp(option->key, "graph") == 0) { /* where the optimised one is written */
        return check(api, api->set_optimized_path(options, option->value), option->key, failure);
    }
    /* onnxruntime takes any session config key in silence; all of its own begin like this. */
    if (strncmp(option->key, "session.", 8) != 0 && strncmp(option->key, "optimization.", 13) != 0 &&
        strncmp(option->key, "mlas.", 5) != 0) {
        return eo_fail(failure, EO_EENGINE, option->key,
                       "unknown option of engine onnx (known: graph_optimization, session.*, "
                       "optimization.*, mlas.*)");
    }
    return check(api, api->add_config(options, option->key, option->value), option->key, failure);
}

/* Whether the version, such as "1.31.1", is 1.`minor` or later: the table of an older one ends sooner. */
static bool is_since(const char *version, long minor)
{
    char *rest;
    long major = strtol(version, &rest, 10);

    return major > 1 || (major == 1 && *rest == '.' && strtol(rest + 1, NULL, 10) >= minor);
}

/* Gives the files of weights that stand beside the graph; onnxruntime finds those of a directory, and
 * maps them, by itself. */
static int add_weights(const struct onnx_model *model, struct ort_session_options *options,
                       const struct eo_open *how, struct eo_failure *failure)
{
    int result = 0;

    if (how->files->path != NULL || how->file_count == 1) {
        return 0;
    }
    if (!model->takes_weights) {
        return eo_fail(failure, EO_EENGINE, how->library,
                       "is older than 1.%d, and opens weights beside a graph in a directory alone",
                       EO_ORT_WEIGHTS_MINOR);
    }
    for (uint32_t i = 1; result == 0 && i < how->file_count; i++) {
        const struct eo_file *file = &how->files[i];
        const char *slash = strrchr(file->name, '/'), *name = slash == NULL ? file->name : slash + 1;
        char *data = (char *)(uintptr_t)file->data; /* read alone */
        result = check(model->api, model->api->add_weights(options, &name, &data, &file->bytes, 1),
                       file->name, failure);
    }
    return result;
}

static int create_session(struct onnx_model *model, const struct eo_open *how,
                          struct eo_failure *failure)
{
    const struct ort_api *api = model->api;
    struct ort_session_options *options = NULL;
    int result;

    if (check(api, api->create_session_options(&options), how->library, failure) != 0) {
        return -1;
    }
    result = check(api, api->set_execution_mode(options, ORT_SEQUENTIAL), how->library, failure);
    if (result == 0) {
        result = check(api, api->set_intra_op_threads(options, how->threads), "--threads", failure);
    }
    if (result == 0) {
        result = check(api, api->set_inter_op_threads(options, 1), "--threads", failure);
    }
    for (size_t i = 0; result == 0 && i < how->option_count; i++) {
        result = set_option(api, options, &how->options[i], failure);
    }
    if (result == 0) {
        result = add_weights(model, options, how, failure);
    }
    if (result == 0) {
        const struct eo_file *file = how->files;
        result = check(api,
                       file->path != NULL
                           ? api->create_session(model->env, file->path, options, &model->session)
                           : api->create_session_from(model->env, file->data, file->bytes, options,
                                                      &model->session),
                       file->name, failure);
    }
    api->release_session_options(options);
    return result;
}

static int read_dtype(const struct ort_api *api, const struct ort_type_info *type, const char *name,
                      int32_t *dtype, struct eo_failure *failure)
{
    const struct ort_tensor_info *info = NULL;
    int element = 0;

    if (check(api, api->as_tensor_info(type, &info), name, failure) != 0) {
        return -1;
    }
    if (info == NULL) {
        return eo_fail(failure, EO_EENGINE, name, "is not a tensor");
    }
    if (check(api, api->element_type(info, &element), name, failure) != 0) {
        return -1;
    }
    switch (element) {
    case ORT_FLOAT:
        *dtype = EO_FLOAT32;
        return 0;
    case ORT_INT32:
        *dtype = EO_INT32;
        return 0;
    case ORT_INT64:
        *dtype = EO_INT64;
        return 0;
    default:
        return eo_fail(failure, EO_EENGINE, name,
                       "ONNX element type %d, expected float32 (1), int32 (6) or int64 (7)", element);
    }
}

static int read_port(const struct onnx_model *model, size_t index, int is_input,
                     struct port *port, struct eo_failure *failure)
{
    const struct ort_api *api = model->api;
    struct ort_type_info *type = NULL;
    ort_result status;
    int result;

    status = is_input ? api->input_name(model->session, index, model->allocator, &port->name)
                      : api->output_name(model->session, index, model->allocator, &port->name);
    if (check(api, status, "model", failure) != 0) {
        return -1;
    }
    status = is_input ? api->input_type(model->session, index, &type)
                      : api->output_type(model->session, index, &type);
    if (check(api, status, port->name, failure) != 0) {
        return -1;
    }
    result = read_dtype(api, type, port->name, &port->dtype, failure);
    api->release_type_info(type);
    return result;
}

static int read_ports(struct onnx_model *model, const char *file, struct eo_failure *failure)
{
    const struct ort_api *api = model->api;
    size_t inputs = 0, outputs = 0;

    if (check(api, api->input_count(model->session, &inputs), file, failure) != 0 ||
        check(api, api->output_count(model->session, &outputs), file, failure) != 0) {
        return -1;
    }
    if (inputs > MAX_PORTS || outputs > MAX_PORTS) {
        return eo_fail(failure, EO_EENGINE, file, "%zu inputs and %zu outputs, expected up to %d of each",
                       inputs, outputs, MAX_PORTS);
    }
    for (size_t i = 0; i < inputs; i++) {
        model->input_count = (uint32_t)i + 1;
        if (read_port(model, i, 1, &model->inputs[i], failure) != 0) {
            return -1;
        }
        model->input_names[i] = model->inputs[i].name;
    }
    for (size_t i = 0; i < outputs; i++) {
        model->output_count = (uint32_t)i + 1;
        if (read_port(model, i, 0, &model->outputs[i], failure) != 0) {
            return -1;
        }
        model->output_names[i] = model->outputs[i].name;
    }
    return 0;
}

static void free_name(struct onnx_model *model, struct port *port)
{
    struct eo_failure ignored;

    if (port->name != NULL) {
        /* Freeing fails only if the allocator itself is broken; nothing is left to do then. */
        (void)check(model->api, model->api->allocator_free(model->allocator, port->name),
                    "close", &ignored);
        port->name = NULL;
    }
}

static void ort_close(struct eo_model *opened)
{
    struct onnx_model *model = (struct onnx_model *)opened;

    if (model->api != NULL) {
        for (size_t i = 0; i < model->input_count; i++) {
            free_name(model, &model->inputs[i]);
        }
        for (size_t i = 0; i < model->output_count; i++) {
            free_name(model, &model->outputs[i]);
        }
        if (model->session != NULL) {
            model->api->release_session(model->session);
        }
        if (model->memory != NULL) {
            model->api->release_memory_info(model->memory);
        }
        if (model->env != NULL) {
            model->api->release_env(model->env);
        }
    }
    free(model);
}

static int open_model(struct onnx_model *model, const struct eo_open *how,
                      struct eo_failure *failure)
{
    const struct ort_api_base *base = load(how->library, failure);
    const struct ort_api *api;

    if (base == NULL) {
        return -1;
    }
    api = base->get_api(EO_ORT_API_VERSION);
    if (api == NULL) {
        return eo_fail(failure, EO_EENGINE, how->library,
                       "onnxruntime %s is too old: expected C API version %d", base->version(),
                       EO_ORT_API_VERSION);
    }
    model->api = api;
    model->tells_arena = is_since(base->version(), EO_ORT_STATS_MINOR);
    model->takes_weights = is_since(base->version(), EO_ORT_WEIGHTS_MINOR);
    /* From 1.31 on the official builds keep an id of the device and a file of events in the user's
     * home; who wants that sets the variable. */
    if (setenv("ORT_DISABLE_TELEMETRY", "1", 0) != 0) {
        return eo_fail(failure, EO_EENGINE, how->library, "its telemetry cannot be switched off");
    }
    if (check(api, api->create_env(ORT_LEVEL_ERROR, "edgeopt", &model->env), how->library,
              failure) != 0 ||
        check(api, api->default_allocator(&model->allocator), how->library, failure) != 0 ||
        check(api, api->cpu_memory_info(ORT_ARENA_ALLOCATOR, ORT_MEM_TYPE_DEFAULT, &model->memory),
              how->library, failure) != 0 ||
        create_session(model, how, failure) != 0) {
        return -1;
    }
    return read_ports(model, how->files[0].name, failure);
}

static int ort_open(const struct eo_open *how, struct eo_model **out, struct eo_failure *failure)
{
    struct onnx_model *model = calloc(1, sizeof *model);

    if (model == NULL) {
        return eo_fail(failure, EO_ENOMEM, how->files[0].name, "no memory for a session");
    }
    if (open_model(model, how, failure) != 0) {
        ort_close((struct eo_model *)model);
        return -1;
    }
    *out = (struct eo_model *)model;
    return 0;
}

static int ort_element(int32_t dtype)
{
    return dtype == EO_FLOAT32 ? ORT_FLOAT : dtype == EO_INT32 ? ORT_INT32 : ORT_INT64;
}

static int value_over(const struct onnx_model *model, const struct eo_tensor *tensor,
                      const char *name, struct ort_value **value, struct eo_failure *failure)
{
    const struct ort_api *api = model->api;
    size_t bytes = (size_t)tensor->count * eo_dtype_bytes(tensor->dtype);

    return check(api,
                 api->create_tensor_over(model->memory, tensor->data, bytes, tensor->dims,
                                         tensor->rank, ort_element(tensor->dtype), value),
                 name, failure);
}

static void ort_unbind(struct eo_binding *bound)
{
    struct onnx_binding *binding = (struct onnx_binding *)bound;

    size_t count = (size_t)binding->model->input_count + binding->model->output_count;

    for (size_t i = 0; i < count; i++) {
        if (binding->inputs[i] != NULL) {
            binding->model->api->release_value(binding->inputs[i]);
        }
    }
    free(binding);
}

static int ort_bind(struct eo_model *opened, const struct eo_tensor *inputs,
                    const struct eo_tensor *outputs, struct eo_binding **out,
                    struct eo_failure *failure)
{
    struct onnx_model *model = (struct onnx_model *)opened;
    size_t values = (size_t)model->input_count + model->output_count;
    size_t bytes = values * sizeof(struct ort_value *) + model->output_count * sizeof *outputs;
    struct onnx_binding *binding = calloc(1, sizeof *binding + bytes);
    int result = 0;

    if (binding == NULL) {
        return eo_fail(failure, EO_ENOMEM, "bind", "no memory for a binding");
    }
    binding->model = model;
    binding->inputs = (struct ort_value **)(void *)(binding->results + model->output_count);
    binding->outputs = binding->inputs + model->input_count;
    for (uint32_t i = 0; result == 0 && i < model->input_count; i++) {
        result = value_over(model, &inputs[i], model->inputs[i].name, &binding->inputs[i], failure);
    }
    for (uint32_t i = 0; result == 0 && i < model->output_count; i++) {
        binding->results[i] = outputs[i];
        result =
            value_over(model, &outputs[i], model->outputs[i].name, &binding->outputs[i], failure);
    }
    if (result != 0) {
        ort_unbind((struct eo_binding *)binding);
        return -1;
    }
    *out = (struct eo_binding *)binding;
    return 0;
}

static int ort_run(struct eo_binding *bound, struct eo_failure *failure)
{
    struct onnx_binding *binding = (struct onnx_binding *)bound;
    const struct onnx_model *model = binding->model;

    return check(model->api,
                 model->api->run(model->session, NULL, model->input_names,
                                 (const struct ort_value *const *)binding->inputs,
                                 model->input_count, model->output_names, model->output_count,
                                 binding->outputs),
                 "run", failure);
}

static uint32_t ort_input_count(const struct eo_model *opened)
{
    const struct onnx_model *model = (const struct onnx_model *)opened;

    return model->input_count;
}

static uint32_t ort_output_count(const struct eo_model *opened)
{
    const struct onnx_model *model = (const struct onnx_model *)opened;

    return model->output_count;
}

static struct eo_port ort_input(const struct eo_model *opened, uint32_t index)
{
    const struct onnx_model *model = (const struct onnx_model *)opened;

    return (struct eo_port){.name = model->inputs[index].name, .dtype = model->inputs[index].dtype};
}

static struct eo_port ort_output(const struct eo_model *opened, uint32_t index)
{
    const struct onnx_model *model = (const struct onnx_model *)opened;

    return (struct eo_port){.name = model->outputs[index].name,
                            .dtype = model->outputs[index].dtype};
}

static const struct eo_tensor *ort_result_of(const struct eo_binding *bound, uint32_t index)
{
    const struct onnx_binding *binding = (const struct onnx_binding *)bound;

    return &binding->results[index];
}

/* Of the session's arena: packed weights from the start, and tensors between layers from the first run
 * on. Weights that are not packed lie elsewhere. */
static int64_t ort_arena_bytes(const struct eo_model *opened)
{
    const struct onnx_model *model = (const struct onnx_model *)opened;
    const struct ort_api *api = model->api;
    struct ort_allocator *arena = NULL;
    struct ort_pairs *stats = NULL;
    struct eo_failure ignored;
    int64_t bytes = -1;

    if (!model->tells_arena || check(api, api->create_allocator(model->session, model->memory, &arena),
                                     "arena", &ignored) != 0) {
        return -1;
    }
    if (check(api, api->allocator_stats(arena, &stats), "arena", &ignored) == 0) {
        const char *told = api->pair(stats, "TotalAllocated");
        bytes = told == NULL ? -1 : strtoll(told, NULL, 10);
        api->release_pairs(stats);
    }
    api->release_allocator(arena);
    return bytes;
}

static const char *const libraries[] = {"libonnxruntime.so.1", "libonnxruntime.so", NULL};

const struct eo_engine eo_engine_onnx = {
    .name = "onnx",
    .any_length = true,
    .appends = true,
    .libraries = libraries,
    .version = ort_version,
    .open = ort_open,
    .input_count = ort_input_count,
    .output_count = ort_output_count,
    .input = ort_input,
    .output = ort_output,
    .bind = ort_bind,
    .run = ort_run,
    .result = ort_result_of,
    .unbind = ort_unbind,
    .close = ort_close,
    .arena_bytes = ort_arena_bytes,
};
