/* SPDX-FileCopyrightText: edgeopt contributors
 * SPDX-License-Identifier: Apache-2.0 */
/* From an image of any size to a network's input. */
#ifndef EO_IMAGE_H
#define EO_IMAGE_H

#include "edgeopt_rt.h"

#include <stdbool.h>

#define EO_IMAGE_CHANNELS 3
/* Of a source image. Beyond, nothing here would overflow; it is where sizes stop to be meant. */
#define EO_IMAGE_SOURCE_MAX 65535
/* Of what a network takes; edgeopt/model/image.py has the same. */
#define EO_IMAGE_SIDE_MAX 4096

/* Pillow's numbers. */
enum eo_resample { EO_NEAREST = 0, EO_BILINEAR = 2, EO_BICUBIC = 3 };

/* The manifest's "image". The image is resized to resize_height x resize_width (which are the same,
 * and that of the shorter side, if the shape is kept), height x width are cut out of its centre, and
 * a value becomes (value * rescale_factor - mean) / std. */
struct eo_image_spec {
    uint32_t height;
    uint32_t width;
    uint32_t resize_height;
    uint32_t resize_width;
    int32_t resample; /* enum eo_resample */
    float mean[EO_IMAGE_CHANNELS];
    float std[EO_IMAGE_CHANNELS];
    double rescale_factor;
    bool keep_shape;
};

/* Memory to prepare images in, one at a time: eo_image_scratch_bytes of it, aligned as by malloc.
 * It may be used by one thread at a time, and holds nothing between two calls. */
struct eo_image_scratch {
    void *memory;
    uint32_t max_width;
    uint32_t max_height;
};

/* Returns EO_OK, or EO_EINPUT for sizes, resampling or numbers that cannot be. */
int eo_image_check(const struct eo_image_spec *spec, struct eo_failure *failure);

/* How many bytes the scratch for images of up to max_width x max_height takes; 0 for a spec that
 * eo_image_check refuses, for a side of 0 or above EO_IMAGE_SOURCE_MAX, and if the number does
 * not fit a size_t. */
size_t eo_image_scratch_bytes(uint32_t max_width, uint32_t max_height,
                              const struct eo_image_spec *spec);

/* Writes the network's input, float32 (3, height, width), or (height, width, 3) if the channels are
 * `last`, into `pixels`. The resized image is
 * Pillow 13's to the last bit, the rest transformers' PIL path. `spec` was checked. Returns EO_EINPUT
 * for an empty image and for one that is larger than the scratch. */
int eo_image_prepare(const struct eo_image *image, const struct eo_image_spec *spec,
                     const struct eo_image_scratch *scratch, int last, float *pixels,
                     struct eo_failure *failure);

#endif
