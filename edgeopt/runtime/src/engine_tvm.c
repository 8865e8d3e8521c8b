/* TVM: a compiled model opened by TVM's runtime alone (libtvm_runtime and, beside it, libtvm_ffi).
 *
 * The library holds functions without names of tensors, so these come as options:
 *   function=main_128  inputs=input_ids:int64,attention_mask:int64  outputs=logits
 * The virtual machine makes its outputs anew in every run, out of a pool of its own. */
#include "engine.h"
#include "tvm_abi.h"

#include <dlfcn.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>

enum { ALIGNMENT = 64, POOLED_ALLOCATOR = 2, PATH_SIZE = 4096, NAME_SIZE = 256 };

struct port {
    char name[NAME_SIZE];
    int32_t dtype;
};

struct eo_session {
    struct tvm_ffi ffi;
    struct tvm_object *get_function; /* ffi.ModuleGetFunction */
    struct tvm_object *get_item;     /* ffi.ArrayGetItem */
    struct tvm_object *executable;
    struct tvm_object *machine;
    struct tvm_object *main;
    char function[NAME_SIZE];
    size_t input_count;
    size_t output_count;
    struct port inputs[EO_MAX_TENSORS];
    struct port outputs[EO_MAX_TENSORS];
    struct dl_managed_tensor managed[EO_MAX_TENSORS]; /* what the input tensors are views of */
    int64_t shapes[EO_MAX_TENSORS][EO_MAX_RANK];
    void *data[EO_MAX_TENSORS]; /* aligned as TVM's code expects; owned */
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
    (void)ffi->release(raised); /* nothing is left to do where even that fails */
    return -1;
}

static int symbol(void *library, const char *name, void *function, size_t size,
                  struct eo_failure *failure)
{
    void *found = dlsym(library, name);

    if (found == NULL) {
        return eo_fail(failure, EO_EENGINE, "libtvm_ffi.so", "has no %s", name);
    }
    memcpy(function, &found, size); /* ISO C has no cast from data to function */
    return 0;
}

static void *open_library(const char *path, struct eo_failure *failure)
{
    void *library = dlopen(path, RTLD_NOW | RTLD_GLOBAL); /* the model's code looks symbols up */

    if (library == NULL) {
        const char *why = dlerror();
        eo_fail(failure, EO_EENGINE, path, "cannot be loaded (%s)", why == NULL ? "no reason given" : why);
    }
    return library;
}

/* Opens libtvm_ffi.so beside `path`, then `path` itself, which needs it. */
static int load(const char *path, struct tvm_ffi *ffi, struct eo_failure *failure)
{
    const char *slash = strrchr(path, '/');
    int folder = slash == NULL ? 0 : (int)(slash - path) + 1;
    char beside[PATH_SIZE];
    void *library;

    if (snprintf(beside, sizeof beside, "%.*slibtvm_ffi.so", folder, path) >= (int)sizeof beside) {
        return eo_fail(failure, EO_EENGINE, path, "is too long a path");
    }
    library = open_library(beside, failure);
    if (library == NULL) {
        return -1;
    }
#define SYMBOL(member, name) \
    symbol(library, name, &ffi->member, sizeof ffi->member, failure) != 0
    if (SYMBOL(get_version, "TVMFFIGetVersion") || SYMBOL(get_global, "TVMFFIFunctionGetGlobal") ||
        SYMBOL(call, "TVMFFIFunctionCall") || SYMBOL(release, "TVMFFIObjectDecRef") ||
        SYMBOL(take_error, "TVMFFIErrorMoveFromRaised") ||
        SYMBOL(from_dlpack, "TVMFFITensorFromDLPack")) {
        return -1;
    }
#undef SYMBOL
    return open_library(path, failure) == NULL ? -1 : 0;
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

static int global(struct eo_session *session, const char *name, struct tvm_object **function,
                  struct eo_failure *failure)
{
    const struct tvm_bytes bytes = {.data = name, .size = strlen(name)};

    if (check(&session->ffi, session->ffi.get_global(&bytes, function), name, failure) != 0) {
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

/* Calls `function` for an object; fails where it returns none. */
static int call_object(struct eo_session *session, struct tvm_object *function,
                       struct tvm_any *arguments, int32_t count, const char *where,
                       struct tvm_object **object, struct eo_failure *failure)
{
    struct tvm_any result = {.type_index = TVM_NONE};

    if (check(&session->ffi, session->ffi.call(function, arguments, count, &result), where,
              failure) != 0) {
        return -1;
    }
    if (result.type_index < 64) { /* kTVMFFIStaticObjectBegin */
        return eo_fail(failure, EO_EENGINE, where, "is not in the model's library");
    }
    *object = result.value.object;
    return 0;
}

static int module_function(struct eo_session *session, struct tvm_object *module, const char *name,
                           struct tvm_object **function, struct eo_failure *failure)
{
    struct tvm_any arguments[] = {object_any(module), text_any(name),
                                  {.type_index = TVM_BOOL, .value.integer = 1}};

    return call_object(session, session->get_function, arguments, 3, name, function, failure);
}

/* Calls a function of `module` once; with `object` for the object that it returns. */
static int call_method(struct eo_session *session, struct tvm_object *module, const char *name,
                       struct tvm_any *arguments, int32_t count, struct tvm_object **object,
                       struct eo_failure *failure)
{
    struct tvm_object *function = NULL;
    struct tvm_any result = {.type_index = TVM_NONE};
    int status;

    if (module_function(session, module, name, &function, failure) != 0) {
        return -1;
    }
    if (object != NULL) {
        status = call_object(session, function, arguments, count, name, object, failure);
    } else {
        status = check(&session->ffi, session->ffi.call(function, arguments, count, &result), name,
                       failure);
    }
    (void)session->ffi.release(function);
    return status;
}

/* Reads "name:int64,other:int64" or "name,other" (float32). */
static int read_ports(const struct eo_option *option, int typed, struct port *ports, size_t *count,
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
        } else if (typed) {
            return eo_fail(failure, EO_EENGINE, option->key, "expected NAME:int64 or NAME:int32, found %s", text);
        }
        (*count)++;
        text += length + (text[length] == ',');
    }
    return 0;
}

static int read_options(struct eo_session *session, const struct eo_open *how,
                        struct eo_failure *failure)
{
    for (size_t i = 0; i < how->option_count; i++) {
        const struct eo_option *option = &how->options[i];
        int result = 0;

        if (strcmp(option->key, "inputs") == 0) {
            result = read_ports(option, 1, session->inputs, &session->input_count, failure);
        } else if (strcmp(option->key, "outputs") == 0) {
            result = read_ports(option, 0, session->outputs, &session->output_count, failure);
        } else if (strcmp(option->key, "function") == 0) {
            if (strlen(option->value) >= sizeof session->function) {
                return eo_fail(failure, EO_EENGINE, option->key, "is too long");
            }
            memcpy(session->function, option->value, strlen(option->value) + 1);
        } else if (strcmp(option->key, "mcpu") != 0) { /* what it was compiled for */
            return eo_fail(failure, EO_EENGINE, option->key,
                           "unknown option of engine tvm (known: function, inputs, outputs, mcpu)");
        }
        if (result != 0) {
            return -1;
        }
    }
    if (session->input_count == 0 || session->output_count == 0 || session->function[0] == '\0') {
        return eo_fail(failure, EO_EENGINE, "--option", "engine tvm needs function, inputs and outputs");
    }
    return 0;
}

static void release(struct eo_session *session, struct tvm_object **object)
{
    if (*object != NULL) {
        (void)session->ffi.release(*object);
        *object = NULL;
    }
}

static void drop_outputs(struct eo_session *session)
{
    for (size_t i = 0; i < EO_MAX_TENSORS; i++) {
        release(session, &session->elements[i]);
    }
    if (session->output.type_index >= 64) {
        release(session, &session->output.value.object);
    }
    session->output.type_index = TVM_NONE;
}

static void unbind(struct eo_session *session)
{
    drop_outputs(session);
    for (size_t i = 0; i < EO_MAX_TENSORS; i++) {
        release(session, &session->arguments[i].value.object);
        free(session->data[i]);
        session->data[i] = NULL;
    }
}

static void tvm_close(struct eo_session *session)
{
    unbind(session);
    release(session, &session->main);
    release(session, &session->machine);
    release(session, &session->executable);
    release(session, &session->get_item);
    release(session, &session->get_function);
    /* No dlclose: the runtime's threads outlive the session. */
    free(session);
}

static int open_session(struct eo_session *session, const struct eo_open *how,
                        struct eo_failure *failure)
{
    struct tvm_any path[] = {text_any(how->model)};
    struct tvm_any device[] = {integer_any(DL_CPU), integer_any(0), integer_any(POOLED_ALLOCATOR)};
    struct tvm_object *load_module = NULL;
    char threads[16];
    int result;

    if (read_options(session, how, failure) != 0) {
        return -1;
    }
    /* Read when the runtime's pool starts. Unbound, or it pins this thread to one core. */
    if (snprintf(threads, sizeof threads, "%d", (int)how->threads) < 0 ||
        setenv("TVM_NUM_THREADS", threads, 1) != 0 || setenv("TVM_BIND_THREADS", "0", 1) != 0) {
        return eo_fail(failure, EO_EENGINE, "--threads", "cannot be set");
    }
    if (load(how->library, &session->ffi, failure) != 0 ||
        global(session, "ffi.ModuleGetFunction", &session->get_function, failure) != 0 ||
        global(session, "ffi.ArrayGetItem", &session->get_item, failure) != 0 ||
        global(session, "ffi.ModuleLoadFromFile", &load_module, failure) != 0) {
        return -1;
    }
    result = call_object(session, load_module, path, 1, how->model, &session->executable, failure);
    release(session, &load_module);
    if (result != 0 ||
        call_method(session, session->executable, "vm_load_executable", NULL, 0, &session->machine,
                    failure) != 0 ||
        call_method(session, session->machine, "vm_initialization", device, 3, NULL, failure) != 0) {
        return -1;
    }
    return module_function(session, session->machine, session->function, &session->main, failure);
}

static int tvm_open(const struct eo_open *how, struct eo_session **out, struct eo_failure *failure)
{
    struct eo_session *session = calloc(1, sizeof *session);

    if (session == NULL) {
        return eo_fail(failure, EO_EENGINE, how->model, "no memory for a session");
    }
    if (open_session(session, how, failure) != 0) {
        tvm_close(session);
        return -1;
    }
    *out = session;
    return 0;
}

static int view_result(struct eo_session *session, size_t index, struct tvm_object *object,
                       struct eo_failure *failure)
{
    struct eo_tensor *view = &session->results[index];
    const char *name = session->outputs[index].name;
    const struct dl_tensor *tensor;

    if (object->type_index != TVM_TENSOR) {
        return eo_fail(failure, EO_EENGINE, name, "is no tensor (TVM's type %d)", (int)object->type_index);
    }
    tensor = (const struct dl_tensor *)(const void *)(object + 1);
    if (tensor->code != DL_FLOAT || tensor->bits != 32 || tensor->rank < 0 ||
        tensor->rank > EO_MAX_RANK) {
        return eo_fail(failure, EO_EENGINE, name, "code %d, %d bits, rank %d; expected float32 up to rank %d",
                       tensor->code, tensor->bits, (int)tensor->rank, EO_MAX_RANK);
    }
    view->dtype = EO_FLOAT32;
    view->rank = (uint32_t)tensor->rank;
    view->count = 1;
    for (int32_t i = 0; i < tensor->rank; i++) {
        view->dims[i] = tensor->shape[i];
        view->count *= (size_t)tensor->shape[i];
    }
    view->data = (char *)tensor->data + tensor->byte_offset;
    return 0;
}

static int view_results(struct eo_session *session, struct eo_failure *failure)
{
    if (session->output.type_index != TVM_ARRAY) {
        if (session->output.type_index < 64 || session->output_count != 1) {
            return eo_fail(failure, EO_EENGINE, session->function, "returned no array of %zu outputs",
                           session->output_count);
        }
        return view_result(session, 0, session->output.value.object, failure);
    }
    for (size_t i = 0; i < session->output_count; i++) {
        struct tvm_any arguments[] = {session->output, integer_any((int64_t)i)};
        if (call_object(session, session->get_item, arguments, 2, session->outputs[i].name,
                        &session->elements[i], failure) != 0 ||
            view_result(session, i, session->elements[i], failure) != 0) {
            return -1;
        }
    }
    return 0;
}

static int tvm_run(struct eo_session *session, struct eo_failure *failure)
{
    drop_outputs(session);
    if (check(&session->ffi,
              session->ffi.call(session->main, session->arguments, (int32_t)session->input_count,
                                &session->output),
              session->function, failure) != 0) {
        return -1;
    }
    return view_results(session, failure);
}

static int bind_input(struct eo_session *session, size_t index, const struct eo_tensor *input,
                      struct eo_failure *failure)
{
    struct dl_managed_tensor *managed = &session->managed[index];
    const char *name = session->inputs[index].name;
    size_t bytes = input->count * eo_dtype_bytes(input->dtype);
    struct tvm_object *tensor = NULL;

    if (posix_memalign(&session->data[index], ALIGNMENT, bytes == 0 ? ALIGNMENT : bytes) != 0) {
        session->data[index] = NULL;
        return eo_fail(failure, EO_EENGINE, name, "no memory for %zu bytes", bytes);
    }
    memcpy(session->data[index], input->data, bytes);
    memcpy(session->shapes[index], input->dims, sizeof session->shapes[index]);
    *managed = (struct dl_managed_tensor){
        .tensor = {.data = session->data[index],
                   .device_type = DL_CPU,
                   .rank = (int32_t)input->rank,
                   .code = DL_INT,
                   .bits = (uint8_t)(8 * eo_dtype_bytes(input->dtype)),
                   .lanes = 1,
                   .shape = session->shapes[index]}};
    if (check(&session->ffi, session->ffi.from_dlpack(managed, ALIGNMENT, 1, &tensor), name,
              failure) != 0) {
        return -1;
    }
    session->arguments[index] = object_any(tensor);
    return 0;
}

static int tvm_bind(struct eo_session *session, const struct eo_tensor *inputs,
                    struct eo_failure *failure)
{
    unbind(session);
    for (size_t i = 0; i < session->input_count; i++) {
        if (bind_input(session, i, &inputs[i], failure) != 0) {
            return -1;
        }
    }
    return 0;
}

static size_t tvm_input_count(const struct eo_session *session)
{
    return session->input_count;
}

static size_t tvm_output_count(const struct eo_session *session)
{
    return session->output_count;
}

static struct eo_port tvm_input(const struct eo_session *session, size_t index)
{
    return (struct eo_port){.name = session->inputs[index].name,
                            .dtype = session->inputs[index].dtype};
}

static struct eo_port tvm_output(const struct eo_session *session, size_t index)
{
    return (struct eo_port){.name = session->outputs[index].name,
                            .dtype = session->outputs[index].dtype};
}

static const struct eo_tensor *tvm_result(const struct eo_session *session, size_t index)
{
    return &session->results[index];
}

const struct eo_engine eo_engine_tvm = {
    .name = "tvm",
    .version = tvm_version_of,
    .open = tvm_open,
    .input_count = tvm_input_count,
    .output_count = tvm_output_count,
    .input = tvm_input,
    .output = tvm_output,
    .bind = tvm_bind,
    .run = tvm_run,
    .result = tvm_result,
    .close = tvm_close,
};
