/* SPDX-FileCopyrightText: edgeopt contributors
 * SPDX-License-Identifier: Apache-2.0 */
/* What all parts know of tensors. */
#ifndef EO_TENSOR_H
#define EO_TENSOR_H

#include "edgeopt_rt.h"

size_t eo_dtype_bytes(int32_t dtype);
const char *eo_dtype_name(int32_t dtype);

/* Writes "(1, 128)" into `text`, cut if too long. */
void eo_shape_text(const struct eo_tensor *tensor, char *text, size_t size);

#endif
