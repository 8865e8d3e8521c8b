/* SPDX-FileCopyrightText: edgeopt contributors
 * SPDX-License-Identifier: Apache-2.0 */
/* Agreement of an output with its golden tensor. */
#ifndef EO_COMPARE_H
#define EO_COMPARE_H

#include "base/tensor.h"

#include <stdbool.h>

struct eo_agreement {
    double cosine;        /* NaN if either side holds a NaN or an infinity */
    double max_abs_error; /* NaN likewise */
    bool same_shape;
};

/* Compares `got` with `golden`, both of any dtype, in double precision. If `mask` (batch, seq)
 * is not NULL and the tensors are (batch, seq, ...), positions whose mask is 0 are left out.
 * Two tensors of zeros have cosine 1. */
struct eo_agreement eo_compare(const struct eo_tensor *got, const struct eo_tensor *golden,
                               const struct eo_tensor *mask);

#endif
