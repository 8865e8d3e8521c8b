/* SPDX-FileCopyrightText: edgeopt contributors
 * SPDX-License-Identifier: Apache-2.0 */
/* TFLite files behind LiteRt*, from 2.1.6 (libLiteRt.so): inputs and outputs lie in the caller's
 * buffers, no copies. */
#include "engines/library.h"
#include "engines/tflite_signatures.h"

#include <dlfcn.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>

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

static int litert_load(void *library, const char *path, struct tflite_model *model,
                       struct eo_failure *failure)
{
    struct litert_api *api = &model->litert;
    model->library = library;
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
        {"LiteRtGetPerTensorQuantization", &api->tensor_scale},
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

/* The library tells none; by the functions that each release added. */
static const char *litert_version(void *library, const struct tflite_model *model)
{
    (void)model;
    return dlsym(library, "LiteRtSetAcceleratorGetHooks") != NULL        ? "2.3+"
           : dlsym(library, "LiteRtGetCompiledModelEnvironment") != NULL ? "2.2+"
                                                                         : "2.1.6+";
}

static int litert_form(const struct tflite_model *model, struct litert_signature *signature,
                       size_t index, int is_input, struct tflite_form *form, const char *file,
                       struct eo_failure *failure)
{
    const struct litert_api *api = &model->litert;
    struct litert_tensor *tensor = NULL;
    struct litert_scale scale = {0};

    if (check(is_input ? api->input_name(signature, index, &form->name)
                       : api->output_name(signature, index, &form->name),
              file, failure) != 0 ||
        check(is_input ? api->input_tensor(signature, index, &tensor)
                       : api->output_tensor(signature, index, &tensor),
              file, failure) != 0 ||
        check(api->tensor_type(tensor, &form->type), file, failure) != 0) {
        return -1;
    }
    if (api->tensor_scale(tensor, &scale) == 0) { /* an error if it has none */
        form->scale = scale.scale;
        form->zero_point = scale.zero_point < INT8_MIN || scale.zero_point > UINT8_MAX
                               ? INT32_MIN /* which no form may have */
                               : (int32_t)scale.zero_point;
    }
    return eo_tflite_set_form(form, file, failure);
}

static int litert_signatures(struct tflite_model *model, const char *file, struct eo_failure *failure)
{
    const struct litert_api *api = &model->litert;
    size_t count = 0;

    if (check(api->signature_count(model->file, &count), file, failure) != 0 ||
        eo_tflite_add_signatures(model, count, file, failure) != 0) {
        return -1;
    }
    for (size_t i = 0; i < count; i++) {
        struct tflite_signature *signature = &model->signatures[i];
        struct litert_signature *found = NULL;
        size_t inputs = 0, outputs = 0;
        if (check(api->signature(model->file, i, &found), file, failure) != 0 ||
            check(api->input_count(found, &inputs), file, failure) != 0 ||
            check(api->output_count(found, &outputs), file, failure) != 0 ||
            eo_tflite_set_counts(signature, inputs, outputs, file, failure) != 0) {
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
    const char *cache = how->packed != NULL ? how->packed : EO_TFLITE_WEIGHT_CACHE;
    char kernels[128];
    int result;

    if (snprintf(kernels, sizeof kernels, "num_threads = %d\nweight_cache_file_path = \"%s\"\n",
                 (int)how->threads, cache) < 0) {
        return eo_fail(failure, EO_EENGINE, "threads", "cannot be written");
    }
    if (check(api->create_options(&options), how->library, failure) != 0) {
        return -1;
    }
    model->is_packed = how->packed != NULL;
    result = check(api->set_accelerators(options, LITERT_CPU), how->library, failure);
    if (result == 0) {
        result = add_settings(api, options, "xnnpack", kernels, failure);
    }
    if (result == 0) { /* 2: errors are kept for error_messages() instead of going to stderr */
        result = add_settings(api, options, "runtime_options_string",
                              model->is_profiled ? "error_reporter_mode = 2\nenable_profiling = true\n"
                                                 : "error_reporter_mode = 2\n",
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

/* Over the caller's data, or for a tensor in 8 bits over memory of our own in `*stored`. */
static int buffer_over(const struct tflite_model *model, const struct tflite_form *form,
                       const struct eo_tensor *tensor, void **stored,
                       struct litert_buffer **buffer, struct eo_failure *failure)
{
    void *data = tensor->data;
    size_t bytes = (size_t)tensor->count * eo_dtype_bytes(tensor->dtype);

    if (form->is_quantised) {
        bytes = (size_t)tensor->count;
        *stored = aligned_alloc(EO_ALIGNMENT, (bytes / EO_ALIGNMENT + 1) * EO_ALIGNMENT);
        if (*stored == NULL) {
            return eo_fail(failure, EO_ENOMEM, form->name, "no memory for %zu bytes", bytes);
        }
        data = *stored;
    }
    return check(model->litert.buffer_over(&form->type, data, bytes, NULL, buffer), form->name,
                 failure);
}

static int litert_bind(struct tflite_binding *binding, const struct eo_tensor *inputs,
                       const struct eo_tensor *outputs, struct eo_failure *failure)
{
    const struct tflite_model *model = binding->model;
    const struct tflite_signature *signature = &model->signatures[binding->signature];

    for (uint32_t i = 0; i < signature->input_count; i++) {
        binding->given[i] = inputs[i];
        if (buffer_over(model, &signature->inputs[i], &inputs[i], &binding->stored_inputs[i],
                        &binding->inputs[i], failure) != 0) {
            return -1;
        }
    }
    for (uint32_t i = 0; i < signature->output_count; i++) {
        if (buffer_over(model, &signature->outputs[i], &outputs[i], &binding->stored_outputs[i],
                        &binding->outputs[i], failure) != 0) {
            return -1;
        }
    }
    return 0;
}

static int litert_run(struct tflite_binding *binding, struct eo_failure *failure)
{
    const struct tflite_model *model = binding->model;
    const struct tflite_signature *signature = &model->signatures[binding->signature];
    char *messages = NULL;
    int status;

    for (uint32_t i = 0; i < signature->input_count; i++) {
        if (binding->stored_inputs[i] != NULL) {
            eo_tflite_quantise(&signature->inputs[i], binding->given[i].data,
                               (size_t)binding->given[i].count, binding->stored_inputs[i]);
        }
    }
    status = model->litert.run(model->compiled, binding->signature, signature->input_count,
                               binding->inputs, signature->output_count, binding->outputs);
    for (uint32_t i = 0; status == 0 && i < signature->output_count; i++) {
        if (binding->stored_outputs[i] != NULL) {
            eo_tflite_dequantise(&signature->outputs[i], binding->stored_outputs[i],
                                 (size_t)binding->results[i].count, binding->results[i].data);
        }
    }
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

/* LiteRT's summary, and then it starts over. Its events are not read one by one: their struct has
 * memory figures that litert_profiler_event.h gives C with two members and C++ with TFLite's four. */
static int litert_operators(struct tflite_model *model, eo_operator_sink *sink, void *context,
                            struct eo_failure *failure)
{
    int (*get)(struct litert_compiled *, void **) = NULL;
    int (*start)(void *) = NULL;
    int (*summary)(void *, struct litert_compiled *, const char **) = NULL;
    const struct eo_symbol symbols[] = {{"LiteRtCompiledModelGetProfiler", &get},
                                        {"LiteRtStartProfiler", &start},
                                        {"LiteRtGetProfileSummary", &summary},
                                        {NULL, NULL}};
    struct eo_operator told = {0};
    void *profiler = NULL;

    if (eo_library_symbols(model->library, "operators", symbols, "LiteRT's library with a profiler",
                           failure) != 0 ||
        check(get(model->compiled, &profiler), "operators", failure) != 0 ||
        check(summary(profiler, model->compiled, &told.name), "operators", failure) != 0) {
        return -1;
    }
    sink(context, &told);
    free((void *)(uintptr_t)told.name);
    return check(start(profiler), "operators", failure);
}

static void litert_unbind(struct tflite_binding *binding)
{
    for (size_t i = 0; i < EO_MAX_TENSORS; i++) {
        if (binding->inputs[i] != NULL) {
            binding->model->litert.destroy_buffer(binding->inputs[i]);
        }
        if (binding->outputs[i] != NULL) {
            binding->model->litert.destroy_buffer(binding->outputs[i]);
        }
        free(binding->stored_inputs[i]);
        free(binding->stored_outputs[i]);
    }
}

static void litert_close(struct tflite_model *model)
{
    if (model->compiled != NULL) {
        model->litert.destroy_compiled(model->compiled);
    }
    if (model->file != NULL) {
        model->litert.destroy_model(model->file);
    }
    if (model->environment != NULL) {
        model->litert.destroy_environment(model->environment);
    }
}

const struct tflite_interface eo_tflite_litert = {
    .load = litert_load,
    .version = litert_version,
    .open = litert_open,
    .bind = litert_bind,
    .run = litert_run,
    .unbind = litert_unbind,
    .close = litert_close,
    .operators = litert_operators,
};
