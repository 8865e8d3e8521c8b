/* SPDX-FileCopyrightText: edgeopt contributors
 * SPDX-License-Identifier: Apache-2.0 */
/* Any bytes as a PPM, and what comes of them through the preparation. */
#include "image/image.h"

#include <stdlib.h>

int LLVMFuzzerTestOneInput(const uint8_t *data, size_t size);

int LLVMFuzzerTestOneInput(const uint8_t *data, size_t size)
{
    static const int32_t resamples[] = {EO_NEAREST, EO_BILINEAR, EO_BICUBIC};
    eo_image image;

    if (eo_image_from_ppm(data, size, &image, NULL) != EO_OK || image.width > 512 ||
        image.height > 512) {
        return 0;
    }
    for (size_t i = 0; i < 2 * sizeof resamples / sizeof resamples[0]; i++) {
        const bool keeps = i % 2 == 1;
        const struct eo_image_spec spec = {.height = 5,
                                           .width = 4,
                                           .resize_height = 7,
                                           .resize_width = keeps ? 7 : 6,
                                           .resample = resamples[i / 2],
                                           .keep_shape = keeps,
                                           .std = {1.0F, 1.0F, 1.0F},
                                           .rescale_factor = 1.0};
        struct eo_image_scratch scratch = {.max_width = image.width, .max_height = image.height};
        float pixels[EO_IMAGE_CHANNELS * 5 * 4];

        scratch.memory = malloc(eo_image_scratch_bytes(image.width, image.height, &spec));
        if (scratch.memory == NULL || eo_image_prepare(&image, &spec, &scratch, 0, pixels, NULL) != 0) {
            abort();
        }
        free(scratch.memory);
        for (size_t k = 0; k < sizeof pixels / sizeof pixels[0]; k++) {
            if (!(pixels[k] >= 0.0F && pixels[k] <= 255.0F)) {
                abort();
            }
        }
    }
    return 0;
}
