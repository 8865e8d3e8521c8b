/* SPDX-FileCopyrightText: edgeopt contributors
 * SPDX-License-Identifier: Apache-2.0 */
/* TVM: a compiled model opened by TVM's runtime alone (libtvm_runtime and, beside it, libtvm_ffi).
 *
 * The library holds functions without names of tensors, so these come as options:
 *   function=main_{seq_len}  inputs=input_ids:int64,attention_mask:int64  outputs=logits
 * The virtual machine makes its outputs anew in every run, out of a pool of its own.
 *
 * TVM takes its thread count from the environment and keeps it for the process: the first session
 * sets it, and a later one that asks for another count is refused. */
#include "engines/engine.h"
#include "engines/library.h"
#include "engines/option.h"
#include "engines/tvm_abi.h"

#include <dlfcn.h>
#include <inttypes.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/syscall.h>
#include <time.h>
#include <unistd.h>

enum { POOLED_ALLOCATOR = 2, PATH_SIZE = 4096, NAME_SIZE = 256 };

struct port {
    char name[NAME_SIZE];
    int32_t dtype;
};

enum { MAX_KERNELS = 4096 };

/* What the virtual machine calls, in the order of a run. */
struct tvm_kernels {
    int64_t began_ns;
    uint32_t at;
    uint32_t depth; /* of calls within calls: the outermost is timed */
    struct {
        char name[88];
        int64_t ns;
    } called[MAX_KERNELS];
};

struct tvm_model {
    struct tvm_ffi ffi;
    struct tvm_object *get_function; /* ffi.ModuleGetFunction */
    struct tvm_object *get_item;     /* ffi.ArrayGetItem */
    struct tvm_object *executable;
    struct tvm_object *machine;
    struct tvm_kernels *kernels; /* NULL unless they are timed: option operators */
    int memory; /* of a packed bundle's library, -1 without: see load_mapped() */
    char function[NAME_SIZE]; /* with {seq_len} in it */
    uint32_t input_count;
    uint32_t output_count;
    struct port inputs[EO_MAX_TENSORS];
    struct port outputs[EO_MAX_TENSORS];
};

struct tvm_binding {
    struct tvm_model *model;
    char name[NAME_SIZE]; /* of the function, for failures */
    struct tvm_object *function;
    struct dl_managed_tensor managed[EO_MAX_TENSORS]; /* what the input tensors are views of */
    int64_t shapes[EO_MAX_TENSORS][EO_MAX_RANK];
    struct tvm_any arguments[EO_MAX_TENSORS];
    struct tvm_any output; /* of the last run: a tensor, or an array of them */
    struct tvm_object *elements[EO_MAX_TENSORS];
    struct eo_tensor results[EO_MAX_TENSORS];
};

/* Turns TVM's raised error into ours and releases it. */
static int check(const struct tvm_ffi *ffi, int status, const char *where,
                 struct eo_failure *failure)
{
    struct tvm_object *raised = NULL;

    if (status == 0) {
        return 0;
    }
    ffi->take_error(&raised);
    if (raised == NULL) {
        return eo_fail(failure, EO_EENGINE, where, "TVM failed without a reason");
    }
    const struct tvm_error *error = (const struct tvm_error *)(const void *)(raised + 1);
    eo_fail(failure, EO_EENGINE, where, "%.*s: %.*s", (int)error->kind.size, error->kind.data,
            error->message.size > 900 ? 900 : (int)error->message.size, error->message.data);
    (void)ffi->release(raised); /* nothing is left to do if even that fails */
    return -1;
}

/* Opens libtvm_ffi.so beside `path`, then `path` itself, which needs it. The scope is global: the
 * model's code looks symbols up. */
static int load(const char *path, struct tvm_ffi *ffi, struct eo_failure *failure)
{
    const struct eo_symbol symbols[] = {{"TVMFFIGetVersion", &ffi->get_version},
                                        {"TVMFFIFunctionGetGlobal", &ffi->get_global},
                                        {"TVMFFIFunctionCall", &ffi->call},
                                        {"TVMFFIFunctionCreate", &ffi->create},
                                        {"TVMFFIObjectDecRef", &ffi->release},
                                        {"TVMFFIErrorMoveFromRaised", &ffi->take_error},
                                        {"TVMFFITensorFromDLPack", &ffi->from_dlpack},
                                        {NULL, NULL}};
    const char *slash = strrchr(path, '/');
    int folder = slash == NULL ? 0 : (int)(slash - path) + 1;
    char beside[PATH_SIZE];
    void *library;

    if (snprintf(beside, sizeof beside, "%.*slibtvm_ffi.so", folder, path) >= (int)sizeof beside) {
        return eo_fail(failure, EO_EENGINE, path, "is too long a path");
    }
    if (access(beside, R_OK) != 0 && dlopen("libtvm_ffi.so", RTLD_NOW | RTLD_GLOBAL) != NULL) {
        memcpy(beside, "libtvm_ffi.so", sizeof "libtvm_ffi.so"); /* loaded before, or the system's */
    }
    library = eo_library_open(beside, RTLD_GLOBAL, failure);
    if (library == NULL ||
        eo_library_symbols(library, beside, symbols, "TVM's ffi library", failure) != 0) {
        return -1;
    }
    return eo_library_open(path, RTLD_GLOBAL, failure) == NULL ? -1 : 0;
}

static int tvm_version_of(const char *path, char *text, size_t size, struct eo_failure *failure)
{
    struct tvm_ffi ffi;
    struct tvm_version version;

    if (load(path, &ffi, failure) != 0) {
        return -1;
    }
    ffi.get_version(&version); /* the runtime tells no version of its own */
    if (snprintf(text, size, "ffi %u.%u.%u", version.major, version.minor, version.patch) < 0) {
        return eo_fail(failure, EO_EENGINE, path, "version cannot be written");
    }
    return 0;
}

static int global(struct tvm_model *model, const char *name, struct tvm_object **function,
                  struct eo_failure *failure)
{
    const struct tvm_bytes bytes = {.data = name, .size = strlen(name)};

    if (check(&model->ffi, model->ffi.get_global(&bytes, function), name, failure) != 0) {
        return -1;
    }
    return *function == NULL ? eo_fail(failure, EO_EENGINE, name, "is not in TVM's runtime") : 0;
}

static struct tvm_any text_any(const char *text)
{
    return (struct tvm_any){.type_index = TVM_RAW_STR, .value.text = text};
}

static struct tvm_any integer_any(int64_t value)
{
    return (struct tvm_any){.type_index = TVM_INT, .value.integer = value};
}

static struct tvm_any object_any(struct tvm_object *object)
{
    return (struct tvm_any){.type_index = object->type_index, .value.object = object};
}

/* Calls `function` for an object; fails if it returns none. */
static int call_object(struct tvm_model *model, struct tvm_object *function,
                       struct tvm_any *arguments, int32_t count, const char *where,
                       struct tvm_object **object, struct eo_failure *failure)
{
    struct tvm_any result = {.type_index = TVM_NONE};

    if (check(&model->ffi, model->ffi.call(function, arguments, count, &result), where,
              failure) != 0) {
        return -1;
    }
    if (result.type_index < 64) { /* kTVMFFIStaticObjectBegin */
        return eo_fail(failure, EO_EENGINE, where, "is not in the model's library");
    }
    *object = result.value.object;
    return 0;
}

static int module_function(struct tvm_model *model, struct tvm_object *module, const char *name,
                           struct tvm_object **function, struct eo_failure *failure)
{
    struct tvm_any arguments[] = {object_any(module), text_any(name),
                                  {.type_index = TVM_BOOL, .value.integer = 1}};

    return call_object(model, model->get_function, arguments, 3, name, function, failure);
}

/* Calls a function of `module` once; with `object` for the object that it returns. */
static int call_method(struct tvm_model *model, struct tvm_object *module, const char *name,
                       struct tvm_any *arguments, int32_t count, struct tvm_object **object,
                       struct eo_failure *failure)
{
    struct tvm_object *function = NULL;
    struct tvm_any result = {.type_index = TVM_NONE};
    int status;

    if (module_function(model, module, name, &function, failure) != 0) {
        return -1;
    }
    if (object != NULL) {
        status = call_object(model, function, arguments, count, name, object, failure);
    } else {
        status = check(&model->ffi, model->ffi.call(function, arguments, count, &result), name,
                       failure);
    }
    (void)model->ffi.release(function);
    return status;
}

/* Reads "name:int64,other:int64" or "name,other" (float32). */
static int read_ports(const struct eo_option *option, int typed, struct port *ports, uint32_t *count,
                      struct eo_failure *failure)
{
    const char *text = option->value;

    *count = 0;
    while (*text != '\0') {
        size_t length = strcspn(text, ",");
        size_t name = typed ? strcspn(text, ":,") : length;
        const char *dtype = text + name;

        if (*count == EO_MAX_TENSORS || name == 0 || name >= NAME_SIZE) {
            return eo_fail(failure, EO_EENGINE, option->key, "expected names between commas, found %s",
                           option->value);
        }
        memcpy(ports[*count].name, text, name);
        ports[*count].name[name] = '\0';
        ports[*count].dtype = EO_FLOAT32;
        if (typed && length - name == 6 && strncmp(dtype, ":int64", 6) == 0) {
            ports[*count].dtype = EO_INT64;
        } else if (typed && length - name == 6 && strncmp(dtype, ":int32", 6) == 0) {
            ports[*count].dtype = EO_INT32;
        } else if (typed && (length - name != 8 || strncmp(dtype, ":float32", 8) != 0)) {
            return eo_fail(failure, EO_EENGINE, option->key,
                           "expected NAME:int64, NAME:int32 or NAME:float32, found %s", text);
        }
        (*count)++;
        text += length + (text[length] == ',');
    }
    return 0;
}

static int read_options(struct tvm_model *model, const struct eo_open *how,
                        struct eo_failure *failure)
{
    for (uint32_t i = 0; i < how->option_count; i++) {
        const struct eo_option *option = &how->options[i];
        int result = 0;

        if (strcmp(option->key, "inputs") == 0) {
            result = read_ports(option, 1, model->inputs, &model->input_count, failure);
        } else if (strcmp(option->key, "outputs") == 0) {
            result = read_ports(option, 0, model->outputs, &model->output_count, failure);
        } else if (strcmp(option->key, "function") == 0) {
            if (strlen(option->value) >= sizeof model->function) {
                return eo_fail(failure, EO_EENGINE, option->key, "is too long");
            }
            memcpy(model->function, option->value, strlen(option->value) + 1);
        } else if (strcmp(option->key, "operators") == 0) {
            free(model->kernels);
            model->kernels = calloc(1, sizeof *model->kernels);
            result = model->kernels == NULL
                         ? eo_fail(failure, EO_ENOMEM, option->key, "no memory for times")
                         : 0;
        } else if (strcmp(option->key, "mcpu") != 0) { /* what it was compiled for */
            return eo_fail(failure, EO_EENGINE, option->key,
                           "unknown option of engine tvm (known: function, inputs, outputs, mcpu)");
        }
        if (result != 0) {
            return -1;
        }
    }
    if (model->input_count == 0 || model->output_count == 0 || model->function[0] == '\0') {
        return eo_fail(failure, EO_EENGINE, "--option", "engine tvm needs function, inputs and outputs");
    }
    return 0;
}

static void release(const struct tvm_model *model, struct tvm_object **object)
{
    if (*object != NULL) {
        (void)model->ffi.release(*object);
        *object = NULL;
    }
}

static void drop_outputs(struct tvm_binding *binding)
{
    for (size_t i = 0; i < EO_MAX_TENSORS; i++) {
        release(binding->model, &binding->elements[i]);
    }
    if (binding->output.type_index >= 64) {
        release(binding->model, &binding->output.value.object);
    }
    binding->output.type_index = TVM_NONE;
}

static void tvm_unbind(struct eo_binding *bound)
{
    struct tvm_binding *binding = (struct tvm_binding *)bound;

    drop_outputs(binding);
    for (size_t i = 0; i < EO_MAX_TENSORS; i++) {
        release(binding->model, &binding->arguments[i].value.object);
    }
    release(binding->model, &binding->function);
    free(binding);
}

static void tvm_close(struct eo_model *opened)
{
    struct tvm_model *model = (struct tvm_model *)opened;

    release(model, &model->machine);
    release(model, &model->executable);
    release(model, &model->get_item);
    release(model, &model->get_function);
    if (model->memory >= 0) {
        (void)close(model->memory);
    }
    free(model->kernels);
    free(model);
}

/* Asks for `threads` before the runtime starts, and says so if it has others already. Unbound,
 * or TVM pins the calling thread to one core. */
static int set_threads(const struct eo_open *how, struct eo_failure *failure)
{
    char threads[16];

    if (snprintf(threads, sizeof threads, "%d", (int)how->threads) < 0 ||
        setenv("TVM_NUM_THREADS", threads, 0) != 0 || setenv("TVM_BIND_THREADS", "0", 0) != 0) {
        return eo_fail(failure, EO_EENGINE, "threads", "cannot be set");
    }
    return 0;
}

static int check_threads(struct tvm_model *model, const struct eo_open *how,
                         struct eo_failure *failure)
{
    struct tvm_object *count = NULL;
    struct tvm_any result = {.type_index = TVM_NONE};
    int status;

    if (global(model, "runtime.NumThreads", &count, failure) != 0) {
        return -1;
    }
    status = check(&model->ffi, model->ffi.call(count, NULL, 0, &result), "threads", failure);
    release(model, &count);
    if (status == 0 && result.value.integer != how->threads) {
        return eo_fail(failure, EO_EENGINE, "threads",
                       "TVM runs with %" PRId64 ", asked for %d: it has one count for the process "
                       "(TVM_NUM_THREADS), and at most one for each of the fastest CPUs",
                       result.value.integer, (int)how->threads);
    }
    return status;
}

/* Loads the model's library from `path`, whatever its name ends in. */
static int load_module(struct tvm_model *model, const char *path, const char *name,
                       struct eo_failure *failure)
{
    struct tvm_any arguments[] = {text_any(path), text_any("so")};
    struct tvm_object *loader = NULL;
    int result;

    if (global(model, "ffi.Module.load_from_file.so", &loader, failure) != 0) {
        return -1;
    }
    result = call_object(model, loader, arguments, 2, name, &model->executable, failure);
    release(model, &loader);
    return result;
}

/* The loader takes files only, so what lies in a packed bundle is copied into one in memory. It is
 * held open until the model is closed: the loader knows libraries by their paths, and would give a
 * second model under the same number the first one's code. */
static int load_mapped(struct tvm_model *model, const struct eo_file *file,
                       struct eo_failure *failure)
{
    const char *data = file->data;
    size_t done = 0;
    char path[64];
    int result = -1;
    int memory = (int)syscall(SYS_memfd_create, "edgeopt", 1U); /* MFD_CLOEXEC; glibc 2.27 has both */

    if (memory < 0) {
        return eo_fail(failure, EO_EUNSUPPORTED, file->name,
                       "a TVM library cannot be loaded from a packed bundle here; unpack it");
    }
    while (done < file->bytes) {
        ssize_t wrote = write(memory, data + done, file->bytes - done);
        if (wrote <= 0) {
            break;
        }
        done += (size_t)wrote;
    }
    if (done < file->bytes) {
        eo_fail(failure, EO_ENOMEM, file->name, "no memory for a copy of %zu bytes", file->bytes);
    } else if (snprintf(path, sizeof path, "/proc/self/fd/%d", memory) > 0) {
        result = load_module(model, path, file->name, failure);
    }
    model->memory = memory;
    return result;
}

/* What the virtual machine calls before and after each of its calls, with the callee, its name,
 * whether it is before, the result, and the callee's arguments. */
static int instrument(void *self, const struct tvm_any *arguments, int32_t count,
                      struct tvm_any *result)
{
    struct tvm_kernels *kernels = self;
    struct timespec now;
    int64_t now_ns;

    (void)clock_gettime(CLOCK_MONOTONIC_RAW, &now);
    now_ns = now.tv_sec * INT64_C(1000000000) + now.tv_nsec;
    result->type_index = TVM_NONE;
    if (count < 3 || arguments[1].type_index != TVM_RAW_STR || kernels->at == MAX_KERNELS) {
        kernels->at = MAX_KERNELS;
    } else if (arguments[2].value.integer != 0) {
        if (kernels->depth++ == 0) {
            (void)snprintf(kernels->called[kernels->at].name, sizeof kernels->called[0].name, "%s",
                           arguments[1].value.text);
            (void)clock_gettime(CLOCK_MONOTONIC_RAW, &now);
            kernels->began_ns = now.tv_sec * INT64_C(1000000000) + now.tv_nsec;
        }
    } else if (--kernels->depth == 0) {
        kernels->called[kernels->at++].ns += now_ns - kernels->began_ns;
    }
    return 0;
}

static int set_instrument(struct tvm_model *model, struct eo_failure *failure)
{
    struct tvm_object *function = NULL;
    struct tvm_any argument;
    int result = check(&model->ffi, model->ffi.create(model->kernels, instrument, NULL, &function),
                       "operators", failure);

    if (result == 0) {
        argument = object_any(function);
        result = call_method(model, model->machine, "set_instrument", &argument, 1, NULL, failure);
        (void)model->ffi.release(function);
    }
    return result;
}

static int tvm_operators(struct eo_model *opened, eo_operator_sink *sink, void *context,
                         struct eo_failure *failure)
{
    const struct tvm_model *model = (const struct tvm_model *)opened;

    if (model->kernels == NULL || model->kernels->at == MAX_KERNELS) {
        return eo_fail(failure, EO_EUNSUPPORTED, "operators", "more than %d calls in a run",
                       (int)MAX_KERNELS);
    }
    for (uint32_t i = 0; i < model->kernels->at; i++) {
        const struct eo_operator told = {.name = model->kernels->called[i].name,
                                         .type = "",
                                         .kernel = "",
                                         .ns = model->kernels->called[i].ns};
        sink(context, &told);
    }
    return 0;
}

static int open_model(struct tvm_model *model, const struct eo_open *how,
                      struct eo_failure *failure)
{
    struct tvm_any device[] = {integer_any(DL_CPU), integer_any(0), integer_any(POOLED_ALLOCATOR)};
    const struct eo_file *file = how->files;

    if (read_options(model, how, failure) != 0 || set_threads(how, failure) != 0 ||
        load(how->library, &model->ffi, failure) != 0 || check_threads(model, how, failure) != 0 ||
        global(model, "ffi.ModuleGetFunction", &model->get_function, failure) != 0 ||
        global(model, "ffi.ArrayGetItem", &model->get_item, failure) != 0) {
        return -1;
    }
    if ((file->path != NULL ? load_module(model, file->path, file->name, failure)
                            : load_mapped(model, file, failure)) != 0 ||
        call_method(model, model->executable, "vm_load_executable", NULL, 0, &model->machine,
                    failure) != 0) {
        return -1;
    }
    if (call_method(model, model->machine, "vm_initialization", device, 3, NULL, failure) != 0) {
        return -1;
    }
    return model->kernels == NULL ? 0 : set_instrument(model, failure);
}

static int tvm_open(const struct eo_open *how, struct eo_model **out, struct eo_failure *failure)
{
    struct tvm_model *model = calloc(1, sizeof *model);

    if (model == NULL) {
        return eo_fail(failure, EO_ENOMEM, how->files[0].name, "no memory for a session");
    }
    model->memory = -1;
    if (open_model(model, how, failure) != 0) {
        tvm_close((struct eo_model *)model);
        return -1;
    }
    *out = (struct eo_model *)model;
    return 0;
}

/* Points results[index], whose shape was bound, at the tensor `object`. */
static int view_result(struct tvm_binding *binding, uint32_t index, struct tvm_object *object,
                       struct eo_failure *failure)
{
    struct eo_tensor *view = &binding->results[index];
    const char *name = binding->model->outputs[index].name;
    const struct dl_tensor *tensor;

    if (object->type_index != TVM_TENSOR) {
        return eo_fail(failure, EO_EENGINE, name, "is no tensor (TVM's type %d)",
                       (int)object->type_index);
    }
    tensor = (const struct dl_tensor *)(const void *)(object + 1);
    if (tensor->code != DL_FLOAT || tensor->bits != 32 || tensor->rank != (int32_t)view->rank ||
        memcmp(tensor->shape, view->dims, view->rank * sizeof view->dims[0]) != 0) {
        return eo_fail(failure, EO_EENGINE, name, "is not float32 of the shape in the manifest");
    }
    view->data = (char *)tensor->data + tensor->byte_offset;
    return 0;
}

static int view_results(struct tvm_binding *binding, struct eo_failure *failure)
{
    struct tvm_model *model = binding->model;

    if (binding->output.type_index != TVM_ARRAY) {
        if (binding->output.type_index < 64 || model->output_count != 1) {
            return eo_fail(failure, EO_EENGINE, binding->name, "returned no array of %u outputs",
                           (unsigned)model->output_count);
        }
        return view_result(binding, 0, binding->output.value.object, failure);
    }
    for (uint32_t i = 0; i < model->output_count; i++) {
        struct tvm_any arguments[] = {binding->output, integer_any((int64_t)i)};
        if (call_object(model, model->get_item, arguments, 2, model->outputs[i].name,
                        &binding->elements[i], failure) != 0 ||
            view_result(binding, i, binding->elements[i], failure) != 0) {
            return -1;
        }
    }
    return 0;
}

static int tvm_run(struct eo_binding *bound, struct eo_failure *failure)
{
    struct tvm_binding *binding = (struct tvm_binding *)bound;
    struct tvm_model *model = binding->model;

    drop_outputs(binding);
    if (model->kernels != NULL) {
        model->kernels->at = 0;
    }
    if (check(&model->ffi,
              model->ffi.call(binding->function, binding->arguments, (int32_t)model->input_count,
                              &binding->output),
              binding->name, failure) != 0) {
        return -1;
    }
    return view_results(binding, failure);
}

static int bind_input(struct tvm_binding *binding, uint32_t index, const struct eo_tensor *input,
                      struct eo_failure *failure)
{
    struct tvm_model *model = binding->model;
    struct dl_managed_tensor *managed = &binding->managed[index];
    struct tvm_object *tensor = NULL;

    memcpy(binding->shapes[index], input->dims, sizeof binding->shapes[index]);
    *managed = (struct dl_managed_tensor){
        .tensor = {.data = input->data,
                   .device_type = DL_CPU,
                   .rank = (int32_t)input->rank,
                   .code = input->dtype == EO_FLOAT32 ? DL_FLOAT : DL_INT,
                   .bits = (uint8_t)(8 * eo_dtype_bytes(input->dtype)),
                   .lanes = 1,
                   .shape = binding->shapes[index]}};
    if (check(&model->ffi, model->ffi.from_dlpack(managed, EO_ALIGNMENT, 1, &tensor),
              model->inputs[index].name, failure) != 0) {
        return -1;
    }
    binding->arguments[index] = object_any(tensor);
    return 0;
}

static int tvm_bind(struct eo_model *opened, const struct eo_tensor *inputs,
                    const struct eo_tensor *outputs, struct eo_binding **out,
                    struct eo_failure *failure)
{
    struct tvm_model *model = (struct tvm_model *)opened;
    struct tvm_binding *binding = calloc(1, sizeof *binding);
    int64_t seq_len = model->input_count > 0 && inputs[0].rank == 2 ? inputs[0].dims[1] : 0;
    int result;

    if (binding == NULL) {
        return eo_fail(failure, EO_ENOMEM, "bind", "no memory for a binding");
    }
    binding->model = model;
    result = eo_option_fill(model->function, seq_len, binding->name, sizeof binding->name, failure);
    if (result == 0) {
        result =
            module_function(model, model->machine, binding->name, &binding->function, failure);
    }
    for (uint32_t i = 0; result == 0 && i < model->input_count; i++) {
        result = bind_input(binding, i, &inputs[i], failure);
    }
    for (uint32_t i = 0; i < model->output_count; i++) {
        binding->results[i] = outputs[i];
    }
    if (result != 0) {
        tvm_unbind((struct eo_binding *)binding);
        return -1;
    }
    *out = (struct eo_binding *)binding;
    return 0;
}

static uint32_t tvm_input_count(const struct eo_model *opened)
{
    const struct tvm_model *model = (const struct tvm_model *)opened;

    return model->input_count;
}

static uint32_t tvm_output_count(const struct eo_model *opened)
{
    const struct tvm_model *model = (const struct tvm_model *)opened;

    return model->output_count;
}

static struct eo_port tvm_input(const struct eo_model *opened, uint32_t index)
{
    const struct tvm_model *model = (const struct tvm_model *)opened;

    return (struct eo_port){.name = model->inputs[index].name, .dtype = model->inputs[index].dtype};
}

static struct eo_port tvm_output(const struct eo_model *opened, uint32_t index)
{
    const struct tvm_model *model = (const struct tvm_model *)opened;

    return (struct eo_port){.name = model->outputs[index].name,
                            .dtype = model->outputs[index].dtype};
}

static const struct eo_tensor *tvm_result(const struct eo_binding *bound, uint32_t index)
{
    const struct tvm_binding *binding = (const struct tvm_binding *)bound;

    return &binding->results[index];
}

static const char *const libraries[] = {"libtvm_runtime.so", NULL};

const struct eo_engine eo_engine_tvm = {
    .name = "tvm",
    .libraries = libraries,
    .version = tvm_version_of,
    .open = tvm_open,
    .input_count = tvm_input_count,
    .output_count = tvm_output_count,
    .input = tvm_input,
    .output = tvm_output,
    .bind = tvm_bind,
    .run = tvm_run,
    .result = tvm_result,
    .unbind = tvm_unbind,
    .close = tvm_close,
    .operators = tvm_operators,
};
