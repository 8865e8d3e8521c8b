/* SPDX-FileCopyrightText: edgeopt contributors
 * SPDX-License-Identifier: Apache-2.0 */
#include "golden.h"

#include "npy.h"

#include <stdio.h>
#include <stdlib.h>
#include <string.h>

static int read_side(struct eo_bundle *bundle, const char *directory, const char *side,
                     const struct eo_spec *specs, uint32_t count, struct eo_tensor *tensors,
                     struct eo_failure *failure)
{
    int result = EO_OK;

    for (uint32_t i = 0; result == EO_OK && i < count; i++) {
        char name[1024];
        const void *data;
        size_t bytes;
        int wrote =
            snprintf(name, sizeof name, "%s/%s.%s.npy", directory, side, specs[i].name);
        if (wrote < 0 || (size_t)wrote >= sizeof name) {
            return eo_fail(failure, EO_EBUNDLE, directory, "its name is too long");
        }
        result = eo_bundle_file(bundle, name, &data, &bytes, failure);
        if (result == EO_OK) {
            result = eo_npy_read(data, bytes, name, &tensors[i], failure);
        }
    }
    return result;
}

int eo_golden_open(struct eo_bundle *bundle, const struct eo_manifest *manifest,
                   const char *directory, struct eo_golden *golden, struct eo_failure *failure)
{
    const struct eo_signature *signature = &manifest->signature;
    int result;

    memset(golden, 0, sizeof *golden);
    golden->directory = directory;
    result = read_side(bundle, directory, "in", signature->inputs, signature->input_count,
                       golden->inputs, failure);
    if (result == EO_OK) {
        result = read_side(bundle, directory, "out", signature->outputs, signature->output_count,
                           golden->outputs, failure);
    }
    return result;
}

void eo_golden_close(struct eo_golden *golden)
{
    for (size_t i = 0; i < EO_MAX_TENSORS; i++) {
        free(golden->inputs[i].data);
        free(golden->outputs[i].data);
    }
    memset(golden, 0, sizeof *golden);
}

static int copy_input(const struct eo_tensor *from, const struct eo_tensor *to, const char *name,
                      struct eo_failure *failure)
{
    if (from->rank != to->rank || memcmp(from->dims, to->dims, from->rank * sizeof *from->dims)) {
        char found[128], expected[128];
        eo_shape_text(from, found, sizeof found);
        eo_shape_text(to, expected, sizeof expected);
        return eo_fail(failure, EO_EBUNDLE, name, "shape %s, the artifact takes %s", found,
                       expected);
    }
    if (from->dtype == to->dtype) {
        memcpy(to->data, from->data, (size_t)from->count * eo_dtype_bytes(from->dtype));
        return EO_OK;
    }
    if (from->dtype == EO_FLOAT32 || to->dtype == EO_FLOAT32) {
        return eo_fail(failure, EO_EBUNDLE, name, "the artifact takes %s, the golden input is %s",
                       eo_dtype_name(to->dtype), eo_dtype_name(from->dtype));
    }
    for (uint64_t i = 0; i < from->count; i++) {
        int64_t value = from->dtype == EO_INT64 ? ((const int64_t *)from->data)[i]
                                                : ((const int32_t *)from->data)[i];
        if (to->dtype == EO_INT64) {
            ((int64_t *)to->data)[i] = value;
        } else if (value < INT32_MIN || value > INT32_MAX) {
            return eo_fail(failure, EO_EBUNDLE, name, "value %lld does not fit the artifact's int32",
                           (long long)value);
        } else {
            ((int32_t *)to->data)[i] = (int32_t)value;
        }
    }
    return EO_OK;
}

void eo_golden_row(const struct eo_session *session, uint32_t row, struct eo_tensor *tensor)
{
    const uint32_t batch = session->selected->batch;

    if (tensor->dims[0] == (int64_t)batch) { /* not one without a batch */
        tensor->dims[0] = 1;
        tensor->count /= batch;
        tensor->data =
            (char *)tensor->data + row * (size_t)tensor->count * eo_dtype_bytes(tensor->dtype);
    }
}

int eo_golden_fill(const struct eo_golden *golden, struct eo_session *session, uint32_t batch,
                   uint32_t row, struct eo_failure *failure)
{
    const struct eo_tensor *first = &golden->inputs[0];
    uint32_t seq_len =
        session->max_seq_len > 0 && first->rank == 2 ? (uint32_t)first->dims[1] : 0;
    int result = eo_session_select(session, batch, seq_len, failure);

    for (uint32_t i = 0; result == EO_OK && i < eo_session_input_count(session); i++) {
        struct eo_tensor to = *eo_session_input(session, i);
        eo_golden_row(session, row, &to);
        result = copy_input(&golden->inputs[i], &to, eo_session_input_name(session, i), failure);
    }
    return result;
}

const struct eo_tensor *eo_golden_mask(const struct eo_golden *golden,
                                       const struct eo_session *session)
{
    for (uint32_t i = 0; i < eo_session_input_count(session); i++) {
        if (strcmp(eo_session_input_name(session, i), "attention_mask") == 0) {
            return &golden->inputs[i];
        }
    }
    return NULL;
}
