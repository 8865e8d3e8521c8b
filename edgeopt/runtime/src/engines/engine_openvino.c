/* SPDX-FileCopyrightText: edgeopt contributors
 * SPDX-License-Identifier: Apache-2.0 */
/* OpenVINO on its CPU plugin; libopenvino_c's own needs lie beside it. Options are the plugin's
 * properties, such as INFERENCE_PRECISION_HINT=f32. */
#include "engines/engine.h"
#include "engines/library.h"
#include "engines/openvino_abi.h"

#include <dlfcn.h>
#include <stdbool.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>

static const char device[] = "CPU";

/* A NaN that no kernel makes, put where the results will be. With one thread OpenVINO (2026.4.1) does
 * not tell that shapes inside a model did not fit: it leaves the results of the run before. */
static const uint32_t untouched = 0x7fedf00dU;

struct port {
    char *name; /* owned by OpenVINO's allocator */
    int32_t dtype;
};

struct openvino_model {
    struct ov_api api;
    struct ov_core *core;
    struct ov_compiled *compiled;
    struct ov_request *request; /* one for all bindings: each would have memory of its own */
    const struct openvino_binding *bound;
    int64_t runs; /* that the plugin's own times are the mean of, if it takes them (PERF_COUNT) */
    uint32_t input_count;
    uint32_t output_count;
    struct port inputs[EO_MAX_TENSORS];
    struct port outputs[EO_MAX_TENSORS];
};

struct openvino_binding {
    struct openvino_model *model;
    struct ov_tensor *inputs[EO_MAX_TENSORS]; /* over the caller's buffers, like the outputs */
    struct ov_tensor *outputs[EO_MAX_TENSORS];
    struct eo_tensor results[EO_MAX_TENSORS];
};

static int check(const struct ov_api *api, int status, const char *where,
                 struct eo_failure *failure)
{
    if (status == 0) {
        return 0;
    }
    const char *info = api->error_info(status);
    const char *said = api->last_error();
    const char *reason = said == NULL ? "no reason given" : said;
    size_t length = strlen(reason);
    while (length > 0 && reason[length - 1] == '\n') {
        length--;
    }
    eo_fail(failure, EO_EENGINE, where, "%s: %.*s", info == NULL ? "OpenVINO failed" : info,
            length > 900 ? 900 : (int)length, reason);
    api->free_text(said);
    return -1;
}

static int load(const char *path, struct ov_api *api, struct eo_failure *failure)
{
    const struct eo_symbol symbols[] = {{"ov_get_openvino_version", &api->get_version},
                                        {"ov_version_free", &api->version_free},
                                        {"ov_get_last_err_msg", &api->last_error},
                                        {"ov_get_error_info", &api->error_info},
                                        {"ov_free", &api->free_text},
                                        {"ov_core_create", &api->core_create},
                                        {"ov_core_free", &api->core_free},
                                        {"ov_core_set_property", &api->set_property},
                                        {"ov_core_compile_model_from_file", &api->compile},
                                        {"ov_compiled_model_free", &api->compiled_free},
                                        {"ov_compiled_model_inputs_size", &api->inputs_size},
                                        {"ov_compiled_model_outputs_size", &api->outputs_size},
                                        {"ov_compiled_model_input_by_index", &api->input},
                                        {"ov_compiled_model_output_by_index", &api->output},
                                        {"ov_port_get_any_name", &api->port_name},
                                        {"ov_port_get_element_type", &api->port_type},
                                        {"ov_output_const_port_free", &api->port_free},
                                        {"ov_compiled_model_create_infer_request", &api->request_create},
                                        {"ov_infer_request_free", &api->request_free},
                                        {"ov_infer_request_set_input_tensor_by_index", &api->set_input},
                                        {"ov_infer_request_set_output_tensor_by_index", &api->set_output},
                                        {"ov_infer_request_infer", &api->infer},
                                        {"ov_infer_request_get_profiling_info", &api->profile},
                                        {"ov_profiling_info_list_free", &api->profile_free},
                                        {"ov_tensor_create_from_host_ptr", &api->tensor_over},
                                        {"ov_tensor_free", &api->tensor_free},
                                        {"ov_core_read_model_from_memory_buffer", &api->read_from_memory},
                                        {"ov_core_compile_model", &api->compile_model},
                                        {"ov_model_free", &api->model_free},
                                        {NULL, NULL}};
    void *library = eo_library_open(path, RTLD_LOCAL, failure);

    return library == NULL
               ? -1
               : eo_library_symbols(library, path, symbols, "OpenVINO's C library", failure);
}

static int openvino_version(const char *path, char *text, size_t size, struct eo_failure *failure)
{
    struct ov_api api;
    struct ov_version version = {NULL, NULL};
    int written;

    if (load(path, &api, failure) != 0 ||
        check(&api, api.get_version(&version), path, failure) != 0) {
        return -1;
    }
    /* "2026.4.1-22982-...": the version and the build. */
    written = snprintf(text, size, "%.*s", (int)strcspn(version.build, "-"), version.build);
    api.version_free(&version);
    return written < 0 ? eo_fail(failure, EO_EENGINE, path, "version cannot be written") : 0;
}

static int set_properties(struct openvino_model *model, const struct eo_open *how,
                          struct eo_failure *failure)
{
    const struct ov_api *api = &model->api;
    char threads[16];

    if (snprintf(threads, sizeof threads, "%d", (int)how->threads) < 0) {
        return eo_fail(failure, EO_EENGINE, "--threads", "cannot be written");
    }
    if (check(api, api->set_property(model->core, device, "INFERENCE_NUM_THREADS", threads),
              "--threads", failure) != 0 ||
        check(api, api->set_property(model->core, device, "NUM_STREAMS", "1"), how->library,
              failure) != 0) {
        return -1;
    }
    for (size_t i = 0; i < how->option_count; i++) {
        const struct eo_option *option = &how->options[i];
        if (check(api, api->set_property(model->core, device, option->key, option->value),
                  option->key, failure) != 0) {
            return -1;
        }
    }
    return 0;
}

static int read_port(const struct openvino_model *model, size_t index, int is_input,
                     struct port *port, struct eo_failure *failure)
{
    const struct ov_api *api = &model->api;
    struct ov_port *found = NULL;
    int type = 0;
    int result;

    if (check(api, is_input ? api->input(model->compiled, index, &found)
                            : api->output(model->compiled, index, &found),
              "model", failure) != 0) {
        return -1;
    }
    result = check(api, api->port_name(found, &port->name), "model", failure);
    if (result == 0) {
        result = check(api, api->port_type(found, &type), port->name, failure);
    }
    api->port_free(found);
    if (result != 0) {
        return -1;
    }
    if (type != OV_F32 && type != OV_I32 && type != OV_I64) {
        return eo_fail(failure, EO_EENGINE, port->name, "element type %d, expected float32, int32 or int64",
                       type);
    }
    port->dtype = type == OV_F32 ? EO_FLOAT32 : type == OV_I32 ? EO_INT32 : EO_INT64;
    return 0;
}

static int read_ports(struct openvino_model *model, const char *file, struct eo_failure *failure)
{
    const struct ov_api *api = &model->api;
    size_t inputs = 0, outputs = 0;

    if (check(api, api->inputs_size(model->compiled, &inputs), file, failure) != 0 ||
        check(api, api->outputs_size(model->compiled, &outputs), file, failure) != 0) {
        return -1;
    }
    if (inputs > EO_MAX_TENSORS || outputs > EO_MAX_TENSORS) {
        return eo_fail(failure, EO_EENGINE, file, "%zu inputs and %zu outputs, expected up to %d of each",
                       inputs, outputs, EO_MAX_TENSORS);
    }
    for (model->input_count = 0; model->input_count < inputs; model->input_count++) {
        uint32_t i = model->input_count;
        if (read_port(model, i, 1, &model->inputs[i], failure) != 0) {
            return -1;
        }
    }
    for (model->output_count = 0; model->output_count < outputs; model->output_count++) {
        uint32_t i = model->output_count;
        if (read_port(model, i, 0, &model->outputs[i], failure) != 0) {
            return -1;
        }
    }
    return 0;
}

static void openvino_close(struct eo_model *opened)
{
    struct openvino_model *model = (struct openvino_model *)opened;

    for (size_t i = 0; i < EO_MAX_TENSORS; i++) {
        if (model->inputs[i].name != NULL) {
            model->api.free_text(model->inputs[i].name);
        }
        if (model->outputs[i].name != NULL) {
            model->api.free_text(model->outputs[i].name);
        }
    }
    if (model->request != NULL) {
        model->api.request_free(model->request);
    }
    if (model->compiled != NULL) {
        model->api.compiled_free(model->compiled);
    }
    if (model->core != NULL) {
        model->api.core_free(model->core);
    }
    free(model);
}

/* The two files of a packed bundle, the weights used where they lie. */
static int compile_mapped(struct openvino_model *model, const struct eo_open *how,
                          struct eo_failure *failure)
{
    const struct ov_api *api = &model->api;
    const struct eo_file *graph = &how->files[0];
    const struct eo_file *weights = &how->files[1];
    int64_t dims[] = {(int64_t)weights->bytes};
    const struct ov_shape shape = {.rank = 1, .dims = dims};
    struct ov_tensor *tensor = NULL;
    struct ov_model *read = NULL;
    void *data = NULL;
    int result;

    memcpy(&data, &weights->data, sizeof data); /* OpenVINO's tensors are not const; it reads only */
    if (check(api, api->tensor_over(OV_U8, shape, data, &tensor), weights->name, failure) != 0) {
        return -1;
    }
    result = check(api,
                   api->read_from_memory(model->core, graph->data, graph->bytes, tensor, &read),
                   graph->name, failure);
    if (result == 0) {
        result = check(api, api->compile_model(model->core, read, device, 0, &model->compiled),
                       graph->name, failure);
        api->model_free(read);
    }
    api->tensor_free(tensor);
    return result;
}

static int open_model(struct openvino_model *model, const struct eo_open *how,
                      struct eo_failure *failure)
{
    const struct ov_api *api = &model->api;
    const struct eo_file *graph = &how->files[0];

    if (how->file_count != 2) {
        return eo_fail(failure, EO_EBUNDLE, graph->name, "%u files, expected .xml and .bin",
                       (unsigned)how->file_count);
    }
    if (load(how->library, &model->api, failure) != 0 ||
        check(api, api->core_create(&model->core), how->library, failure) != 0 ||
        set_properties(model, how, failure) != 0) {
        return -1;
    }
    if (graph->path == NULL) {
        if (compile_mapped(model, how, failure) != 0) {
            return -1;
        }
    } else if (check(api, api->compile(model->core, graph->path, device, 0, &model->compiled),
                     graph->name, failure) != 0) {
        return -1;
    }
    if (check(api, api->request_create(model->compiled, &model->request), graph->name, failure) !=
        0) {
        return -1;
    }
    return read_ports(model, graph->name, failure);
}

static int openvino_open(const struct eo_open *how, struct eo_model **out,
                         struct eo_failure *failure)
{
    struct openvino_model *model = calloc(1, sizeof *model);

    if (model == NULL) {
        return eo_fail(failure, EO_ENOMEM, how->files[0].name, "no memory for a session");
    }
    if (open_model(model, how, failure) != 0) {
        openvino_close((struct eo_model *)model);
        return -1;
    }
    *out = (struct eo_model *)model;
    return 0;
}

static void openvino_unbind(struct eo_binding *bound)
{
    struct openvino_binding *binding = (struct openvino_binding *)bound;

    for (size_t i = 0; i < EO_MAX_TENSORS; i++) {
        if (binding->inputs[i] != NULL) {
            binding->model->api.tensor_free(binding->inputs[i]);
        }
        if (binding->outputs[i] != NULL) {
            binding->model->api.tensor_free(binding->outputs[i]);
        }
    }
    if (binding->model->bound == binding) {
        binding->model->bound = NULL;
    }
    free(binding);
}

static int tensor_over(const struct ov_api *api, const struct eo_tensor *tensor, const char *name,
                       struct ov_tensor **over, struct eo_failure *failure)
{
    int64_t dims[EO_MAX_RANK];
    const struct ov_shape shape = {.rank = tensor->rank, .dims = dims};
    int type = tensor->dtype == EO_FLOAT32 ? OV_F32 : tensor->dtype == EO_INT32 ? OV_I32 : OV_I64;

    memcpy(dims, tensor->dims, sizeof dims);
    return check(api, api->tensor_over(type, shape, tensor->data, over), name, failure);
}

static int openvino_bind(struct eo_model *opened, const struct eo_tensor *inputs,
                         const struct eo_tensor *outputs, struct eo_binding **out,
                         struct eo_failure *failure)
{
    struct openvino_model *model = (struct openvino_model *)opened;
    struct openvino_binding *binding = calloc(1, sizeof *binding);
    int result = 0;

    if (binding == NULL) {
        return eo_fail(failure, EO_ENOMEM, "bind", "no memory for a binding");
    }
    binding->model = model;
    for (uint32_t i = 0; result == 0 && i < model->input_count; i++) {
        result = tensor_over(&model->api, &inputs[i], model->inputs[i].name, &binding->inputs[i],
                             failure);
    }
    for (uint32_t i = 0; result == 0 && i < model->output_count; i++) {
        binding->results[i] = outputs[i];
        result = tensor_over(&model->api, &outputs[i], model->outputs[i].name,
                             &binding->outputs[i], failure);
    }
    if (result != 0) {
        openvino_unbind((struct eo_binding *)binding);
        return -1;
    }
    *out = (struct eo_binding *)binding;
    return 0;
}

/* Gives the request the buffers of `binding`. */
static int take_buffers(const struct openvino_binding *binding, struct eo_failure *failure)
{
    struct openvino_model *model = binding->model;
    const struct ov_api *api = &model->api;

    model->bound = NULL;
    for (uint32_t i = 0; i < model->input_count; i++) {
        if (check(api, api->set_input(model->request, i, binding->inputs[i]),
                  model->inputs[i].name, failure) != 0) {
            return -1;
        }
    }
    for (uint32_t i = 0; i < model->output_count; i++) {
        if (check(api, api->set_output(model->request, i, binding->outputs[i]),
                  model->outputs[i].name, failure) != 0) {
            return -1;
        }
    }
    model->bound = binding;
    return 0;
}

static bool is_marked(const struct eo_tensor *result)
{
    return result->dtype == EO_FLOAT32 && result->count > 0;
}

static int openvino_run(struct eo_binding *bound, struct eo_failure *failure)
{
    struct openvino_binding *binding = (struct openvino_binding *)bound;
    struct openvino_model *model = binding->model;

    model->runs++;
    if (model->bound != binding && take_buffers(binding, failure) != 0) {
        return -1;
    }
    for (uint32_t i = 0; i < model->output_count; i++) {
        if (is_marked(&binding->results[i])) {
            memcpy(binding->results[i].data, &untouched, sizeof untouched);
        }
    }
    if (check(&model->api, model->api.infer(model->request), "run", failure) != 0) {
        return -1;
    }
    for (uint32_t i = 0; i < model->output_count; i++) {
        if (is_marked(&binding->results[i]) &&
            memcmp(binding->results[i].data, &untouched, sizeof untouched) == 0) {
            return eo_fail(failure, EO_EENGINE, model->outputs[i].name,
                           "OpenVINO gave no result: shapes inside the model do not fit this input");
        }
    }
    return 0;
}

/* States are a request's own, and its C interface (2026.4) has no call that resets them. */
static int openvino_forget(struct eo_model *opened, struct eo_failure *failure)
{
    struct openvino_model *model = (struct openvino_model *)opened;
    struct ov_request *fresh = NULL;

    if (check(&model->api, model->api.request_create(model->compiled, &fresh), "states", failure) !=
        0) {
        return -1;
    }
    model->api.request_free(model->request);
    model->request = fresh;
    model->bound = NULL;
    return 0;
}

/* The plugin keeps whole microseconds of each call, and tells their mean. A node whose mean is 0 has
 * the status of one that never ran, so that is not asked. */
static int openvino_operators(struct eo_model *opened, eo_operator_sink *sink, void *context,
                              struct eo_failure *failure)
{
    struct openvino_model *model = (struct openvino_model *)opened;
    struct ov_profile profile = {NULL, 0};

    if (check(&model->api, model->api.profile(model->request, &profile), "operators", failure) != 0) {
        return -1;
    }
    for (size_t i = 0; i < profile.count; i++) {
        const struct ov_profiled *node = &profile.nodes[i];
        const struct eo_operator told = {.name = node->name,
                                         .type = node->type,
                                         .kernel = node->kernel,
                                         .ns = node->real_us * 1000 * model->runs};
        sink(context, &told);
    }
    model->api.profile_free(&profile);
    return 0;
}

static uint32_t openvino_input_count(const struct eo_model *opened)
{
    const struct openvino_model *model = (const struct openvino_model *)opened;

    return model->input_count;
}

static uint32_t openvino_output_count(const struct eo_model *opened)
{
    const struct openvino_model *model = (const struct openvino_model *)opened;

    return model->output_count;
}

static struct eo_port openvino_input(const struct eo_model *opened, uint32_t index)
{
    const struct openvino_model *model = (const struct openvino_model *)opened;

    return (struct eo_port){.name = model->inputs[index].name, .dtype = model->inputs[index].dtype};
}

static struct eo_port openvino_output(const struct eo_model *opened, uint32_t index)
{
    const struct openvino_model *model = (const struct openvino_model *)opened;

    return (struct eo_port){.name = model->outputs[index].name,
                            .dtype = model->outputs[index].dtype};
}

static const struct eo_tensor *openvino_result(const struct eo_binding *bound, uint32_t index)
{
    const struct openvino_binding *binding = (const struct openvino_binding *)bound;

    return &binding->results[index];
}

static const char *const libraries[] = {"libopenvino_c.so", NULL};

const struct eo_engine eo_engine_openvino = {
    .name = "openvino",
    .holds = 3, /* it makes room for twice what it has, and moves that layer by layer */
    .forget = openvino_forget,
    .libraries = libraries,
    .version = openvino_version,
    .open = openvino_open,
    .input_count = openvino_input_count,
    .output_count = openvino_output_count,
    .input = openvino_input,
    .output = openvino_output,
    .bind = openvino_bind,
    .run = openvino_run,
    .result = openvino_result,
    .unbind = openvino_unbind,
    .close = openvino_close,
    .operators = openvino_operators,
};
