/* SPDX-FileCopyrightText: edgeopt contributors
 * SPDX-License-Identifier: Apache-2.0 */
/* Reads NumPy's .npy files, format versions 1.0 and 2.0.
 * Source: https://numpy.org/doc/stable/reference/generated/numpy.lib.format.html */
#ifndef EO_NPY_H
#define EO_NPY_H

#include "base/failure.h"
#include "base/tensor.h"

#define EO_NPY_MAX_BYTES ((uint64_t)1 << 30) /* a golden tensor is a few MiB; refuse absurd headers */

/* Copies the tensor in `file` (`bytes` of a whole .npy file, called `where` in failures); its data
 * is allocated here and freed by the caller with free(). Takes little-endian float32, int32 and
 * int64 in C order, of rank 0 to EO_MAX_RANK. After a failure nothing is allocated. */
int eo_npy_read(const void *file, size_t bytes, const char *where, struct eo_tensor *tensor,
                struct eo_failure *failure);

#endif
