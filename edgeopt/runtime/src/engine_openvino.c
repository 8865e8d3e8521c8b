/* OpenVINO on its CPU plugin; libopenvino_c's own needs lie beside it. Options are the plugin's
 * properties, such as INFERENCE_PRECISION_HINT=f32. */
#include "engine.h"
#include "openvino_abi.h"

#include <dlfcn.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>

static const char device[] = "CPU";

struct port {
    char *name; /* owned by OpenVINO's allocator */
    int32_t dtype;
};

struct eo_session {
    struct ov_api api;
    struct ov_core *core;
    struct ov_compiled *compiled;
    struct ov_request *request;
    size_t input_count;
    size_t output_count;
    struct port inputs[EO_MAX_TENSORS];
    struct port outputs[EO_MAX_TENSORS];
    struct ov_tensor *input_tensors[EO_MAX_TENSORS];  /* over the caller's buffers */
    struct ov_tensor *output_tensors[EO_MAX_TENSORS]; /* over results[i].data */
    struct eo_tensor results[EO_MAX_TENSORS];         /* data is owned */
};

static int check(const struct ov_api *api, int status, const char *where,
                 struct eo_failure *failure)
{
    if (status == 0) {
        return 0;
    }
    const char *info = api->error_info(status);
    const char *said = api->last_error();
    eo_fail(failure, EO_EENGINE, where, "%s: %s", info == NULL ? "OpenVINO failed" : info,
            said == NULL ? "no reason given" : said);
    api->free_text(said);
    return -1;
}

static int load(const char *path, struct ov_api *api, struct eo_failure *failure)
{
    const struct {
        const char *name;
        void *member;
    } symbols[] = {{"ov_get_openvino_version", &api->get_version},
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
                   {"ov_infer_request_get_output_tensor_by_index", &api->get_output},
                   {"ov_infer_request_infer", &api->infer},
                   {"ov_tensor_create_from_host_ptr", &api->tensor_over},
                   {"ov_tensor_get_shape", &api->tensor_shape},
                   {"ov_tensor_free", &api->tensor_free},
                   {"ov_shape_free", &api->shape_free}};
    void *library = dlopen(path, RTLD_NOW | RTLD_LOCAL);

    if (library == NULL) {
        const char *why = dlerror();
        return eo_fail(failure, EO_EENGINE, path, "cannot be loaded (%s)", why == NULL ? "no reason given" : why);
    }
    for (size_t i = 0; i < sizeof symbols / sizeof symbols[0]; i++) {
        void *found = dlsym(library, symbols[i].name);
        if (found == NULL) {
            return eo_fail(failure, EO_EENGINE, path, "has no %s: it is not OpenVINO's C library",
                           symbols[i].name);
        }
        memcpy(symbols[i].member, &found, sizeof found); /* ISO C has no cast to a function */
    }
    return 0;
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

static int set_properties(struct eo_session *session, const struct eo_open *how,
                          struct eo_failure *failure)
{
    const struct ov_api *api = &session->api;
    char threads[16];

    if (snprintf(threads, sizeof threads, "%d", (int)how->threads) < 0) {
        return eo_fail(failure, EO_EENGINE, "--threads", "cannot be written");
    }
    if (check(api, api->set_property(session->core, device, "INFERENCE_NUM_THREADS", threads),
              "--threads", failure) != 0 ||
        check(api, api->set_property(session->core, device, "NUM_STREAMS", "1"), how->library,
              failure) != 0) {
        return -1;
    }
    for (size_t i = 0; i < how->option_count; i++) {
        const struct eo_option *option = &how->options[i];
        if (check(api, api->set_property(session->core, device, option->key, option->value),
                  option->key, failure) != 0) {
            return -1;
        }
    }
    return 0;
}

static int read_port(const struct eo_session *session, size_t index, int is_input,
                     struct port *port, struct eo_failure *failure)
{
    const struct ov_api *api = &session->api;
    struct ov_port *found = NULL;
    int type = 0;
    int result;

    if (check(api, is_input ? api->input(session->compiled, index, &found)
                            : api->output(session->compiled, index, &found),
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

static int read_ports(struct eo_session *session, const char *model, struct eo_failure *failure)
{
    const struct ov_api *api = &session->api;
    size_t inputs = 0, outputs = 0;

    if (check(api, api->inputs_size(session->compiled, &inputs), model, failure) != 0 ||
        check(api, api->outputs_size(session->compiled, &outputs), model, failure) != 0) {
        return -1;
    }
    if (inputs > EO_MAX_TENSORS || outputs > EO_MAX_TENSORS) {
        return eo_fail(failure, EO_EENGINE, model, "%zu inputs and %zu outputs, expected up to %d of each",
                       inputs, outputs, EO_MAX_TENSORS);
    }
    for (session->input_count = 0; session->input_count < inputs; session->input_count++) {
        size_t i = session->input_count;
        if (read_port(session, i, 1, &session->inputs[i], failure) != 0) {
            return -1;
        }
    }
    for (session->output_count = 0; session->output_count < outputs; session->output_count++) {
        size_t i = session->output_count;
        if (read_port(session, i, 0, &session->outputs[i], failure) != 0) {
            return -1;
        }
    }
    return 0;
}

static void unbind(struct eo_session *session)
{
    for (size_t i = 0; i < EO_MAX_TENSORS; i++) {
        if (session->input_tensors[i] != NULL) {
            session->api.tensor_free(session->input_tensors[i]);
            session->input_tensors[i] = NULL;
        }
        if (session->output_tensors[i] != NULL) {
            session->api.tensor_free(session->output_tensors[i]);
            session->output_tensors[i] = NULL;
        }
        free(session->results[i].data);
        session->results[i].data = NULL;
    }
}

/* Ends the request too, which holds on to the tensors that were set. */
static void end_request(struct eo_session *session)
{
    if (session->request != NULL) {
        session->api.request_free(session->request);
        session->request = NULL;
    }
    unbind(session);
}

static void openvino_close(struct eo_session *session)
{
    end_request(session);
    for (size_t i = 0; i < EO_MAX_TENSORS; i++) {
        if (session->inputs[i].name != NULL) {
            session->api.free_text(session->inputs[i].name);
        }
        if (session->outputs[i].name != NULL) {
            session->api.free_text(session->outputs[i].name);
        }
    }
    if (session->compiled != NULL) {
        session->api.compiled_free(session->compiled);
    }
    if (session->core != NULL) {
        session->api.core_free(session->core);
    }
    /* No dlclose: plugins and their thread pool outlive the session. */
    free(session);
}

static int open_session(struct eo_session *session, const struct eo_open *how,
                        struct eo_failure *failure)
{
    const struct ov_api *api = &session->api;

    if (load(how->library, &session->api, failure) != 0 ||
        check(api, api->core_create(&session->core), how->library, failure) != 0 ||
        set_properties(session, how, failure) != 0 ||
        check(api, api->compile(session->core, how->model, device, 0, &session->compiled),
              how->model, failure) != 0) {
        return -1;
    }
    return read_ports(session, how->model, failure);
}

static int openvino_open(const struct eo_open *how, struct eo_session **out,
                         struct eo_failure *failure)
{
    struct eo_session *session = calloc(1, sizeof *session);

    if (session == NULL) {
        return eo_fail(failure, EO_EENGINE, how->model, "no memory for a session");
    }
    if (open_session(session, how, failure) != 0) {
        openvino_close(session);
        return -1;
    }
    *out = session;
    return 0;
}

static int openvino_run(struct eo_session *session, struct eo_failure *failure)
{
    return check(&session->api, session->api.infer(session->request), "run", failure);
}

static int tensor_over(struct eo_session *session, const struct eo_tensor *view, const char *name,
                       struct ov_tensor **tensor, struct eo_failure *failure)
{
    int64_t dims[EO_MAX_RANK];
    struct ov_shape shape = {.rank = view->rank, .dims = dims};
    int type = view->dtype == EO_FLOAT32 ? OV_F32 : view->dtype == EO_INT32 ? OV_I32 : OV_I64;

    memcpy(dims, view->dims, sizeof dims);
    return check(&session->api, session->api.tensor_over(type, shape, view->data, tensor), name,
                 failure);
}

/* Learns the shape of an output from the run before, and gives it a buffer of ours. */
static int bind_output(struct eo_session *session, size_t index, struct eo_failure *failure)
{
    const struct ov_api *api = &session->api;
    const char *name = session->outputs[index].name;
    struct eo_tensor *view = &session->results[index];
    struct ov_tensor *found = NULL;
    struct ov_shape shape = {0, NULL};
    int result;

    if (session->outputs[index].dtype != EO_FLOAT32) {
        return eo_fail(failure, EO_EENGINE, name, "is not float32");
    }
    if (check(api, api->get_output(session->request, index, &found), name, failure) != 0) {
        return -1;
    }
    result = check(api, api->tensor_shape(found, &shape), name, failure);
    api->tensor_free(found);
    if (result != 0) {
        return -1;
    }
    *view = (struct eo_tensor){.dtype = EO_FLOAT32, .rank = (uint32_t)shape.rank, .count = 1};
    for (int64_t i = 0; i < shape.rank && i < EO_MAX_RANK; i++) {
        view->dims[i] = shape.dims[i];
        view->count *= (size_t)shape.dims[i];
    }
    result = shape.rank > EO_MAX_RANK ? eo_fail(failure, EO_EENGINE, name, "rank %lld, expected up to %d",
                                                (long long)shape.rank, EO_MAX_RANK)
                                      : 0;
    (void)api->shape_free(&shape); /* fails for a shape without dims only */
    if (result != 0) {
        return -1;
    }
    view->data = calloc(view->count == 0 ? 1 : view->count, sizeof(float));
    if (view->data == NULL) {
        return eo_fail(failure, EO_EENGINE, name, "no memory for %zu values", view->count);
    }
    if (tensor_over(session, view, name, &session->output_tensors[index], failure) != 0) {
        return -1;
    }
    return check(api, api->set_output(session->request, index, session->output_tensors[index]),
                 name, failure);
}

static int openvino_bind(struct eo_session *session, const struct eo_tensor *inputs,
                         struct eo_failure *failure)
{
    const struct ov_api *api = &session->api;

    end_request(session);
    if (check(api, api->request_create(session->compiled, &session->request), "bind", failure) != 0) {
        return -1;
    }
    for (size_t i = 0; i < session->input_count; i++) {
        const char *name = session->inputs[i].name;
        if (tensor_over(session, &inputs[i], name, &session->input_tensors[i], failure) != 0 ||
            check(api, api->set_input(session->request, i, session->input_tensors[i]), name,
                  failure) != 0) {
            return -1;
        }
    }
    if (openvino_run(session, failure) != 0) {
        return -1;
    }
    for (size_t i = 0; i < session->output_count; i++) {
        if (bind_output(session, i, failure) != 0) {
            return -1;
        }
    }
    return 0;
}

static size_t openvino_input_count(const struct eo_session *session)
{
    return session->input_count;
}

static size_t openvino_output_count(const struct eo_session *session)
{
    return session->output_count;
}

static struct eo_port openvino_input(const struct eo_session *session, size_t index)
{
    return (struct eo_port){.name = session->inputs[index].name,
                            .dtype = session->inputs[index].dtype};
}

static struct eo_port openvino_output(const struct eo_session *session, size_t index)
{
    return (struct eo_port){.name = session->outputs[index].name,
                            .dtype = session->outputs[index].dtype};
}

static const struct eo_tensor *openvino_result(const struct eo_session *session, size_t index)
{
    return &session->results[index];
}

const struct eo_engine eo_engine_openvino = {
    .name = "openvino",
    .version = openvino_version,
    .open = openvino_open,
    .input_count = openvino_input_count,
    .output_count = openvino_output_count,
    .input = openvino_input,
    .output = openvino_output,
    .bind = openvino_bind,
    .run = openvino_run,
    .result = openvino_result,
    .close = openvino_close,
};
