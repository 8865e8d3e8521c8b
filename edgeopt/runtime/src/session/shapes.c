/* SPDX-FileCopyrightText: edgeopt contributors
 * SPDX-License-Identifier: Apache-2.0 */
#include "session/shapes.h"

#include <stdlib.h>
#include <string.h>

enum { MAX_SEQ_LENS = 64, MAX_LENS = 1024, MAX_BATCHES = 16, MAX_BATCH = 1024, SHORTEST = 16 };
/* The longest text that is never padded, of an engine that takes any length as it is; and of longer
 * ones, a power of two and its double have so many lengths between them. */
enum { EXACT = 512, PARTS = 32 };

static bool has_dim(const struct eo_signature *signature, int64_t dim)
{
    for (uint32_t i = 0; i < signature->input_count; i++) {
        for (uint32_t j = 0; j < signature->inputs[i].rank; j++) {
            if (signature->inputs[i].dims[j] == dim) {
                return true;
            }
        }
    }
    return false;
}

/* Puts `len` into the ascending `lens`, once. */
static uint32_t insert(int32_t *lens, uint32_t count, int32_t len)
{
    uint32_t at = count;

    while (at > 0 && lens[at - 1] >= len) {
        if (lens[at - 1] == len) {
            return count;
        }
        at--;
    }
    if (count == MAX_LENS) {
        return count;
    }
    memmove(lens + at + 1, lens + at, (count - at) * sizeof *lens);
    lens[at] = len;
    return count + 1;
}

static int asked_lens(const struct eo_session *session, const struct eo_session_options *options,
                      int32_t *lens, uint32_t *count, struct eo_failure *failure)
{
    const struct eo_artifact_entry *entry = session->entry;

    if (options->seq_len_count > MAX_SEQ_LENS) {
        return eo_fail(failure, EO_EINPUT, "seq_lens", "more than %d of them", MAX_SEQ_LENS);
    }
    for (uint32_t i = 0; i < options->seq_len_count; i++) {
        int32_t len = options->seq_lens[i];
        bool known = entry->seq_len_count == 0;
        for (uint32_t j = 0; j < entry->seq_len_count; j++) {
            known = known || entry->seq_lens[j] == len;
        }
        if (!known || len < 1 || len > session->manifest->max_seq_len) {
            return eo_fail(failure, EO_EINPUT, "seq_lens", "%s %s does not take %d tokens",
                           entry->engine, entry->precision, (int)len);
        }
        *count = insert(lens, *count, len);
    }
    return EO_OK;
}

static int list_lens(const struct eo_session *session, const struct eo_session_options *options,
                     int32_t *lens, uint32_t *count, struct eo_failure *failure)
{
    const struct eo_manifest *manifest = session->manifest;
    const struct eo_artifact_entry *entry = session->entry;

    *count = 0;
    if (entry->seq_len_count == 0 && !has_dim(&entry->signature, EO_DIM_SEQ)) {
        lens[(*count)++] = 0; /* no sequences: images */
        return EO_OK;
    }
    if (options->seq_lens != NULL && options->seq_len_count > 0) {
        return asked_lens(session, options, lens, count, failure);
    }
    for (uint32_t i = 0; i < entry->seq_len_count; i++) {
        *count = insert(lens, *count, entry->seq_lens[i]);
    }
    if (entry->seq_len_count > 0) {
        return EO_OK;
    }
    *count = insert(lens, *count, manifest->max_seq_len);
    for (uint32_t i = 0; i < manifest->golden_count; i++) {
        if (manifest->goldens[i].seq_len > 0 &&
            manifest->goldens[i].seq_len <= manifest->max_seq_len) {
            *count = insert(lens, *count, manifest->goldens[i].seq_len);
        }
    }
    if (session->engine->any_length && options->batch <= 1) {
        int32_t step = 1;
        for (int32_t len = 1; len < manifest->max_seq_len; len += step) {
            *count = insert(lens, *count, len);
            step = len < EXACT ? 1 : len & (len - 1) ? step : len / PARTS;
        }
        return EO_OK;
    }
    /* 16, 24, 32, 48, 64, ...: at most a third of a run is spent on padding. */
    for (int32_t len = SHORTEST; len < manifest->max_seq_len; len *= 2) {
        *count = insert(lens, *count, len);
        if (len + len / 2 < manifest->max_seq_len) {
            *count = insert(lens, *count, len + len / 2);
        }
    }
    return EO_OK;
}

/* 1, 2, 4, ... up to the one asked for. */
static int list_batches(const struct eo_session *session, const struct eo_session_options *options,
                        uint32_t *batches, uint32_t *count, struct eo_failure *failure)
{
    uint32_t most = options->batch == 0 ? 1 : options->batch;

    if (most > MAX_BATCH) {
        return eo_fail(failure, EO_EINPUT, "batch", "expected up to %d, found %u", MAX_BATCH,
                       (unsigned)most);
    }
    if (most > 1 && !has_dim(&session->entry->signature, EO_DIM_BATCH)) {
        return eo_fail(failure, EO_EUNSUPPORTED, "batch", "%s %s takes one input at a time",
                       session->entry->engine, session->entry->precision);
    }
    *count = 0;
    for (uint32_t batch = 1; batch < most; batch *= 2) {
        batches[(*count)++] = batch;
    }
    batches[(*count)++] = most;
    return EO_OK;
}

static int fill_tensor(const struct eo_spec *spec, uint32_t batch, int32_t seq_len,
                       struct eo_tensor *tensor, struct eo_failure *failure)
{
    *tensor = (struct eo_tensor){.dtype = spec->dtype, .rank = spec->rank, .count = 1};
    for (uint32_t i = 0; i < spec->rank; i++) {
        int64_t size = spec->dims[i] == EO_DIM_BATCH ? (int64_t)batch
                       : spec->dims[i] == EO_DIM_SEQ ? (int64_t)seq_len
                                                     : spec->dims[i];
        tensor->dims[i] = size;
        if ((uint64_t)size > ((uint64_t)1 << 28) / tensor->count) {
            return eo_fail(failure, EO_EBUNDLE, spec->name, "is over 2^28 elements");
        }
        tensor->count *= (uint64_t)size;
    }
    return EO_OK;
}

static uint64_t aligned(uint64_t bytes)
{
    return (bytes + EO_ALIGNMENT - 1) / EO_ALIGNMENT * EO_ALIGNMENT;
}

/* Fills the tensors of one shape, their data one after another from `base` on (NULL: only counted).
 * Returns the bytes in `*used`. */
static int fill_shape(struct eo_session *session, struct eo_shape *shape, char *base, uint64_t *used,
                      struct eo_failure *failure)
{
    const struct eo_signature *signature = &session->entry->signature;
    int result = EO_OK;

    *used = 0;
    for (uint32_t i = 0; result == EO_OK && i < signature->input_count + signature->output_count;
         i++) {
        bool is_input = i < signature->input_count;
        const struct eo_spec *spec = is_input ? &signature->inputs[i]
                                              : &signature->outputs[i - signature->input_count];
        struct eo_tensor *tensor =
            is_input ? &shape->inputs[i] : &shape->outputs[i - signature->input_count];
        result = fill_tensor(spec, shape->batch, shape->seq_len, tensor, failure);
        tensor->data = base == NULL ? NULL : base + (size_t)*used;
        *used += aligned(tensor->count * eo_dtype_bytes(tensor->dtype));
    }
    return result;
}

static int bind_shape(struct eo_session *session, struct eo_shape *shape,
                      struct eo_failure *failure)
{
    const struct eo_signature *signature = &session->entry->signature;
    struct eo_tensor inputs[EO_MAX_TENSORS], outputs[EO_MAX_TENSORS];

    for (uint32_t i = 0; i < signature->input_count; i++) {
        inputs[session->input_port[i]] = shape->inputs[i];
    }
    for (uint32_t i = 0; i < signature->output_count; i++) {
        outputs[session->output_port[i]] = shape->outputs[i];
    }
    return session->engine->bind(session->model, inputs, outputs, &shape->binding, failure) == 0
               ? EO_OK
               : failure->code;
}

/* The engine's port for each tensor of the manifest's entry, by name; the dtypes must be the same. */
static int match_ports(struct eo_session *session, const struct eo_spec *specs, uint32_t count,
                       bool inputs, uint32_t *ports, struct eo_failure *failure)
{
    const struct eo_engine *engine = session->engine;
    uint32_t found =
        inputs ? engine->input_count(session->model) : engine->output_count(session->model);

    if (found != count) {
        return eo_fail(failure, EO_EBUNDLE, session->entry->engine,
                       "the artifact has %u %s, the manifest %u", (unsigned)found,
                       inputs ? "inputs" : "outputs", (unsigned)count);
    }
    for (uint32_t i = 0; i < count; i++) {
        struct eo_port port = {NULL, 0};
        uint32_t at;
        for (at = 0; at < found; at++) {
            port = inputs ? engine->input(session->model, at) : engine->output(session->model, at);
            if (strcmp(port.name, specs[i].name) == 0) {
                break;
            }
        }
        for (uint32_t j = 0; j < i && at < found; j++) {
            at = ports[j] == at ? found : at; /* the manifest has the name twice */
        }
        if (at == found) {
            return eo_fail(failure, EO_EBUNDLE, specs[i].name, "is not in the artifact");
        }
        if (port.dtype != specs[i].dtype) {
            return eo_fail(failure, EO_EBUNDLE, specs[i].name, "is %s in the artifact, not %s",
                           eo_dtype_name(port.dtype), eo_dtype_name(specs[i].dtype));
        }
        ports[i] = at;
    }
    return EO_OK;
}

static int make_shapes(struct eo_session *session, const uint32_t *batches, uint32_t batch_count,
                       const int32_t *lens, uint32_t len_count, struct eo_failure *failure)
{
    const struct eo_signature *signature = &session->entry->signature;
    uint32_t tensors = signature->input_count + signature->output_count;

    session->shapes =
        eo_arena_take(&session->arena, (size_t)batch_count * len_count, sizeof *session->shapes);
    if (session->shapes == NULL) {
        return eo_fail(failure, EO_ENOMEM, "session", "no memory for its shapes");
    }
    for (uint32_t i = 0; i < len_count; i++) {
        for (uint32_t j = 0; j < batch_count; j++) {
            struct eo_shape *shape = &session->shapes[session->shape_count];
            shape->batch = batches[j];
            shape->seq_len = lens[i];
            shape->inputs = eo_arena_take(&session->arena, tensors, sizeof *shape->inputs);
            if (shape->inputs == NULL) {
                return eo_fail(failure, EO_ENOMEM, "session", "no memory for its shapes");
            }
            shape->outputs = shape->inputs + signature->input_count;
            session->shape_count++;
        }
    }
    session->max_batch = batches[batch_count - 1];
    session->max_seq_len = lens[len_count - 1];
    return EO_OK;
}

/* The smallest bound shape for `batch` and `seq_len` (0: the longest); NULL if none is so large. */
static struct eo_shape *fit(const struct eo_session *session, uint32_t batch, int32_t seq_len)
{
    int32_t wanted = seq_len == 0 ? session->max_seq_len : seq_len;

    /* They stand by length, then by batch. */
    for (uint32_t i = 0; i < session->shape_count; i++) {
        if (session->shapes[i].seq_len >= wanted && session->shapes[i].batch >= batch) {
            return &session->shapes[i];
        }
    }
    return NULL;
}

int eo_shapes_bind(struct eo_session *session, const struct eo_session_options *options,
                   struct eo_failure *failure)
{
    const struct eo_signature *signature = &session->entry->signature;
    int32_t lens[MAX_LENS];
    uint32_t batches[MAX_BATCHES], len_count = 0, batch_count = 0;
    uint64_t most = 0, bytes;
    int result = match_ports(session, signature->inputs, signature->input_count, true,
                             session->input_port, failure);

    if (result == EO_OK) {
        result = match_ports(session, signature->outputs, signature->output_count, false,
                             session->output_port, failure);
    }
    if (result != EO_OK ||
        (result = list_lens(session, options, lens, &len_count, failure)) != EO_OK ||
        (result = list_batches(session, options, batches, &batch_count, failure)) != EO_OK ||
        (result = make_shapes(session, batches, batch_count, lens, len_count, failure)) != EO_OK) {
        return result;
    }
    for (uint32_t i = 0; result == EO_OK && i < session->shape_count; i++) {
        result = fill_shape(session, &session->shapes[i], NULL, &bytes, failure);
        most = bytes > most ? bytes : most;
    }
    if (result == EO_OK &&
        (most > SIZE_MAX / 2 ||
         posix_memalign(&session->buffers, EO_ALIGNMENT, (size_t)most) != 0)) {
        session->buffers = NULL;
        result = eo_fail(failure, EO_ENOMEM, "session", "no memory for %llu bytes of buffers",
                         (unsigned long long)most);
    }
    if (result == EO_OK) {
        memset(session->buffers, 0, (size_t)most);
    }
    for (uint32_t i = 0; result == EO_OK && i < session->shape_count; i++) {
        result = fill_shape(session, &session->shapes[i], session->buffers, &bytes, failure);
        if (result == EO_OK) {
            result = bind_shape(session, &session->shapes[i], failure);
        }
    }
    if (result == EO_OK) {
        session->selected = fit(session, 1, 0);
    }
    return result;
}

void eo_shapes_free(struct eo_session *session)
{
    for (uint32_t i = 0; i < session->shape_count; i++) {
        if (session->shapes[i].binding != NULL) {
            session->engine->unbind(session->shapes[i].binding);
        }
    }
    free(session->buffers);
}

int eo_session_select(eo_session *session, uint32_t batch, uint32_t seq_len, eo_failure *failure)
{
    struct eo_shape *shape =
        seq_len > INT32_MAX ? NULL : fit(session, batch, (int32_t)seq_len);

    if (shape == NULL) {
        return eo_fail(failure, EO_EINPUT, "select",
                       "%u times %u tokens is more than the session was opened for (%u times %d)",
                       (unsigned)batch, (unsigned)seq_len, (unsigned)session->max_batch,
                       (int)session->max_seq_len);
    }
    session->selected = shape;
    return EO_OK;
}
