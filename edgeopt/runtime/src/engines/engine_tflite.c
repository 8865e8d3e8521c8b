/* SPDX-FileCopyrightText: edgeopt contributors
 * SPDX-License-Identifier: Apache-2.0 */
/* TFLite files in LiteRT, whose libraries have one of two C interfaces: LiteRt* (tflite_litert.c) or
 * TfLite* (tflite_tfl.c). Kernels are XNNPACK's in both. A file has a signature for each shape, and
 * `bind` takes the one whose inputs have the shapes bound. With the option operators LiteRT times
 * them. */
#include "engines/engine.h"
#include "engines/library.h"
#include "engines/tflite_signatures.h"

#include <dlfcn.h>
#include <errno.h>
#include <fcntl.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/mman.h>
#include <sys/stat.h>
#include <unistd.h>

/* Opens the library at `path` and fills in the interface that it has; TfLite* first, since the
 * libraries that have both have an older LiteRt*. */
static int load(const char *path, void **library, struct tflite_model *model,
                struct eo_failure *failure)
{
    *library = eo_library_open(path, RTLD_LOCAL, failure);
    if (*library == NULL) {
        return -1;
    }
    model->interface =
        dlsym(*library, "TfLiteModelCreate") != NULL ? &eo_tflite_tfl : &eo_tflite_litert;
    return model->interface->load(*library, path, model, failure);
}

static int tflite_version(const char *path, char *text, size_t size, struct eo_failure *failure)
{
    struct tflite_model model = {0};
    void *library = NULL;
    const char *version;

    if (load(path, &library, &model, failure) != 0) {
        return -1;
    }
    version = model.interface->version(library, &model);
    if (snprintf(text, size, "%s", version == NULL ? "unknown" : version) < 0) {
        return eo_fail(failure, EO_EENGINE, path, "version cannot be written");
    }
    return 0;
}

static void tflite_close(struct eo_model *opened)
{
    struct tflite_model *model = (struct tflite_model *)opened;

    if (model->interface != NULL) {
        model->interface->close(model);
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

    for (uint32_t i = 0; i < how->option_count; i++) {
        if (strcmp(how->options[i].key, "operators") != 0) {
            return eo_fail(failure, EO_EENGINE, how->options[i].key,
                           "unknown option of engine tflite (known: operators)");
        }
    }
    model = calloc(1, sizeof *model);
    if (model == NULL) {
        return eo_fail(failure, EO_ENOMEM, how->files[0].name, "no memory for a session");
    }
    model->is_profiled = how->option_count > 0;
    if (load(how->library, &library, model, failure) != 0 ||
        map_file(model, &how->files[0], failure) != 0 ||
        model->interface->open(model, how, failure) != 0) {
        tflite_close((struct eo_model *)model);
        return -1;
    }
    *out = (struct eo_model *)model;
    return 0;
}

static void tflite_unbind(struct eo_binding *bound)
{
    struct tflite_binding *binding = (struct tflite_binding *)bound;

    binding->model->interface->unbind(binding);
    free(binding);
}

static int bind_shapes(struct tflite_binding *binding, const struct eo_tensor *inputs,
                       const struct eo_tensor *outputs, struct eo_failure *failure)
{
    const struct tflite_model *model = binding->model;

    if (eo_tflite_choose(model, inputs, outputs, &binding->signature, failure) != 0) {
        return -1;
    }
    for (uint32_t i = 0; i < model->signatures[binding->signature].output_count; i++) {
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

static int tflite_operators(struct eo_model *opened, eo_operator_sink *sink, void *context,
                            struct eo_failure *failure)
{
    struct tflite_model *model = (struct tflite_model *)opened;

    return model->interface->operators == NULL
               ? eo_fail(failure, EO_EUNSUPPORTED, "operators",
                         "TensorFlow Lite's C interface tells no times of operators")
               : model->interface->operators(model, sink, context, failure);
}

static bool tflite_is_packed(const struct eo_model *opened)
{
    const struct tflite_model *model = (const struct tflite_model *)opened;

    return model->is_packed;
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
    const struct tflite_form *form = &model->signatures[0].inputs[index];

    return (struct eo_port){.name = form->name, .dtype = form->dtype};
}

static struct eo_port tflite_output(const struct eo_model *opened, uint32_t index)
{
    const struct tflite_model *model = (const struct tflite_model *)opened;
    const struct tflite_form *form = &model->signatures[0].outputs[index];

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
    .is_packed = tflite_is_packed,
    .input_count = tflite_input_count,
    .output_count = tflite_output_count,
    .input = tflite_input,
    .output = tflite_output,
    .bind = tflite_bind,
    .run = tflite_run,
    .result = tflite_result,
    .unbind = tflite_unbind,
    .close = tflite_close,
    .operators = tflite_operators,
};
