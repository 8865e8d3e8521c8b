/* SPDX-FileCopyrightText: edgeopt contributors
 * SPDX-License-Identifier: Apache-2.0 */
#include "session/session.h"

#include <string.h>

enum { THREADS_MAX = 1024 };

const char *eo_version(void)
{
    return EO_VERSION;
}

uint32_t eo_abi_version(void)
{
    return EO_ABI_VERSION;
}

int eo_take_struct(const void *given, const char *macro, const char *where, void *own,
                   uint32_t own_bytes, struct eo_failure *failure)
{
    uint32_t bytes;

    if (given == NULL) {
        return EO_OK;
    }
    memcpy(&bytes, given, sizeof bytes);
    if (bytes < sizeof bytes || bytes > 4096) {
        return eo_fail(failure, EO_EINPUT, where, "struct_bytes is %u; begin with %s",
                       (unsigned)bytes, macro);
    }
    for (uint32_t i = own_bytes; i < bytes; i++) {
        if (((const unsigned char *)given)[i] != 0) {
            return eo_fail(failure, EO_EUNSUPPORTED, where,
                           "sets an option that this version (%s) has not", EO_VERSION);
        }
    }
    memcpy(own, given, bytes < own_bytes ? bytes : own_bytes);
    memcpy(own, &own_bytes, sizeof own_bytes);
    return EO_OK;
}

int eo_session_take_options(const struct eo_session_options *given,
                            struct eo_session_options *options, struct eo_failure *failure)
{
    int result;

    *options = (struct eo_session_options)EO_SESSION_OPTIONS;
    result = eo_take_struct(given, "EO_SESSION_OPTIONS", "options", options,
                            (uint32_t)sizeof *options, failure);
    if (result != EO_OK) {
        return result;
    }
    if (options->threads < 0 || options->threads > THREADS_MAX) {
        return eo_fail(failure, EO_EINPUT, "threads", "expected up to %d, found %d", THREADS_MAX,
                       (int)options->threads);
    }
    return EO_OK;
}

const char *eo_session_engine(const eo_session *session)
{
    return session->engine->name;
}

const char *eo_session_engine_version(const eo_session *session)
{
    return session->version;
}

const char *eo_session_graph(const eo_session *session)
{
    return session->manifest->graph;
}

const char *eo_session_precision(const eo_session *session)
{
    return session->entry->precision;
}

const char *eo_session_library(const eo_session *session)
{
    return session->library;
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
               ? session->manifest->signature.inputs[index].name
               : NULL;
}

const char *eo_session_output_name(const eo_session *session, uint32_t index)
{
    return index < eo_session_output_count(session)
               ? session->manifest->signature.outputs[index].name
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
    const struct eo_signature *signature = &session->manifest->signature;

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
