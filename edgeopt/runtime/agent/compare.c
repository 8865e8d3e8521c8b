/* SPDX-FileCopyrightText: edgeopt contributors
 * SPDX-License-Identifier: Apache-2.0 */
#include "compare.h"

#include <math.h>

static double element(const struct eo_tensor *tensor, size_t index)
{
    switch (tensor->dtype) {
    case EO_FLOAT32:
        return (double)((const float *)tensor->data)[index];
    case EO_INT32:
        return (double)((const int32_t *)tensor->data)[index];
    case EO_INT64:
        return (double)((const int64_t *)tensor->data)[index];
    }
    return NAN;
}

static bool shapes_match(const struct eo_tensor *a, const struct eo_tensor *b, uint32_t rank)
{
    for (uint32_t i = 0; i < rank; i++) {
        if (a->dims[i] != b->dims[i]) {
            return false;
        }
    }
    return true;
}

struct eo_agreement eo_compare(const struct eo_tensor *got, const struct eo_tensor *golden,
                               const struct eo_tensor *mask)
{
    struct eo_agreement agreement = {.cosine = NAN, .max_abs_error = NAN, .same_shape = false};
    double dot = 0.0, got_square = 0.0, golden_square = 0.0, worst = 0.0;
    size_t inner = 1; /* elements of one position */
    bool masked;

    if (got->rank != golden->rank || !shapes_match(got, golden, got->rank)) {
        return agreement;
    }
    agreement.same_shape = true;
    masked = mask != NULL && mask->rank == 2 && golden->rank >= 2 && mask->count > 0 &&
             shapes_match(mask, golden, 2);
    if (masked) {
        inner = golden->count / mask->count;
    }
    for (size_t i = 0; i < golden->count; i++) {
        double a, b, error;

        if (masked && element(mask, i / inner) == 0.0) {
            continue;
        }
        a = element(got, i);
        b = element(golden, i);
        if (!isfinite(a) || !isfinite(b)) {
            return agreement;
        }
        error = fabs(a - b);
        worst = error > worst ? error : worst;
        dot += a * b;
        got_square += a * a;
        golden_square += b * b;
    }
    agreement.max_abs_error = worst;
    if (got_square == 0.0 || golden_square == 0.0) {
        agreement.cosine = got_square == golden_square ? 1.0 : 0.0;
    } else {
        agreement.cosine = dot / (sqrt(got_square) * sqrt(golden_square));
    }
    return agreement;
}
