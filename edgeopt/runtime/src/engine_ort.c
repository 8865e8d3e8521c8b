/* onnxruntime, opened with dlopen. */
#include "engine.h"
#include "ort_abi.h"

#include <dlfcn.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>

struct port {
    char *name; /* owned by onnxruntime's default allocator */
    int32_t dtype;
};

struct eo_session {
    void *library;
    const struct ort_api *api;
    struct ort_allocator *allocator;
    struct ort_env *env;
    struct ort_session *session;
    struct ort_memory_info *memory;
    size_t input_count;
    size_t output_count;
    struct port inputs[EO_MAX_TENSORS];
    struct port outputs[EO_MAX_TENSORS];
    const char *input_names[EO_MAX_TENSORS];
    const char *output_names[EO_MAX_TENSORS];
    struct ort_value *input_values[EO_MAX_TENSORS];
    struct ort_value *output_values[EO_MAX_TENSORS]; /* onnxruntime's own buffers, kept and reused */
    struct eo_tensor results[EO_MAX_TENSORS];        /* views of output_values */
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

static const struct ort_api_base *load(const char *path, void **library, struct eo_failure *failure)
{
    ort_get_api_base get_base = NULL;
    void *symbol;

    *library = dlopen(path, RTLD_NOW | RTLD_LOCAL);
    if (*library == NULL) {
        const char *why = dlerror();
        eo_fail(failure, EO_EENGINE, path, "cannot be loaded (%s)", why == NULL ? "no reason given" : why);
        return NULL;
    }
    symbol = dlsym(*library, "OrtGetApiBase");
    if (symbol == NULL) {
        eo_fail(failure, EO_EENGINE, path, "has no OrtGetApiBase: it is not onnxruntime's library");
        return NULL;
    }
    memcpy(&get_base, &symbol, sizeof get_base); /* ISO C has no cast from data to function */
    return get_base();
}

static int ort_version(const char *path, char *text, size_t size, struct eo_failure *failure)
{
    void *library;
    const struct ort_api_base *base = load(path, &library, failure);

    if (base == NULL) {
        return -1; /* a library without the symbol stays mapped: the process ends next */
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
    /* onnxruntime takes any session config key in silence; all of its own begin like this. */
    if (strncmp(option->key, "session.", 8) != 0 && strncmp(option->key, "optimization.", 13) != 0 &&
        strncmp(option->key, "mlas.", 5) != 0) {
        return eo_fail(failure, EO_EENGINE, option->key,
                       "unknown option of engine onnx (known: graph_optimization, session.*, "
                       "optimization.*, mlas.*)");
    }
    return check(api, api->add_config(options, option->key, option->value), option->key, failure);
}

static int create_session(struct eo_session *session, const struct eo_open *how,
                          struct eo_failure *failure)
{
    const struct ort_api *api = session->api;
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
        result = check(api, api->create_session(session->env, how->model, options, &session->session),
                       how->model, failure);
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

static int read_port(const struct eo_session *session, size_t index, int is_input,
                     struct port *port, struct eo_failure *failure)
{
    const struct ort_api *api = session->api;
    struct ort_type_info *type = NULL;
    ort_result status;
    int result;

    status = is_input ? api->input_name(session->session, index, session->allocator, &port->name)
                      : api->output_name(session->session, index, session->allocator, &port->name);
    if (check(api, status, "model", failure) != 0) {
        return -1;
    }
    status = is_input ? api->input_type(session->session, index, &type)
                      : api->output_type(session->session, index, &type);
    if (check(api, status, port->name, failure) != 0) {
        return -1;
    }
    result = read_dtype(api, type, port->name, &port->dtype, failure);
    api->release_type_info(type);
    return result;
}

static int read_ports(struct eo_session *session, const char *model, struct eo_failure *failure)
{
    const struct ort_api *api = session->api;
    size_t inputs = 0, outputs = 0;

    if (check(api, api->input_count(session->session, &inputs), model, failure) != 0 ||
        check(api, api->output_count(session->session, &outputs), model, failure) != 0) {
        return -1;
    }
    if (inputs > EO_MAX_TENSORS || outputs > EO_MAX_TENSORS) {
        return eo_fail(failure, EO_EENGINE, model, "%zu inputs and %zu outputs, expected up to %d of each",
                       inputs, outputs, EO_MAX_TENSORS);
    }
    for (size_t i = 0; i < inputs; i++) {
        session->input_count = i + 1;
        if (read_port(session, i, 1, &session->inputs[i], failure) != 0) {
            return -1;
        }
        session->input_names[i] = session->inputs[i].name;
    }
    for (size_t i = 0; i < outputs; i++) {
        session->output_count = i + 1;
        if (read_port(session, i, 0, &session->outputs[i], failure) != 0) {
            return -1;
        }
        session->output_names[i] = session->outputs[i].name;
    }
    return 0;
}

static void unbind(struct eo_session *session)
{
    for (size_t i = 0; i < EO_MAX_TENSORS; i++) {
        if (session->input_values[i] != NULL) {
            session->api->release_value(session->input_values[i]);
            session->input_values[i] = NULL;
        }
        if (session->output_values[i] != NULL) {
            session->api->release_value(session->output_values[i]);
            session->output_values[i] = NULL;
        }
    }
}

static void free_name(struct eo_session *session, struct port *port)
{
    struct eo_failure ignored;

    if (port->name != NULL) {
        /* Freeing fails only where the allocator itself is broken; nothing is left to do then. */
        (void)check(session->api, session->api->allocator_free(session->allocator, port->name),
                    "close", &ignored);
        port->name = NULL;
    }
}

static void ort_close(struct eo_session *session)
{
    if (session->api != NULL) {
        unbind(session);
        for (size_t i = 0; i < session->input_count; i++) {
            free_name(session, &session->inputs[i]);
        }
        for (size_t i = 0; i < session->output_count; i++) {
            free_name(session, &session->outputs[i]);
        }
        if (session->session != NULL) {
            session->api->release_session(session->session);
        }
        if (session->memory != NULL) {
            session->api->release_memory_info(session->memory);
        }
        if (session->env != NULL) {
            session->api->release_env(session->env);
        }
    }
    /* No dlclose: onnxruntime keeps thread-local state that outlives its unloading. */
    free(session);
}

static int open_session(struct eo_session *session, const struct eo_open *how,
                        struct eo_failure *failure)
{
    const struct ort_api_base *base = load(how->library, &session->library, failure);
    const struct ort_api *api;

    if (base == NULL) {
        return -1;
    }
    api = base->get_api(EO_ORT_API_VERSION);
    if (api == NULL) {
        return eo_fail(failure, EO_EENGINE, how->library, "onnxruntime %s is too old: expected C API version %d",
                       base->version(), EO_ORT_API_VERSION);
    }
    session->api = api;
    if (check(api, api->create_env(ORT_LEVEL_ERROR, "edgeopt", &session->env), how->library,
              failure) != 0 ||
        check(api, api->default_allocator(&session->allocator), how->library, failure) != 0 ||
        check(api, api->cpu_memory_info(ORT_ARENA_ALLOCATOR, ORT_MEM_TYPE_DEFAULT, &session->memory),
              how->library, failure) != 0 ||
        create_session(session, how, failure) != 0) {
        return -1;
    }
    return read_ports(session, how->model, failure);
}

static int ort_open(const struct eo_open *how, struct eo_session **out, struct eo_failure *failure)
{
    struct eo_session *session = calloc(1, sizeof *session);

    if (session == NULL) {
        return eo_fail(failure, EO_EENGINE, how->model, "no memory for a session");
    }
    if (open_session(session, how, failure) != 0) {
        ort_close(session);
        return -1;
    }
    *out = session;
    return 0;
}

static int ort_element(int32_t dtype)
{
    return dtype == EO_FLOAT32 ? ORT_FLOAT : dtype == EO_INT32 ? ORT_INT32 : ORT_INT64;
}

static int ort_run(struct eo_session *session, struct eo_failure *failure)
{
    const struct ort_api *api = session->api;

    return check(api,
                 api->run(session->session, NULL, session->input_names,
                          (const struct ort_value *const *)session->input_values,
                          session->input_count, session->output_names, session->output_count,
                          session->output_values),
                 "run", failure);
}

/* Fills results[index] from the output value that the first run left. */
static int view_result(struct eo_session *session, size_t index, struct eo_failure *failure)
{
    const struct ort_api *api = session->api;
    const char *name = session->outputs[index].name;
    struct eo_tensor *view = &session->results[index];
    struct ort_tensor_info *info = NULL;
    size_t rank = 0;
    int result;

    memset(view, 0, sizeof *view);
    view->dtype = session->outputs[index].dtype;
    if (check(api, api->value_info(session->output_values[index], &info), name, failure) != 0) {
        return -1;
    }
    result = check(api, api->rank(info, &rank), name, failure);
    if (result == 0 && rank > EO_MAX_RANK) {
        result = eo_fail(failure, EO_EENGINE, name, "rank %zu, expected up to %d", rank, EO_MAX_RANK);
    }
    if (result == 0) {
        result = check(api, api->dims(info, view->dims, rank), name, failure);
    }
    api->release_tensor_info(info);
    if (result != 0) {
        return -1;
    }
    view->rank = (uint32_t)rank;
    view->count = 1;
    for (size_t i = 0; i < rank; i++) {
        view->count *= (size_t)view->dims[i];
    }
    return check(api, api->tensor_data(session->output_values[index], &view->data), name, failure);
}

static int ort_bind(struct eo_session *session, const struct eo_tensor *inputs,
                    struct eo_failure *failure)
{
    const struct ort_api *api = session->api;

    unbind(session);
    for (size_t i = 0; i < session->input_count; i++) {
        size_t bytes = inputs[i].count * eo_dtype_bytes(inputs[i].dtype);
        if (check(api,
                  api->create_tensor_over(session->memory, inputs[i].data, bytes, inputs[i].dims,
                                          inputs[i].rank, ort_element(inputs[i].dtype),
                                          &session->input_values[i]),
                  session->inputs[i].name, failure) != 0) {
            return -1;
        }
    }
    /* The first run finds NULL outputs and allocates them; later runs write into the same ones. */
    if (ort_run(session, failure) != 0) {
        return -1;
    }
    for (size_t i = 0; i < session->output_count; i++) {
        if (view_result(session, i, failure) != 0) {
            return -1;
        }
    }
    return 0;
}

static size_t ort_input_count(const struct eo_session *session)
{
    return session->input_count;
}

static size_t ort_output_count(const struct eo_session *session)
{
    return session->output_count;
}

static struct eo_port ort_input(const struct eo_session *session, size_t index)
{
    return (struct eo_port){.name = session->inputs[index].name,
                            .dtype = session->inputs[index].dtype};
}

static struct eo_port ort_output(const struct eo_session *session, size_t index)
{
    return (struct eo_port){.name = session->outputs[index].name,
                            .dtype = session->outputs[index].dtype};
}

static const struct eo_tensor *ort_result_of(const struct eo_session *session, size_t index)
{
    return &session->results[index];
}

const struct eo_engine eo_engine_ort = {
    .name = "onnx",
    .version = ort_version,
    .open = ort_open,
    .input_count = ort_input_count,
    .output_count = ort_output_count,
    .input = ort_input,
    .output = ort_output,
    .bind = ort_bind,
    .run = ort_run,
    .result = ort_result_of,
    .close = ort_close,
};
