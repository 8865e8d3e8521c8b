/* SPDX-FileCopyrightText: edgeopt contributors
 * SPDX-License-Identifier: Apache-2.0 */
/* The signatures of a TFLite file: one for each shape. */
#ifndef EO_TFLITE_SIGNATURES_H
#define EO_TFLITE_SIGNATURES_H

#include "engines/tflite_model.h"

/* Makes room for `count` signatures. */
int eo_tflite_add_signatures(struct tflite_model *model, size_t count, const char *file,
                             struct eo_failure *failure);
int eo_tflite_set_counts(struct tflite_signature *signature, size_t inputs, size_t outputs,
                         const char *file, struct eo_failure *failure);
/* The dtype, out of the element type; a free batch becomes 1. */
int eo_tflite_set_form(struct tflite_form *form, const char *file, struct eo_failure *failure);
/* Between the float32 of the caller and the 8 bits of a tensor; each is `count` long. Rounded half
 * away from zero and cut off at the ends, as TFLite's own Quantize does. */
void eo_tflite_quantise(const struct tflite_form *form, const float *values, size_t count,
                        void *stored);
void eo_tflite_dequantise(const struct tflite_form *form, const void *stored, size_t count,
                          float *values);

/* The signature whose inputs are those of the first, in the shapes of `inputs`, and whose outputs
 * then have those of `outputs`. */
int eo_tflite_choose(const struct tflite_model *model, const struct eo_tensor *inputs,
                     const struct eo_tensor *outputs, uint32_t *chosen,
                     struct eo_failure *failure);

#endif
