/* SPDX-FileCopyrightText: edgeopt contributors
 * SPDX-License-Identifier: Apache-2.0 */
/* TFLite files in LiteRT, whose libraries have one of two C interfaces:
 *
 *   LiteRt*  from 2.1.6 (libLiteRt.so): inputs and outputs lie in the caller's buffers, no copies.
 *   TfLite*  before (libLiteRtRuntimeCApi.so, libLiteRt.so 2.1.0; for aarch64) and in TensorFlow
 *            Lite's own libtensorflowlite_c.so: tensors of signatures have buffers of their own, so
 *            that inputs are copied in a run. Results are read where they lie.
 *
 * Kernels are XNNPACK's in both. A file has a signature for each shape, and `bind` takes the one
 * whose inputs have the shapes bound. There are no options. */
#include "engine.h"
#include "library.h"
#include "litert_abi.h"

#include <dlfcn.h>
#include <errno.h>
#include <fcntl.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/mman.h>
#include <sys/stat.h>
#include <unistd.h>

/* XNNPACK's name for a cache without a file; without one it packs the weights for each signature. */
static const char weight_cache[] = ":memory";

enum { SAID_SIZE = 512, MAX_SIGNATURES = 256, SHAPES_SIZE = 512 };

/* One input or output of one signature. */
struct form {
    const char *name; /* owned by the engine's library */
    int32_t dtype;
    struct litert_tensor_type type;
};

struct signature {
    struct tfl_runner *runner; /* TfLite only; shared by the bindings */
    uint32_t input_count;
    uint32_t output_count;
    struct form inputs[EO_MAX_TENSORS];
    struct form outputs[EO_MAX_TENSORS];
};

struct tflite_model {
    const struct interface *interface;
    const void *data; /* the file, used where it lies */
    size_t bytes;
    void *mapped; /* NULL where it was given in memory */
    struct litert_api litert;
    struct litert_environment *environment;
    struct litert_model *file;
    struct litert_compiled *compiled;
    struct tfl_api tfl;
    struct tfl_model *tfl_file;
    struct tfl_delegate *xnnpack;
    struct tfl_interpreter *interpreter;
    char said[SAID_SIZE]; /* what TfLite reported last */
    uint32_t signature_count;
    struct signature *signatures; /* the first one's names and dtypes are the artifact's */
};

struct tflite_binding {
    struct tflite_model *model;
    uint32_t signature;
    struct litert_buffer *inputs[EO_MAX_TENSORS]; /* LiteRt: over the caller's buffers */
    struct litert_buffer *outputs[EO_MAX_TENSORS];
    struct eo_tensor given[EO_MAX_TENSORS];   /* TfLite: what is copied in */
    struct tfl_tensor *taken[EO_MAX_TENSORS]; /* TfLite: and where to */
    struct eo_tensor results[EO_MAX_TENSORS];
};

/* What differs between the two. */
struct interface {
    int (*open)(struct tflite_model *model, const struct eo_open *how, struct eo_failure *failure);
    int (*bind)(struct tflite_binding *binding, const struct eo_tensor *inputs,
                const struct eo_tensor *outputs, struct eo_failure *failure);
    int (*run)(struct tflite_binding *binding, struct eo_failure *failure);
};

static int set_form(struct form *form, const char *file, struct eo_failure *failure)
{
    switch (form->type.element) {
    case LITERT_FLOAT32:
        form->dtype = EO_FLOAT32;
        return 0;
    case LITERT_INT32:
        form->dtype = EO_INT32;
        return 0;
    case LITERT_INT64:
        form->dtype = EO_INT64;
        return 0;
    default:
        return eo_fail(failure, EO_EENGINE, file,
                       "%s has element type %d, expected float32 (1), int32 (2) or int64 (4)",
                       form->name, (int)form->type.element);
    }
}

/* Makes room for `count` signatures. */
static int add_signatures(struct tflite_model *model, size_t count, const char *file,
                          struct eo_failure *failure)
{
    if (count == 0 || count > MAX_SIGNATURES) {
        return eo_fail(failure, EO_EENGINE, file, "%zu signatures, expected 1 to %d", count,
                       MAX_SIGNATURES);
    }
    model->signatures = calloc(count, sizeof *model->signatures);
    if (model->signatures == NULL) {
        return eo_fail(failure, EO_ENOMEM, file, "no memory for %zu signatures", count);
    }
    model->signature_count = (uint32_t)count;
    return 0;
}

static int set_counts(struct signature *signature, size_t inputs, size_t outputs, const char *file,
                      struct eo_failure *failure)
{
    if (inputs > EO_MAX_TENSORS || outputs > EO_MAX_TENSORS) {
        return eo_fail(failure, EO_EENGINE, file,
                       "%zu inputs and %zu outputs, expected up to %d of each", inputs, outputs,
                       EO_MAX_TENSORS);
    }
    signature->input_count = (uint32_t)inputs;
    signature->output_count = (uint32_t)outputs;
    return 0;
}

/* ---- LiteRt* ---- */

/* Fails with what LiteRtStatus `status` means. */
static int check(int status, const char *where, struct eo_failure *failure)
{
    static const struct {
        int status;
        const char *text;
    } known[] = {{1, "invalid argument"},
                 {2, "no memory"},
                 {3, "failure in the runtime"},
                 {4, "missing input"},
                 {5, "not supported"},
                 {6, "not found"},
                 {500, "cannot be read"},
                 {501, "is not a sound .tflite file"},
                 {504, "cannot be compiled"},
                 {1000, "index out of bounds"}};

    if (status == 0) {
        return 0;
    }
    for (size_t i = 0; i < sizeof known / sizeof known[0]; i++) {
        if (known[i].status == status) {
            return eo_fail(failure, EO_EENGINE, where, "%s (LiteRT's status %d)", known[i].text,
                           status);
        }
    }
    return eo_fail(failure, EO_EENGINE, where, "LiteRT's status %d", status);
}

static int litert_symbols(void *library, const char *path, struct litert_api *api,
                          struct eo_failure *failure)
{
    const struct eo_symbol symbols[] = {
        {"LiteRtCreateEnvironment", &api->create_environment},
        {"LiteRtDestroyEnvironment", &api->destroy_environment},
        {"LiteRtCreateModelFromBuffer", &api->model_from_buffer},
        {"LiteRtCreateModelFromFd", &api->model_from_fd},
        {"LiteRtDestroyModel", &api->destroy_model},
        {"LiteRtGetNumModelSignatures", &api->signature_count},
        {"LiteRtGetModelSignature", &api->signature},
        {"LiteRtGetNumSignatureInputs", &api->input_count},
        {"LiteRtGetNumSignatureOutputs", &api->output_count},
        {"LiteRtGetSignatureInputName", &api->input_name},
        {"LiteRtGetSignatureOutputName", &api->output_name},
        {"LiteRtGetSignatureInputTensorByIndex", &api->input_tensor},
        {"LiteRtGetSignatureOutputTensorByIndex", &api->output_tensor},
        {"LiteRtGetRankedTensorType", &api->tensor_type},
        {"LiteRtCreateOptions", &api->create_options},
        {"LiteRtDestroyOptions", &api->destroy_options},
        {"LiteRtSetOptionsHardwareAccelerators", &api->set_accelerators},
        {"LiteRtCreateOpaqueOptions", &api->create_opaque},
        {"LiteRtDestroyOpaqueOptions", &api->destroy_opaque},
        {"LiteRtAddOpaqueOptions", &api->add_opaque},
        {"LiteRtCreateCompiledModel", &api->create_compiled},
        {"LiteRtDestroyCompiledModel", &api->destroy_compiled},
        {"LiteRtCreateTensorBufferFromHostMemory", &api->buffer_over},
        {"LiteRtDestroyTensorBuffer", &api->destroy_buffer},
        {"LiteRtRunCompiledModel", &api->run},
        {"LiteRtCompiledModelGetErrorMessages", &api->error_messages},
        {NULL, NULL}};

    return eo_library_symbols(library, path, symbols, "LiteRT's library of 2.1.6 or newer",
                              failure);
}

static int litert_form(const struct tflite_model *model, struct litert_signature *signature,
                       size_t index, int is_input, struct form *form, const char *file,
                       struct eo_failure *failure)
{
    const struct litert_api *api = &model->litert;
    struct litert_tensor *tensor = NULL;

    if (check(is_input ? api->input_name(signature, index, &form->name)
                       : api->output_name(signature, index, &form->name),
              file, failure) != 0 ||
        check(is_input ? api->input_tensor(signature, index, &tensor)
                       : api->output_tensor(signature, index, &tensor),
              file, failure) != 0 ||
        check(api->tensor_type(tensor, &form->type), file, failure) != 0) {
        return -1;
    }
    return set_form(form, file, failure);
}

static int litert_signatures(struct tflite_model *model, const char *file, struct eo_failure *failure)
{
    const struct litert_api *api = &model->litert;
    size_t count = 0;

    if (check(api->signature_count(model->file, &count), file, failure) != 0 ||
        add_signatures(model, count, file, failure) != 0) {
        return -1;
    }
    for (size_t i = 0; i < count; i++) {
        struct signature *signature = &model->signatures[i];
        struct litert_signature *found = NULL;
        size_t inputs = 0, outputs = 0;
        if (check(api->signature(model->file, i, &found), file, failure) != 0 ||
            check(api->input_count(found, &inputs), file, failure) != 0 ||
            check(api->output_count(found, &outputs), file, failure) != 0 ||
            set_counts(signature, inputs, outputs, file, failure) != 0) {
            return -1;
        }
        for (size_t k = 0; k < inputs; k++) {
            if (litert_form(model, found, k, 1, &signature->inputs[k], file, failure) != 0) {
                return -1;
            }
        }
        for (size_t k = 0; k < outputs; k++) {
            if (litert_form(model, found, k, 0, &signature->outputs[k], file, failure) != 0) {
                return -1;
            }
        }
    }
    return 0;
}

/* Adds settings that LiteRT takes as TOML text under the name of the part that reads them; which
 * keys there are is in litert/c/options/litert_{cpu,runtime}_options.cc. */
static int add_settings(const struct litert_api *api, struct litert_options *options,
                        const char *part, const char *toml, struct eo_failure *failure)
{
    struct litert_opaque *opaque = NULL;
    char *owned = strdup(toml);

    if (owned == NULL) {
        return eo_fail(failure, EO_ENOMEM, part, "no memory for settings");
    }
    if (check(api->create_opaque(part, owned, free, &opaque), part, failure) != 0) {
        free(owned);
        return -1;
    }
    if (check(api->add_opaque(options, opaque), part, failure) != 0) {
        api->destroy_opaque(opaque);
        return -1;
    }
    return 0;
}

static int compile_model(struct tflite_model *model, const struct eo_open *how,
                         struct eo_failure *failure)
{
    const struct litert_api *api = &model->litert;
    struct litert_options *options = NULL;
    char kernels[96];
    int result;

    if (snprintf(kernels, sizeof kernels, "num_threads = %d\nweight_cache_file_path = \"%s\"\n",
                 (int)how->threads, weight_cache) < 0) {
        return eo_fail(failure, EO_EENGINE, "threads", "cannot be written");
    }
    if (check(api->create_options(&options), how->library, failure) != 0) {
        return -1;
    }
    result = check(api->set_accelerators(options, LITERT_CPU), how->library, failure);
    if (result == 0) {
        result = add_settings(api, options, "xnnpack", kernels, failure);
    }
    if (result == 0) { /* 2: errors are kept for error_messages() instead of going to stderr */
        result = add_settings(api, options, "runtime_options_string", "error_reporter_mode = 2\n",
                              failure);
    }
    if (result == 0) {
        result = check(
            api->create_compiled(model->environment, model->file, options, &model->compiled),
            how->files[0].name, failure);
    }
    api->destroy_options(options);
    return result;
}

static int litert_open(struct tflite_model *model, const struct eo_open *how,
                       struct eo_failure *failure)
{
    static const struct litert_env_option settings[] = {
        {.tag = LITERT_ENV_AUTO_REGISTER,
         .value = {.type = LITERT_ANY_INT, .value = {.integer = LITERT_CPU}}},
        {.tag = LITERT_ENV_MIN_LOG_SEVERITY,
         .value = {.type = LITERT_ANY_INT, .value = {.integer = LITERT_LOG_ERROR}}}};
    const struct litert_api *api = &model->litert;
    const struct eo_file *file = &how->files[0];

    if (check(api->create_environment((int)(sizeof settings / sizeof settings[0]), settings,
                                      &model->environment),
              how->library, failure) != 0 ||
        check(api->model_from_buffer(model->environment, model->data, model->bytes, &model->file),
              file->name, failure) != 0 ||
        litert_signatures(model, file->name, failure) != 0) {
        return -1;
    }
    return compile_model(model, how, failure);
}

static int buffer_over(const struct tflite_model *model, const struct form *form,
                       const struct eo_tensor *tensor, struct litert_buffer **buffer,
                       struct eo_failure *failure)
{
    return check(model->litert.buffer_over(&form->type, tensor->data,
                                           (size_t)tensor->count * eo_dtype_bytes(tensor->dtype),
                                           NULL, buffer),
                 form->name, failure);
}

static int litert_bind(struct tflite_binding *binding, const struct eo_tensor *inputs,
                       const struct eo_tensor *outputs, struct eo_failure *failure)
{
    const struct tflite_model *model = binding->model;
    const struct signature *signature = &model->signatures[binding->signature];

    for (uint32_t i = 0; i < signature->input_count; i++) {
        if (buffer_over(model, &signature->inputs[i], &inputs[i], &binding->inputs[i], failure) !=
            0) {
            return -1;
        }
    }
    for (uint32_t i = 0; i < signature->output_count; i++) {
        if (buffer_over(model, &signature->outputs[i], &outputs[i], &binding->outputs[i],
                        failure) != 0) {
            return -1;
        }
    }
    return 0;
}

static int litert_run(struct tflite_binding *binding, struct eo_failure *failure)
{
    const struct tflite_model *model = binding->model;
    const struct signature *signature = &model->signatures[binding->signature];
    char *messages = NULL;
    int status = model->litert.run(model->compiled, binding->signature, signature->input_count,
                                   binding->inputs, signature->output_count, binding->outputs);

    if (status == 0) {
        return 0;
    }
    if (model->litert.error_messages(model->compiled, &messages) != 0 || messages == NULL ||
        messages[0] == '\0') {
        free(messages);
        return check(status, "run", failure);
    }
    eo_fail(failure, EO_EENGINE, "run", "%s", messages);
    free(messages);
    return -1;
}

static const struct interface litert_interface = {litert_open, litert_bind, litert_run};

/* ---- TfLite* ---- */

static int tfl_symbols(void *library, const char *path, struct tfl_api *api,
                       struct eo_failure *failure)
{
    const struct eo_symbol symbols[] = {
        {"TfLiteVersion", &api->version},
        {"TfLiteModelCreateWithErrorReporter", &api->model_from_buffer},
        {"TfLiteModelDelete", &api->model_delete},
        {"TfLiteInterpreterOptionsCreate", &api->options_create},
        {"TfLiteInterpreterOptionsDelete", &api->options_delete},
        {"TfLiteInterpreterOptionsSetNumThreads", &api->set_threads},
        {"TfLiteInterpreterOptionsSetErrorReporter", &api->set_reporter},
        {"TfLiteInterpreterOptionsAddDelegate", &api->add_delegate},
        {"TfLiteXNNPackDelegateOptionsDefault", &api->xnnpack_defaults},
        {"TfLiteXNNPackDelegateCreate", &api->xnnpack_create},
        {"TfLiteXNNPackDelegateDelete", &api->xnnpack_delete},
        {"TfLiteInterpreterCreate", &api->create},
        {"TfLiteInterpreterDelete", &api->interpreter_delete},
        {"TfLiteInterpreterGetSignatureCount", &api->signature_count},
        {"TfLiteInterpreterGetSignatureKey", &api->signature_key},
        {"TfLiteInterpreterGetSignatureRunner", &api->runner},
        {"TfLiteSignatureRunnerDelete", &api->runner_delete},
        {"TfLiteSignatureRunnerGetInputCount", &api->input_count},
        {"TfLiteSignatureRunnerGetOutputCount", &api->output_count},
        {"TfLiteSignatureRunnerGetInputName", &api->input_name},
        {"TfLiteSignatureRunnerGetOutputName", &api->output_name},
        {"TfLiteSignatureRunnerGetInputTensor", &api->input},
        {"TfLiteSignatureRunnerGetOutputTensor", &api->output},
        {"TfLiteSignatureRunnerAllocateTensors", &api->allocate},
        {"TfLiteSignatureRunnerInvoke", &api->invoke},
        {"TfLiteTensorType", &api->type},
        {"TfLiteTensorNumDims", &api->rank},
        {"TfLiteTensorDim", &api->dim},
        {"TfLiteTensorByteSize", &api->bytes},
        {"TfLiteTensorData", &api->data},
        {NULL, NULL}};

    return eo_library_symbols(library, path, symbols,
                              "TensorFlow Lite's C library with signatures", failure);
}

/* Keeps what TfLite says, for the failure that follows. */
__attribute__((format(printf, 2, 0))) static void listen(void *user, const char *format,
                                                         va_list arguments)
{
    struct tflite_model *model = user;

    if (vsnprintf(model->said, sizeof model->said, format, arguments) < 0) {
        model->said[0] = '\0';
    }
}

static int tfl_fail(const struct tflite_model *model, const char *where, const char *what,
                    struct eo_failure *failure)
{
    return eo_fail(failure, EO_EENGINE, where, "%s (%s)", what,
                   model->said[0] == '\0' ? "no reason given" : model->said);
}

static int tfl_form(const struct tfl_api *api, const struct tfl_tensor *tensor, const char *name,
                    struct form *form, const char *file, struct eo_failure *failure)
{
    int32_t rank;

    if (tensor == NULL || name == NULL) {
        return eo_fail(failure, EO_EENGINE, file, "has a signature without its tensors");
    }
    rank = api->rank(tensor);
    if (rank < 0 || rank > LITERT_MAX_RANK) {
        return eo_fail(failure, EO_EENGINE, file, "%s has %d dimensions, expected up to %d", name,
                       (int)rank, LITERT_MAX_RANK);
    }
    form->name = name;
    form->type.element = api->type(tensor);
    form->type.layout.rank = (unsigned int)rank & 0x7f;
    for (int32_t i = 0; i < rank; i++) {
        form->type.layout.dims[i] = api->dim(tensor, i);
    }
    return set_form(form, file, failure);
}

static int tfl_signature(struct tflite_model *model, int32_t index, const char *file,
                         struct eo_failure *failure)
{
    const struct tfl_api *api = &model->tfl;
    struct signature *signature = &model->signatures[index];
    const char *key = api->signature_key(model->interpreter, index);

    signature->runner = key == NULL ? NULL : api->runner(model->interpreter, key);
    if (signature->runner == NULL) {
        return tfl_fail(model, file, "has a signature that cannot be run", failure);
    }
    if (set_counts(signature, api->input_count(signature->runner),
                   api->output_count(signature->runner), file, failure) != 0) {
        return -1;
    }
    for (uint32_t i = 0; i < signature->input_count; i++) {
        const char *name = api->input_name(signature->runner, (int32_t)i);
        if (tfl_form(api, name == NULL ? NULL : api->input(signature->runner, name), name,
                     &signature->inputs[i], file, failure) != 0) {
            return -1;
        }
    }
    for (uint32_t i = 0; i < signature->output_count; i++) {
        const char *name = api->output_name(signature->runner, (int32_t)i);
        if (tfl_form(api, name == NULL ? NULL : api->output(signature->runner, name), name,
                     &signature->outputs[i], file, failure) != 0) {
            return -1;
        }
    }
    return 0;
}

/* These libraries add XNNPACK to no interpreter by themselves, and the INT8 kernels that they have
 * besides are slower, and wrong in 1.4.0. */
static int tfl_interpreter(struct tflite_model *model, const struct eo_open *how,
                           struct eo_failure *failure)
{
    const struct tfl_api *api = &model->tfl;
    struct tfl_xnnpack_options kernels = api->xnnpack_defaults();
    struct tfl_options *options;

    kernels.threads = how->threads;
    kernels.weight_cache_path = weight_cache;
    model->xnnpack = api->xnnpack_create(&kernels);
    options = api->options_create();
    if (model->xnnpack == NULL || options == NULL) {
        if (options != NULL) {
            api->options_delete(options);
        }
        return eo_fail(failure, EO_ENOMEM, how->files[0].name, "no memory for options");
    }
    api->set_threads(options, how->threads);
    api->set_reporter(options, listen, model);
    api->add_delegate(options, model->xnnpack);
    model->interpreter = api->create(model->tfl_file, options);
    api->options_delete(options);
    return model->interpreter == NULL
               ? tfl_fail(model, how->files[0].name, "cannot be opened", failure)
               : 0;
}

static int tfl_open(struct tflite_model *model, const struct eo_open *how, struct eo_failure *failure)
{
    const struct tfl_api *api = &model->tfl;
    const struct eo_file *file = &how->files[0];
    int32_t count;

    model->tfl_file = api->model_from_buffer(model->data, model->bytes, listen, model);
    if (model->tfl_file == NULL) {
        return tfl_fail(model, file->name, "is not a sound .tflite file", failure);
    }
    if (tfl_interpreter(model, how, failure) != 0) {
        return -1;
    }
    count = api->signature_count(model->interpreter);
    if (add_signatures(model, count < 0 ? 0 : (size_t)count, file->name, failure) != 0) {
        return -1;
    }
    for (int32_t i = 0; i < count; i++) {
        if (tfl_signature(model, i, file->name, failure) != 0) {
            return -1;
        }
    }
    return 0;
}

static int tfl_bind(struct tflite_binding *binding, const struct eo_tensor *inputs,
                    const struct eo_tensor *outputs, struct eo_failure *failure)
{
    struct tflite_model *model = binding->model;
    const struct tfl_api *api = &model->tfl;
    const struct signature *signature = &model->signatures[binding->signature];

    (void)outputs; /* TfLite makes them */
    if (api->allocate(signature->runner) != 0) {
        return tfl_fail(model, "bind", "tensors cannot be allocated", failure);
    }
    for (uint32_t i = 0; i < signature->input_count; i++) {
        const char *name = signature->inputs[i].name;
        size_t bytes = (size_t)inputs[i].count * eo_dtype_bytes(inputs[i].dtype);
        struct tfl_tensor *tensor = api->input(signature->runner, name);
        if (tensor == NULL || api->bytes(tensor) != bytes) {
            return eo_fail(failure, EO_EENGINE, name, "takes another size than its shape says");
        }
        binding->given[i] = inputs[i];
        binding->taken[i] = tensor;
    }
    return 0;
}

static int tfl_run(struct tflite_binding *binding, struct eo_failure *failure)
{
    struct tflite_model *model = binding->model;
    const struct tfl_api *api = &model->tfl;
    const struct signature *signature = &model->signatures[binding->signature];

    for (uint32_t i = 0; i < signature->input_count; i++) {
        memcpy(api->data(binding->taken[i]), binding->given[i].data, api->bytes(binding->taken[i]));
    }
    if (api->invoke(signature->runner) != 0) {
        return tfl_fail(model, "run", "failed", failure);
    }
    for (uint32_t i = 0; i < signature->output_count; i++) {
        struct eo_tensor *result = &binding->results[i];
        const char *name = signature->outputs[i].name;
        const struct tfl_tensor *tensor = api->output(signature->runner, name);
        size_t bytes = (size_t)result->count * eo_dtype_bytes(result->dtype);
        if (tensor == NULL || api->bytes(tensor) != bytes || api->data(tensor) == NULL) {
            return eo_fail(failure, EO_EENGINE, name, "has another size than its shape says");
        }
        result->data = api->data(tensor);
    }
    return 0;
}

static const struct interface tfl_interface = {tfl_open, tfl_bind, tfl_run};

/* ---- both ---- */

/* Opens the library at `path` and fills in the interface that it has; TfLite* first, since the
 * libraries that have both have an older LiteRt*. */
static int load(const char *path, void **library, struct tflite_model *model,
                struct eo_failure *failure)
{
    *library = eo_library_open(path, RTLD_LOCAL, failure);
    if (*library == NULL) {
        return -1;
    }
    if (dlsym(*library, "TfLiteModelCreate") != NULL) {
        model->interface = &tfl_interface;
        return tfl_symbols(*library, path, &model->tfl, failure);
    }
    model->interface = &litert_interface;
    return litert_symbols(*library, path, &model->litert, failure);
}

static int tflite_version(const char *path, char *text, size_t size, struct eo_failure *failure)
{
    struct tflite_model model = {0};
    void *library = NULL;
    const char *version;

    if (load(path, &library, &model, failure) != 0) {
        return -1;
    }
    if (model.interface == &tfl_interface) {
        version = model.tfl.version();
    } else { /* the library tells none; by the functions that each release added */
        version = dlsym(library, "LiteRtSetAcceleratorGetHooks") != NULL        ? "2.3+"
                  : dlsym(library, "LiteRtGetCompiledModelEnvironment") != NULL ? "2.2+"
                                                                                : "2.1.6+";
    }
    if (snprintf(text, size, "%s", version == NULL ? "unknown" : version) < 0) {
        return eo_fail(failure, EO_EENGINE, path, "version cannot be written");
    }
    return 0;
}

static void tflite_close(struct eo_model *opened)
{
    struct tflite_model *model = (struct tflite_model *)opened;

    for (uint32_t i = 0; i < model->signature_count; i++) {
        if (model->signatures[i].runner != NULL) {
            model->tfl.runner_delete(model->signatures[i].runner);
        }
    }
    if (model->interpreter != NULL) {
        model->tfl.interpreter_delete(model->interpreter);
    }
    if (model->xnnpack != NULL) {
        model->tfl.xnnpack_delete(model->xnnpack);
    }
    if (model->tfl_file != NULL) {
        model->tfl.model_delete(model->tfl_file);
    }
    if (model->compiled != NULL) {
        model->litert.destroy_compiled(model->compiled);
    }
    if (model->file != NULL) {
        model->litert.destroy_model(model->file);
    }
    if (model->environment != NULL) {
        model->litert.destroy_environment(model->environment);
    }
    if (model->mapped != NULL) {
        (void)munmap(model->mapped, model->bytes);
    }
    free(model->signatures);
    free(model);
}

/* LiteRT checks a file in memory before it follows what is in it, and one by path (2.3.0) not. */
static int map_file(struct tflite_model *model, const struct eo_file *file, struct eo_failure *failure)
{
    struct stat status;
    int descriptor;

    model->data = file->data;
    model->bytes = file->bytes;
    if (file->path == NULL) {
        return 0;
    }
    descriptor = open(file->path, O_RDONLY | O_CLOEXEC);
    if (descriptor < 0) {
        return eo_fail(failure, EO_EIO, file->path, "cannot be opened (%s)", strerror(errno));
    }
    if (fstat(descriptor, &status) != 0 || status.st_size <= 0) {
        close(descriptor);
        return eo_fail(failure, EO_EIO, file->path, "is empty");
    }
    model->bytes = (size_t)status.st_size;
    model->mapped = mmap(NULL, model->bytes, PROT_READ, MAP_PRIVATE, descriptor, 0);
    close(descriptor);
    if (model->mapped == MAP_FAILED) {
        model->mapped = NULL;
        return eo_fail(failure, EO_EIO, file->path, "cannot be mapped (%s)", strerror(errno));
    }
    model->data = model->mapped;
    return 0;
}

static int tflite_open(const struct eo_open *how, struct eo_model **out, struct eo_failure *failure)
{
    struct tflite_model *model;
    void *library = NULL;

    if (how->option_count > 0) {
        return eo_fail(failure, EO_EENGINE, how->options[0].key,
                       "unknown option of engine tflite (it has none)");
    }
    model = calloc(1, sizeof *model);
    if (model == NULL) {
        return eo_fail(failure, EO_ENOMEM, how->files[0].name, "no memory for a session");
    }
    if (load(how->library, &library, model, failure) != 0 ||
        map_file(model, &how->files[0], failure) != 0 ||
        model->interface->open(model, how, failure) != 0) {
        tflite_close((struct eo_model *)model);
        return -1;
    }
    *out = (struct eo_model *)model;
    return 0;
}

static int fits(const struct form *form, const struct form *first, const struct eo_tensor *tensor)
{
    if (strcmp(form->name, first->name) != 0 || form->dtype != tensor->dtype ||
        form->type.layout.rank != tensor->rank) {
        return 0;
    }
    for (uint32_t i = 0; i < tensor->rank; i++) {
        if (form->type.layout.dims[i] != tensor->dims[i]) {
            return 0;
        }
    }
    return 1;
}

static void form_text(const struct form *form, char *text, size_t size)
{
    struct eo_tensor shape = {.rank = form->type.layout.rank};

    for (uint32_t i = 0; i < shape.rank; i++) {
        shape.dims[i] = form->type.layout.dims[i];
    }
    eo_shape_text(&shape, text, size);
}

/* Says which shapes of the first input there are. */
static int no_signature(const struct tflite_model *model, const struct eo_tensor *inputs,
                        struct eo_failure *failure)
{
    char asked[128], shape[128], shapes[SHAPES_SIZE] = "";
    size_t used = 0;

    if (model->signatures[0].input_count == 0) {
        return eo_fail(failure, EO_EENGINE, "bind", "the artifact's signatures have no inputs");
    }
    eo_shape_text(&inputs[0], asked, sizeof asked);
    for (uint32_t i = 0; i < model->signature_count; i++) {
        int wrote;
        form_text(&model->signatures[i].inputs[0], shape, sizeof shape);
        wrote = snprintf(shapes + used, sizeof shapes - used, "%s%s", i == 0 ? "" : ", ", shape);
        if (wrote < 0 || (size_t)wrote >= sizeof shapes - used) {
            break;
        }
        used += (size_t)wrote;
    }
    return eo_fail(failure, EO_EENGINE, model->signatures[0].inputs[0].name,
                   "the artifact has no signature for %s, expected one of %s", asked, shapes);
}

/* The signature whose inputs are those of the first, in the shapes of `inputs`. */
static int choose(const struct tflite_model *model, const struct eo_tensor *inputs, uint32_t *chosen,
                  struct eo_failure *failure)
{
    const struct signature *first = &model->signatures[0];

    for (uint32_t i = 0; i < model->signature_count; i++) {
        const struct signature *signature = &model->signatures[i];
        uint32_t fitting = 0;
        if (signature->input_count != first->input_count ||
            signature->output_count != first->output_count) {
            continue;
        }
        while (fitting < first->input_count &&
               fits(&signature->inputs[fitting], &first->inputs[fitting], &inputs[fitting])) {
            fitting++;
        }
        if (fitting == first->input_count) {
            *chosen = i;
            return 0;
        }
    }
    return no_signature(model, inputs, failure);
}

static void tflite_unbind(struct eo_binding *bound)
{
    struct tflite_binding *binding = (struct tflite_binding *)bound;

    for (size_t i = 0; i < EO_MAX_TENSORS; i++) {
        if (binding->inputs[i] != NULL) {
            binding->model->litert.destroy_buffer(binding->inputs[i]);
        }
        if (binding->outputs[i] != NULL) {
            binding->model->litert.destroy_buffer(binding->outputs[i]);
        }
    }
    free(binding);
}

static int bind_shapes(struct tflite_binding *binding, const struct eo_tensor *inputs,
                       const struct eo_tensor *outputs, struct eo_failure *failure)
{
    const struct tflite_model *model = binding->model;
    const struct signature *signature;

    if (choose(model, inputs, &binding->signature, failure) != 0) {
        return -1;
    }
    signature = &model->signatures[binding->signature];
    for (uint32_t i = 0; i < signature->output_count; i++) {
        if (!fits(&signature->outputs[i], &model->signatures[0].outputs[i], &outputs[i])) {
            char found[128], asked[128];
            form_text(&signature->outputs[i], found, sizeof found);
            eo_shape_text(&outputs[i], asked, sizeof asked);
            return eo_fail(failure, EO_EENGINE, signature->outputs[i].name,
                           "is %s %s in the artifact, expected %s %s",
                           eo_dtype_name(signature->outputs[i].dtype), found,
                           eo_dtype_name(outputs[i].dtype), asked);
        }
        binding->results[i] = outputs[i];
    }
    return model->interface->bind(binding, inputs, outputs, failure);
}

static int tflite_bind(struct eo_model *opened, const struct eo_tensor *inputs,
                       const struct eo_tensor *outputs, struct eo_binding **out,
                       struct eo_failure *failure)
{
    struct tflite_model *model = (struct tflite_model *)opened;
    struct tflite_binding *binding = calloc(1, sizeof *binding);

    if (binding == NULL) {
        return eo_fail(failure, EO_ENOMEM, "bind", "no memory for a binding");
    }
    binding->model = model;
    if (bind_shapes(binding, inputs, outputs, failure) != 0) {
        tflite_unbind((struct eo_binding *)binding);
        return -1;
    }
    *out = (struct eo_binding *)binding;
    return 0;
}

static int tflite_run(struct eo_binding *bound, struct eo_failure *failure)
{
    struct tflite_binding *binding = (struct tflite_binding *)bound;

    return binding->model->interface->run(binding, failure);
}

static uint32_t tflite_input_count(const struct eo_model *opened)
{
    const struct tflite_model *model = (const struct tflite_model *)opened;

    return model->signatures[0].input_count;
}

static uint32_t tflite_output_count(const struct eo_model *opened)
{
    const struct tflite_model *model = (const struct tflite_model *)opened;

    return model->signatures[0].output_count;
}

static struct eo_port tflite_input(const struct eo_model *opened, uint32_t index)
{
    const struct tflite_model *model = (const struct tflite_model *)opened;
    const struct form *form = &model->signatures[0].inputs[index];

    return (struct eo_port){.name = form->name, .dtype = form->dtype};
}

static struct eo_port tflite_output(const struct eo_model *opened, uint32_t index)
{
    const struct tflite_model *model = (const struct tflite_model *)opened;
    const struct form *form = &model->signatures[0].outputs[index];

    return (struct eo_port){.name = form->name, .dtype = form->dtype};
}

static const struct eo_tensor *tflite_result(const struct eo_binding *bound, uint32_t index)
{
    const struct tflite_binding *binding = (const struct tflite_binding *)bound;

    return &binding->results[index];
}

static const char *const libraries[] = {"libLiteRt.so", "libLiteRtRuntimeCApi.so",
                                        "libtensorflowlite_c.so", NULL};

const struct eo_engine eo_engine_tflite = {
    .name = "tflite",
    .libraries = libraries,
    .version = tflite_version,
    .open = tflite_open,
    .input_count = tflite_input_count,
    .output_count = tflite_output_count,
    .input = tflite_input,
    .output = tflite_output,
    .bind = tflite_bind,
    .run = tflite_run,
    .result = tflite_result,
    .unbind = tflite_unbind,
    .close = tflite_close,
};
