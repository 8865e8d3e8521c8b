/* SPDX-FileCopyrightText: edgeopt contributors
 * SPDX-License-Identifier: Apache-2.0 */
/* Runs one engine behind engine.h by what its arguments say, in their order:
 *
 *   ENGINE LIBRARY THREADS  then any of
 *   file PATH               a file of the artifact, opened by path
 *   map PATH                the same, from memory
 *   option KEY VALUE
 *   beside                  opens what was said so far and leaves it open; file begins anew
 *   bind                    a new binding; what follows belongs to it
 *   in NAME DTYPE DIMS PATH / out NAME DTYPE DIMS PATH, dims as 1,8
 *   run BINDING TIMES       prints nanoseconds of the fastest run
 *   write BINDING           writes the results to their paths
 *   unbind BINDING
 *   status                  prints threads, CPU time of the process and resident memory
 *
 * The model is opened at the first bind. A failure is printed as "where: message", status 1. */
#include "engines/engine.h"

#include <fcntl.h>
#include <inttypes.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/mman.h>
#include <sys/stat.h>
#include <time.h>
#include <unistd.h>

enum { BINDINGS = 8, FILES = 2, OPTIONS = 8 };

struct side {
    uint32_t count;
    const char *names[EO_MAX_TENSORS];
    const char *paths[EO_MAX_TENSORS];
    struct eo_tensor tensors[EO_MAX_TENSORS];
};

struct plan {
    struct side in, out;
    struct side in_order, out_order; /* as the artifact has them */
    struct eo_binding *binding;
};

static const struct eo_engine *const engines[] = {&eo_engine_onnx, &eo_engine_openvino,
                                                  &eo_engine_tflite, &eo_engine_tvm};
static const struct eo_engine *engine;
static struct eo_file files[FILES];
static struct eo_option options[OPTIONS];
static struct eo_open how = {.files = files, .options = options};
static struct eo_model *model, *beside;
static struct plan plans[BINDINGS];
static uint32_t plan_count;
static struct eo_failure failure;

static void close_all(void)
{
    for (uint32_t i = 0; i < plan_count; i++) {
        if (plans[i].binding != NULL) {
            engine->unbind(plans[i].binding);
        }
        for (uint32_t k = 0; k < plans[i].in.count; k++) {
            free(plans[i].in.tensors[k].data);
        }
        for (uint32_t k = 0; k < plans[i].out.count; k++) {
            free(plans[i].out.tensors[k].data);
        }
    }
    if (model != NULL) {
        engine->close(model);
    }
    if (beside != NULL) {
        engine->close(beside);
    }
}

static void fail(const char *where, const char *message)
{
    printf("%s: %s\n", where, message);
    close_all();
    exit(1);
}

static void check(int result)
{
    if (result != 0) {
        fail(failure.where, failure.message);
    }
}

static void add_file(const char *path, int map)
{
    struct stat status;
    int descriptor = open(path, O_RDONLY);

    if (how.file_count == FILES) {
        fail(path, "one file too many");
    }
    files[how.file_count].name = strrchr(path, '/') + 1;
    files[how.file_count].path = path;
    if (map) {
        if (descriptor < 0 || fstat(descriptor, &status) != 0) {
            fail(path, "cannot be opened");
        }
        files[how.file_count].path = NULL;
        files[how.file_count].bytes = (size_t)status.st_size;
        files[how.file_count].data =
            mmap(NULL, (size_t)status.st_size, PROT_READ, MAP_PRIVATE, descriptor, 0);
        if (files[how.file_count].data == MAP_FAILED) {
            fail(path, "cannot be mapped");
        }
    }
    if (descriptor >= 0) {
        close(descriptor);
    }
    how.file_count++;
}

static void add_tensor(struct side *side, char **words)
{
    struct eo_tensor *tensor = &side->tensors[side->count];
    size_t bytes;

    side->names[side->count] = words[0];
    side->paths[side->count] = words[3];
    tensor->dtype = strcmp(words[1], "float32") == 0 ? EO_FLOAT32
                    : strcmp(words[1], "int32") == 0 ? EO_INT32
                                                     : EO_INT64;
    tensor->count = 1;
    for (char *at = words[2]; *at != '\0'; at += *at == ',') {
        tensor->dims[tensor->rank] = strtoll(at, &at, 10);
        tensor->count *= (uint64_t)tensor->dims[tensor->rank++];
    }
    bytes = tensor->count * eo_dtype_bytes(tensor->dtype);
    tensor->data = aligned_alloc(EO_ALIGNMENT,
                                 (bytes + EO_ALIGNMENT - 1) / EO_ALIGNMENT * EO_ALIGNMENT);
    side->count++;
    memset(tensor->data, 0x7f, bytes);
}

static void read_inputs(const struct side *in)
{
    for (uint32_t i = 0; i < in->count; i++) {
        FILE *file = fopen(in->paths[i], "rb");
        size_t count = (size_t)in->tensors[i].count;
        if (file == NULL || fread(in->tensors[i].data, eo_dtype_bytes(in->tensors[i].dtype), count,
                                  file) != count) {
            fail(in->paths[i], "cannot be read");
        }
        fclose(file);
    }
}

/* Puts the tensors into the artifact's order. */
static void order(const struct side *given, struct side *ordered, uint32_t count,
                  struct eo_port (*port)(const struct eo_model *, uint32_t))
{
    ordered->count = count;
    if (given->count != count) {
        fail("arguments", "not one tensor for each of the artifact's");
    }
    for (uint32_t i = 0; i < count; i++) {
        struct eo_port found = port(model, i);
        uint32_t k = 0;
        while (k < count && strcmp(given->names[k], found.name) != 0) {
            k++;
        }
        if (k == count) {
            fail(found.name, "is not among the arguments");
        }
        if (found.dtype != given->tensors[k].dtype) {
            fail(found.name, eo_dtype_name(found.dtype));
        }
        ordered->names[i] = given->names[k];
        ordered->paths[i] = given->paths[k];
        ordered->tensors[i] = given->tensors[k];
    }
}

/* Opens the model if none is open, and binds what was not bound yet. */
static void bind_all(void)
{
    if (model == NULL) {
        check(engine->open(&how, &model, &failure));
    }
    for (uint32_t i = 0; i < plan_count; i++) {
        struct plan *plan = &plans[i];
        if (plan->binding == NULL && plan->in_order.count == 0) {
            order(&plan->in, &plan->in_order, engine->input_count(model), engine->input);
            order(&plan->out, &plan->out_order, engine->output_count(model), engine->output);
            check(engine->bind(model, plan->in_order.tensors, plan->out_order.tensors,
                               &plan->binding, &failure));
            read_inputs(&plan->in_order);
        }
    }
}

static void run(struct plan *plan, long times)
{
    int64_t fastest = INT64_MAX;

    for (long i = 0; i < times; i++) {
        struct timespec from, to;
        int64_t ns;
        clock_gettime(CLOCK_MONOTONIC, &from);
        check(engine->run(plan->binding, &failure));
        clock_gettime(CLOCK_MONOTONIC, &to);
        ns = (to.tv_sec - from.tv_sec) * INT64_C(1000000000) + to.tv_nsec - from.tv_nsec;
        fastest = ns < fastest ? ns : fastest;
    }
    printf("fastest_ns %" PRId64 "\n", fastest);
}

static void write_results(const struct plan *plan)
{
    for (uint32_t i = 0; i < plan->out_order.count; i++) {
        const struct eo_tensor *result = engine->result(plan->binding, i);
        FILE *file = fopen(plan->out_order.paths[i], "wb");
        size_t count = (size_t)result->count;
        if (file == NULL ||
            fwrite(result->data, eo_dtype_bytes(result->dtype), count, file) != count ||
            fclose(file) != 0) {
            fail(plan->out_order.paths[i], "cannot be written");
        }
        printf("result %s %s\n", plan->out_order.names[i],
               result->data == plan->out_order.tensors[i].data ? "in place" : "of the engine");
    }
}

static void print_status(void)
{
    FILE *file = fopen("/proc/self/status", "r");
    char line[256];

    while (file != NULL && fgets(line, sizeof line, file) != NULL) {
        if (strncmp(line, "Threads:", 8) == 0 || strncmp(line, "VmRSS:", 6) == 0 ||
            strncmp(line, "RssAnon:", 8) == 0) {
            fputs(line, stdout);
        }
    }
    if (file != NULL) {
        fclose(file);
    }
    printf("cpu_ms: %.1f\n", (double)clock() / (CLOCKS_PER_SEC / 1000));
}

int main(int count, char **words)
{
    char version[64];

    for (size_t i = 0; count > 3 && i < sizeof engines / sizeof engines[0]; i++) {
        if (strcmp(engines[i]->name, words[1]) == 0) {
            engine = engines[i];
        }
    }
    if (engine == NULL) {
        fail("arguments", "expected ENGINE LIBRARY THREADS ...");
    }
    how.library = words[2];
    how.threads = atoi(words[3]);
    check(engine->version(how.library, version, sizeof version, &failure));
    printf("version %s\n", version);
    for (int i = 4; i < count; i++) {
        const char *word = words[i];
        if (strcmp(word, "file") == 0 || strcmp(word, "map") == 0) {
            add_file(words[++i], word[0] == 'm');
        } else if (strcmp(word, "option") == 0) {
            options[how.option_count++] = (struct eo_option){words[i + 1], words[i + 2]};
            i += 2;
        } else if (strcmp(word, "beside") == 0) {
            check(engine->open(&how, &beside, &failure));
            how.file_count = how.option_count = 0;
        } else if (strcmp(word, "bind") == 0) {
            plan_count++;
        } else if (strcmp(word, "in") == 0 || strcmp(word, "out") == 0) {
            struct plan *plan = &plans[plan_count - 1];
            add_tensor(word[0] == 'i' ? &plan->in : &plan->out, &words[i + 1]);
            i += 4;
        } else if (strcmp(word, "run") == 0) {
            bind_all();
            run(&plans[atoi(words[i + 1])], atol(words[i + 2]));
            i += 2;
        } else if (strcmp(word, "write") == 0) {
            write_results(&plans[atoi(words[++i])]);
        } else if (strcmp(word, "unbind") == 0) {
            struct plan *plan = &plans[atoi(words[++i])];
            engine->unbind(plan->binding);
            plan->binding = NULL;
        } else if (strcmp(word, "status") == 0) {
            bind_all();
            print_status();
        } else {
            fail(word, "unknown word");
        }
    }
    bind_all();
    close_all();
    return 0;
}
