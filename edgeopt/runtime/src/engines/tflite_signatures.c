/* SPDX-FileCopyrightText: edgeopt contributors
 * SPDX-License-Identifier: Apache-2.0 */
#include "engines/tflite_signatures.h"

#include "base/failure.h"

#include <math.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>

enum { MAX_SIGNATURES = 256, SHAPES_SIZE = 512 };

int eo_tflite_set_form(struct tflite_form *form, const char *file, struct eo_failure *failure)
{
    if (form->type.layout.rank > 0 && form->type.layout.dims[0] < 0) {
        form->type.layout.dims[0] = 1;
    }
    form->is_quantised = form->type.element == LITERT_UINT8 || form->type.element == LITERT_INT8;
    if (form->is_quantised && form->scale == 0) {
        form->scale = 1;
    }
    if (form->is_quantised && (!isfinite(form->scale) || form->scale < 0 ||
                               form->zero_point < INT8_MIN || form->zero_point > UINT8_MAX)) {
        return eo_fail(failure, EO_EENGINE, file,
                       "%s has the scale %g and the zero point %d, of no number in 8 bits",
                       form->name, (double)form->scale, (int)form->zero_point);
    }
    switch (form->type.element) {
    case LITERT_UINT8:
    case LITERT_INT8:
    case LITERT_FLOAT32:
        form->dtype = EO_FLOAT32;
        return 0;
    case LITERT_INT32:
        form->dtype = EO_INT32;
        return 0;
    case LITERT_INT64:
        form->dtype = EO_INT64;
        return 0;
    default:
        return eo_fail(failure, EO_EENGINE, file,
                       "%s has element type %d, expected float32 (1), int32 (2), uint8 (3), "
                       "int64 (4) or int8 (9)",
                       form->name, (int)form->type.element);
    }
}

void eo_tflite_quantise(const struct tflite_form *form, const float *values, size_t count,
                        void *stored)
{
    const int is_signed = form->type.element == LITERT_INT8;
    const float low = is_signed ? -128 : 0, high = is_signed ? 127 : 255;

    for (size_t i = 0; i < count; i++) {
        float number = roundf(values[i] / form->scale) + (float)form->zero_point;

        number = number > low ? number : low; /* what is no number becomes the least one */
        number = number < high ? number : high;
        if (is_signed) {
            ((int8_t *)stored)[i] = (int8_t)number;
        } else {
            ((uint8_t *)stored)[i] = (uint8_t)number;
        }
    }
}

void eo_tflite_dequantise(const struct tflite_form *form, const void *stored, size_t count,
                          float *values)
{
    for (size_t i = 0; i < count; i++) {
        int32_t number = form->type.element == LITERT_INT8 ? ((const int8_t *)stored)[i]
                                                           : ((const uint8_t *)stored)[i];

        values[i] = (float)(number - form->zero_point) * form->scale;
    }
}

int eo_tflite_add_signatures(struct tflite_model *model, size_t count, const char *file,
                             struct eo_failure *failure)
{
    if (count == 0 || count > MAX_SIGNATURES) {
        return eo_fail(failure, EO_EENGINE, file, "%zu signatures, expected 1 to %d", count,
                       MAX_SIGNATURES);
    }
    model->signatures = calloc(count, sizeof *model->signatures);
    if (model->signatures == NULL) {
        return eo_fail(failure, EO_ENOMEM, file, "no memory for %zu signatures", count);
    }
    model->signature_count = (uint32_t)count;
    return 0;
}

int eo_tflite_set_counts(struct tflite_signature *signature, size_t inputs, size_t outputs,
                         const char *file, struct eo_failure *failure)
{
    if (inputs > EO_MAX_TENSORS || outputs > EO_MAX_TENSORS) {
        return eo_fail(failure, EO_EENGINE, file,
                       "%zu inputs and %zu outputs, expected up to %d of each", inputs, outputs,
                       EO_MAX_TENSORS);
    }
    signature->input_count = (uint32_t)inputs;
    signature->output_count = (uint32_t)outputs;
    return 0;
}

static int fits(const struct tflite_form *form, const struct tflite_form *first,
                const struct eo_tensor *tensor)
{
    if (strcmp(form->name, first->name) != 0 || form->dtype != tensor->dtype ||
        form->type.layout.rank != tensor->rank) {
        return 0;
    }
    for (uint32_t i = 0; i < tensor->rank; i++) {
        if (form->type.layout.dims[i] != tensor->dims[i]) {
            return 0;
        }
    }
    return 1;
}

static void form_text(const struct tflite_form *form, char *text, size_t size)
{
    struct eo_tensor shape = {.rank = form->type.layout.rank};

    for (uint32_t i = 0; i < shape.rank; i++) {
        shape.dims[i] = form->type.layout.dims[i];
    }
    eo_shape_text(&shape, text, size);
}

/* Says which shapes of the first input there are. */
static int no_signature(const struct tflite_model *model, const struct eo_tensor *inputs,
                        struct eo_failure *failure)
{
    char asked[128], shape[128], shapes[SHAPES_SIZE] = "";
    size_t used = 0;

    if (model->signatures[0].input_count == 0) {
        return eo_fail(failure, EO_EENGINE, "bind", "the artifact's signatures have no inputs");
    }
    eo_shape_text(&inputs[0], asked, sizeof asked);
    for (uint32_t i = 0; i < model->signature_count; i++) {
        int wrote;
        form_text(&model->signatures[i].inputs[0], shape, sizeof shape);
        wrote = snprintf(shapes + used, sizeof shapes - used, "%s%s", i == 0 ? "" : ", ", shape);
        if (wrote < 0 || (size_t)wrote >= sizeof shapes - used) {
            break;
        }
        used += (size_t)wrote;
    }
    return eo_fail(failure, EO_EENGINE, model->signatures[0].inputs[0].name,
                   "the artifact has no signature for %s, expected one of %s", asked, shapes);
}

static int choose_by_inputs(const struct tflite_model *model, const struct eo_tensor *inputs,
                            uint32_t *chosen, struct eo_failure *failure)
{
    const struct tflite_signature *first = &model->signatures[0];

    for (uint32_t i = 0; i < model->signature_count; i++) {
        const struct tflite_signature *signature = &model->signatures[i];
        uint32_t fitting = 0;
        if (signature->input_count != first->input_count ||
            signature->output_count != first->output_count) {
            continue;
        }
        while (fitting < first->input_count &&
               fits(&signature->inputs[fitting], &first->inputs[fitting], &inputs[fitting])) {
            fitting++;
        }
        if (fitting == first->input_count) {
            *chosen = i;
            return 0;
        }
    }
    return no_signature(model, inputs, failure);
}

int eo_tflite_choose(const struct tflite_model *model, const struct eo_tensor *inputs,
                     const struct eo_tensor *outputs, uint32_t *chosen, struct eo_failure *failure)
{
    const struct tflite_signature *signature;

    if (choose_by_inputs(model, inputs, chosen, failure) != 0) {
        return -1;
    }
    signature = &model->signatures[*chosen];
    for (uint32_t i = 0; i < signature->output_count; i++) {
        if (!fits(&signature->outputs[i], &model->signatures[0].outputs[i], &outputs[i])) {
            char found[128], asked[128];
            form_text(&signature->outputs[i], found, sizeof found);
            eo_shape_text(&outputs[i], asked, sizeof asked);
            return eo_fail(failure, EO_EENGINE, signature->outputs[i].name,
                           "is %s %s in the artifact, expected %s %s",
                           eo_dtype_name(signature->outputs[i].dtype), found,
                           eo_dtype_name(outputs[i].dtype), asked);
        }
    }
    return 0;
}
