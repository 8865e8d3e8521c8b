/* SPDX-FileCopyrightText: edgeopt contributors
 * SPDX-License-Identifier: Apache-2.0 */
/* What the library adds to onnxruntime: the same tensors run through its C interface directly and
 * through eo_session_run, in turns; and the whole way from text to label.
 *
 *     overhead BUNDLE LIBRARY CALLS        prints the nanoseconds of each call: direct,session,text */
#include "engines/onnx_abi.h"
#include "session/session.h"

#include <dlfcn.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <time.h>

static int64_t now_ns(void)
{
    struct timespec now;

    return clock_gettime(CLOCK_MONOTONIC, &now) == 0 ? now.tv_sec * 1000000000LL + now.tv_nsec : 0;
}

static void need(int ok, const char *what)
{
    if (!ok) {
        fprintf(stderr, "overhead: %s\n", what);
        exit(1);
    }
}

struct direct {
    const struct ort_api *api;
    struct ort_session *session;
    struct ort_value *inputs[EO_MAX_TENSORS], *outputs[EO_MAX_TENSORS];
    const char *input_names[EO_MAX_TENSORS], *output_names[EO_MAX_TENSORS];
    uint32_t input_count, output_count;
};

static struct ort_value *value_of(const struct ort_api *api, const eo_tensor *tensor)
{
    struct ort_memory_info *memory;
    struct ort_value *value = NULL;
    size_t bytes = (size_t)tensor->count * (tensor->dtype == EO_INT64 ? 8 : 4);
    int type = tensor->dtype == EO_FLOAT32 ? ORT_FLOAT
               : tensor->dtype == EO_INT32 ? ORT_INT32
                                           : ORT_INT64;

    need(api->cpu_memory_info(ORT_ARENA_ALLOCATOR, ORT_MEM_TYPE_DEFAULT, &memory) == NULL, "memory");
    need(api->create_tensor_over(memory, tensor->data, bytes, tensor->dims, tensor->rank, type,
                                 &value) == NULL,
         "tensor");
    api->release_memory_info(memory);
    return value;
}

/* Opens the session's own artifact once more, without this library, over the same buffers. */
static void open_direct(struct direct *direct, struct eo_session *session, const char *library)
{
    ort_get_api_base base = NULL;
    void *handle = dlopen(library, RTLD_NOW), *symbol = dlsym(handle, "OrtGetApiBase");
    struct ort_env *env;
    struct ort_session_options *options;
    struct eo_file file;
    struct eo_failure failure;

    memcpy(&base, &symbol, sizeof base);
    direct->api = base()->get_api(EO_ORT_API_VERSION);
    need(eo_bundle_map(session->bundle, session->entry->files[0], &file, &failure) == EO_OK, "file");
    need(direct->api->create_env(ORT_LEVEL_ERROR, "bench", &env) == NULL, "env");
    need(direct->api->create_session_options(&options) == NULL, "options");
    need(direct->api->set_intra_op_threads(options, 1) == NULL, "threads");
    need(direct->api->create_session(env, file.path, options, &direct->session) == NULL, "session");
    direct->input_count = eo_session_input_count(session);
    direct->output_count = eo_session_output_count(session);
    for (uint32_t i = 0; i < direct->input_count; i++) {
        direct->inputs[i] = value_of(direct->api, eo_session_input(session, i));
        direct->input_names[i] = session->entry->signature.inputs[i].name;
    }
    for (uint32_t i = 0; i < direct->output_count; i++) {
        direct->outputs[i] = value_of(direct->api, eo_session_output(session, i));
        direct->output_names[i] = session->entry->signature.outputs[i].name;
    }
}

int main(int argc, char **argv)
{
    static const char words[] = "a library for text and data";
    const eo_text text = {.text = words, .bytes = sizeof words - 1};
    eo_session_options options = EO_SESSION_OPTIONS;
    eo_failure failure;
    eo_bundle *bundle;
    eo_session *session;
    struct direct direct = {0};

    need(argc == 4, "usage: overhead BUNDLE LIBRARY CALLS");
    options.engine = "onnx";
    options.threads = 1;
    options.libraries = argv[2];
    need(eo_bundle_open(argv[1], &bundle, &failure) == EO_OK, failure.message);
    need(eo_session_open(bundle, &options, &session, &failure) == EO_OK, failure.message);
    need(eo_session_run_texts(session, &text, 1, &failure) == EO_OK, failure.message);
    open_direct(&direct, session, argv[2]);
    for (long i = 0; i < atol(argv[3]); i++) {
        int64_t a = now_ns(), b, c, d;
        need(direct.api->run(direct.session, NULL, direct.input_names,
                             (const struct ort_value *const *)direct.inputs, direct.input_count,
                             direct.output_names, direct.output_count, direct.outputs) == NULL,
             "run");
        b = now_ns();
        need(eo_session_run(session, &failure) == EO_OK, failure.message);
        c = now_ns();
        need(eo_session_run_texts(session, &text, 1, &failure) == EO_OK, failure.message);
        d = now_ns();
        printf("%lld,%lld,%lld\n", (long long)(b - a), (long long)(c - b), (long long)(d - c));
    }
    eo_session_close(session);
    eo_bundle_close(bundle);
    return 0;
}
