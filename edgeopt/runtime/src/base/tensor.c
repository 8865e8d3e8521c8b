/* SPDX-FileCopyrightText: edgeopt contributors
 * SPDX-License-Identifier: Apache-2.0 */
#include "base/tensor.h"

#include <inttypes.h>
#include <stdio.h>

size_t eo_dtype_bytes(int32_t dtype)
{
    return dtype == EO_INT64 ? 8 : 4;
}

const char *eo_dtype_name(int32_t dtype)
{
    switch (dtype) {
    case EO_FLOAT32:
        return "float32";
    case EO_INT32:
        return "int32";
    case EO_INT64:
        return "int64";
    }
    return "unknown";
}

void eo_shape_text(const struct eo_tensor *tensor, char *text, size_t size)
{
    size_t used = 0;

    if (size == 0) {
        return;
    }
    text[0] = '\0';
    for (uint32_t i = 0; i <= tensor->rank; i++) {
        int wrote = i < tensor->rank ? snprintf(text + used, size - used, "%s%" PRId64,
                                                i == 0 ? "(" : ", ", tensor->dims[i])
                                     : snprintf(text + used, size - used, i == 0 ? "()" : ")");
        if (wrote < 0 || (size_t)wrote >= size - used) {
            return;
        }
        used += (size_t)wrote;
    }
}
