/* SPDX-FileCopyrightText: edgeopt contributors
 * SPDX-License-Identifier: Apache-2.0 */
/* TFLite files behind TfLite*: before LiteRT 2.1.6 (libLiteRtRuntimeCApi.so, libLiteRt.so 2.1.0; for
 * aarch64) and in TensorFlow Lite's own libtensorflowlite_c.so. Tensors of signatures have buffers of
 * their own, so that inputs are copied in a run. Results are read where they lie. */
#include "engines/library.h"
#include "engines/tflite_signatures.h"

#include <stdio.h>
#include <string.h>

static int tfl_load(void *library, const char *path, struct tflite_model *model,
                    struct eo_failure *failure)
{
    struct tfl_api *api = &model->tfl;
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
        {"TfLiteTensorQuantizationParams", &api->scale},
        {"TfLiteTensorNumDims", &api->rank},
        {"TfLiteTensorDim", &api->dim},
        {"TfLiteTensorByteSize", &api->bytes},
        {"TfLiteTensorData", &api->data},
        {NULL, NULL}};

    return eo_library_symbols(library, path, symbols,
                              "TensorFlow Lite's C library with signatures", failure);
}

static const char *tfl_version(void *library, const struct tflite_model *model)
{
    (void)library;
    return model->tfl.version();
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
                    struct tflite_form *form, const char *file, struct eo_failure *failure)
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
    form->scale = api->scale(tensor).scale;
    form->zero_point = api->scale(tensor).zero_point;
    form->type.layout.rank = (unsigned int)rank & 0x7f;
    for (int32_t i = 0; i < rank; i++) {
        form->type.layout.dims[i] = api->dim(tensor, i);
    }
    return eo_tflite_set_form(form, file, failure);
}

static int tfl_signature(struct tflite_model *model, int32_t index, const char *file,
                         struct eo_failure *failure)
{
    const struct tfl_api *api = &model->tfl;
    struct tflite_signature *signature = &model->signatures[index];
    const char *key = api->signature_key(model->interpreter, index);

    signature->runner = key == NULL ? NULL : api->runner(model->interpreter, key);
    if (signature->runner == NULL) {
        return tfl_fail(model, file, "has a signature that cannot be run", failure);
    }
    if (eo_tflite_set_counts(signature, api->input_count(signature->runner),
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
    kernels.weight_cache_path = EO_TFLITE_WEIGHT_CACHE;
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
    if (eo_tflite_add_signatures(model, count < 0 ? 0 : (size_t)count, file->name, failure) != 0) {
        return -1;
    }
    for (int32_t i = 0; i < count; i++) {
        if (tfl_signature(model, i, file->name, failure) != 0) {
            return -1;
        }
    }
    return 0;
}

static size_t stored_bytes(const struct tflite_form *form, const struct eo_tensor *tensor)
{
    return (size_t)tensor->count * (form->is_quantised ? 1 : eo_dtype_bytes(tensor->dtype));
}

static int tfl_bind(struct tflite_binding *binding, const struct eo_tensor *inputs,
                    const struct eo_tensor *outputs, struct eo_failure *failure)
{
    struct tflite_model *model = binding->model;
    const struct tfl_api *api = &model->tfl;
    const struct tflite_signature *signature = &model->signatures[binding->signature];

    (void)outputs; /* TfLite makes them */
    if (api->allocate(signature->runner) != 0) {
        return tfl_fail(model, "bind", "tensors cannot be allocated", failure);
    }
    for (uint32_t i = 0; i < signature->input_count; i++) {
        const char *name = signature->inputs[i].name;
        size_t bytes = stored_bytes(&signature->inputs[i], &inputs[i]);
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
    const struct tflite_signature *signature = &model->signatures[binding->signature];

    for (uint32_t i = 0; i < signature->input_count; i++) {
        void *stored = api->data(binding->taken[i]);

        if (signature->inputs[i].is_quantised) {
            eo_tflite_quantise(&signature->inputs[i], binding->given[i].data,
                               (size_t)binding->given[i].count, stored);
        } else {
            memcpy(stored, binding->given[i].data, api->bytes(binding->taken[i]));
        }
    }
    if (api->invoke(signature->runner) != 0) {
        return tfl_fail(model, "run", "failed", failure);
    }
    for (uint32_t i = 0; i < signature->output_count; i++) {
        struct eo_tensor *result = &binding->results[i];
        const char *name = signature->outputs[i].name;
        const struct tfl_tensor *tensor = api->output(signature->runner, name);
        size_t bytes = stored_bytes(&signature->outputs[i], result);
        if (tensor == NULL || api->bytes(tensor) != bytes || api->data(tensor) == NULL) {
            return eo_fail(failure, EO_EENGINE, name, "has another size than its shape says");
        }
        if (signature->outputs[i].is_quantised) {
            eo_tflite_dequantise(&signature->outputs[i], api->data(tensor),
                                 (size_t)result->count, result->data);
        } else {
            result->data = api->data(tensor);
        }
    }
    return 0;
}

static void tfl_unbind(struct tflite_binding *binding)
{
    (void)binding; /* its tensors are the interpreter's */
}

static void tfl_close(struct tflite_model *model)
{
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
}

const struct tflite_interface eo_tflite_tfl = {
    .load = tfl_load,
    .version = tfl_version,
    .open = tfl_open,
    .bind = tfl_bind,
    .run = tfl_run,
    .unbind = tfl_unbind,
    .close = tfl_close,
};
