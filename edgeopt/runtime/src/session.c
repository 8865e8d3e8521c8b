/* SPDX-FileCopyrightText: edgeopt contributors
 * SPDX-License-Identifier: Apache-2.0 */
#include "session.h"

#include "affinity.h"
#include "arch.h"
#include "choose.h"
#include "reading.h"
#include "shapes.h"

#include <stdlib.h>
#include <string.h>

enum { TEXT_BYTES = 65536, IMAGE_SIDE = 4096, THREADS_MAX = 1024 };

const char *eo_version(void)
{
    return EO_VERSION;
}

uint32_t eo_abi_version(void)
{
    return EO_ABI_VERSION;
}

int eo_session_take_options(const struct eo_session_options *given,
                            struct eo_session_options *options, struct eo_failure *failure)
{
    *options = (struct eo_session_options)EO_SESSION_OPTIONS;
    if (given == NULL) {
        return EO_OK;
    }
    if (given->struct_bytes < sizeof given->struct_bytes || given->struct_bytes > 4096) {
        return eo_fail(failure, EO_EINPUT, "options",
                       "struct_bytes is %u; begin with EO_SESSION_OPTIONS",
                       (unsigned)given->struct_bytes);
    }
    for (uint32_t i = (uint32_t)sizeof *options; i < given->struct_bytes; i++) {
        if (((const unsigned char *)given)[i] != 0) {
            return eo_fail(failure, EO_EUNSUPPORTED, "options",
                           "sets an option that this version (%s) has not", EO_VERSION);
        }
    }
    memcpy(options, given,
           given->struct_bytes < sizeof *options ? given->struct_bytes : sizeof *options);
    options->struct_bytes = (uint32_t)sizeof *options;
    if (options->threads < 0 || options->threads > THREADS_MAX) {
        return eo_fail(failure, EO_EINPUT, "threads", "expected up to %d, found %d", THREADS_MAX,
                       (int)options->threads);
    }
    return EO_OK;
}

static int open_session(struct eo_session *session, const struct eo_session_options *options,
                        struct eo_failure *failure)
{
    int result = eo_choose(session, options, failure);

    if (result == EO_OK) {
        result = eo_shapes_bind(session, options, failure);
    }
    if (result == EO_OK) {
        session->max_text_bytes =
            options->max_text_bytes == 0 ? (uint32_t)TEXT_BYTES : options->max_text_bytes;
        session->max_image_side =
            options->max_image_side == 0 ? (uint32_t)IMAGE_SIDE : options->max_image_side;
        result = eo_reading_open(session, failure);
    }
    return result;
}

/* Some engines start their threads in the first run: it is made here, so that they are pinned. */
static int open_pinned(struct eo_session *session, const struct eo_session_options *options,
                       struct eo_failure *failure)
{
    eo_cpus before;
    int result = eo_affinity_set(options->cpus, &before, failure);

    if (result == EO_OK) {
        result = open_session(session, options, failure);
        if (result == EO_OK) {
            result = eo_session_run(session, failure);
        }
        eo_affinity_restore(&before);
    }
    return result;
}

/* The CPUs of the bundle's target where this machine is one and has them; else NULL. */
static const char *target_cpus(const struct eo_manifest *manifest)
{
    eo_cpus before;

    if (manifest->cpus == NULL || strcmp(manifest->arch, EO_ARCH) != 0 ||
        eo_affinity_set(manifest->cpus, &before, NULL) != EO_OK) {
        return NULL;
    }
    eo_affinity_restore(&before);
    return manifest->cpus;
}

int eo_session_open(eo_bundle *bundle, const eo_session_options *given, eo_session **out,
                    eo_failure *failure)
{
    struct eo_session *session = calloc(1, sizeof *session);
    struct eo_session_options options;
    struct eo_failure local;
    struct eo_failure *told = failure != NULL ? failure : &local;
    int result;

    *out = NULL;
    if (session == NULL) {
        return eo_fail(told, EO_ENOMEM, "session", "no memory");
    }
    session->bundle = bundle;
    result = eo_session_take_options(given, &options, told);
    if (result == EO_OK && options.cpus == NULL) {
        options.cpus = target_cpus(&bundle->manifest);
    }
    if (result == EO_OK) {
        result = options.cpus != NULL ? open_pinned(session, &options, told)
                                      : open_session(session, &options, told);
    }
    if (result != EO_OK) {
        eo_session_close(session);
        return result;
    }
    *out = session;
    return EO_OK;
}

void eo_session_close(eo_session *session)
{
    if (session == NULL) {
        return;
    }
    eo_reading_close(session);
    eo_shapes_free(session);
    if (session->model != NULL) {
        session->engine->close(session->model);
    }
    eo_arena_free(&session->arena);
    free(session);
}

const char *eo_session_engine(const eo_session *session)
{
    return session->engine->name;
}

const char *eo_session_engine_version(const eo_session *session)
{
    return session->version;
}

const char *eo_session_precision(const eo_session *session)
{
    return session->entry->precision;
}

const char *eo_session_library(const eo_session *session)
{
    return session->library;
}

int eo_session_select(eo_session *session, uint32_t batch, uint32_t seq_len, eo_failure *failure)
{
    struct eo_shape *shape =
        seq_len > INT32_MAX ? NULL : eo_shapes_fit(session, batch, (int32_t)seq_len);

    if (shape == NULL) {
        return eo_fail(failure, EO_EINPUT, "select",
                       "%u times %u tokens is more than the session was opened for (%u times %d)",
                       (unsigned)batch, (unsigned)seq_len, (unsigned)session->max_batch,
                       (int)session->max_seq_len);
    }
    session->selected = shape;
    return EO_OK;
}

uint32_t eo_session_input_count(const eo_session *session)
{
    return session->entry->signature.input_count;
}

uint32_t eo_session_output_count(const eo_session *session)
{
    return session->entry->signature.output_count;
}

const char *eo_session_input_name(const eo_session *session, uint32_t index)
{
    return index < eo_session_input_count(session)
               ? session->bundle->manifest.signature.inputs[index].name
               : NULL;
}

const char *eo_session_output_name(const eo_session *session, uint32_t index)
{
    return index < eo_session_output_count(session)
               ? session->bundle->manifest.signature.outputs[index].name
               : NULL;
}

const eo_tensor *eo_session_input(const eo_session *session, uint32_t index)
{
    return index < eo_session_input_count(session) ? &session->selected->inputs[index] : NULL;
}

const eo_tensor *eo_session_output(const eo_session *session, uint32_t index)
{
    return index < eo_session_output_count(session)
               ? session->engine->result(session->selected->binding, session->output_port[index])
               : NULL;
}

/* Ids beyond a table are an error in some engines, zeros in others, and a read past the table in
 * others again; so the values are looked at first. */
static int check_limits(const struct eo_session *session, struct eo_failure *failure)
{
    const struct eo_signature *signature = &session->bundle->manifest.signature;

    for (uint32_t i = 0; i < signature->input_count; i++) {
        const struct eo_tensor *tensor = &session->selected->inputs[i];
        const int64_t limit = signature->inputs[i].limit;
        if (limit == 0 || tensor->dtype == EO_FLOAT32) {
            continue;
        }
        for (uint64_t j = 0; j < tensor->count; j++) {
            int64_t value = tensor->dtype == EO_INT64 ? ((const int64_t *)tensor->data)[j]
                                                      : ((const int32_t *)tensor->data)[j];
            if (value < 0 || value >= limit) {
                return eo_fail(failure, EO_EINPUT, signature->inputs[i].name,
                               "holds %lld at %llu, expected 0 to %lld", (long long)value,
                               (unsigned long long)j, (long long)(limit - 1));
            }
        }
    }
    return EO_OK;
}

int eo_session_run(eo_session *session, eo_failure *failure)
{
    int result = check_limits(session, failure);

    if (result != EO_OK) {
        return result;
    }
    return session->engine->run(session->selected->binding, failure) == 0 ? EO_OK : EO_EENGINE;
}
