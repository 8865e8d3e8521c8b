/* SPDX-FileCopyrightText: edgeopt contributors
 * SPDX-License-Identifier: Apache-2.0 */
/* image_main (PPM OUT MAX_WIDTH MAX_HEIGHT RESAMPLE RESIZE_HEIGHT RESIZE_WIDTH HEIGHT WIDTH KEEP)...
 * image_main bytes MAX_WIDTH MAX_HEIGHT RESAMPLE RESIZE_HEIGHT RESIZE_WIDTH HEIGHT WIDTH KEEP
 *
 * Prepares each image as DeiT does and writes float32 (3, height, width) to its OUT; or prints the
 * bytes of the scratch. What goes wrong is printed as "code where: message", exit status 1. */
#include "image/image.h"

#include <stdio.h>
#include <stdlib.h>
#include <string.h>

static uint32_t number(const char *text)
{
    return (uint32_t)strtoul(text, NULL, 10);
}

static struct eo_image_spec spec_of(char **words)
{
    struct eo_image_spec spec = {.mean = {0.485F, 0.456F, 0.406F},
                                 .std = {0.229F, 0.224F, 0.225F},
                                 .rescale_factor = 1.0 / 255};

    spec.resample = (int32_t)number(words[0]);
    spec.resize_height = number(words[1]);
    spec.resize_width = number(words[2]);
    spec.height = number(words[3]);
    spec.width = number(words[4]);
    spec.keep_shape = number(words[5]) != 0;
    return spec;
}

static int failed(const eo_failure *failure)
{
    printf("%d %s: %s\n", (int)failure->code, failure->where, failure->message);
    return 1;
}

static unsigned char *read_all(const char *path, size_t *bytes)
{
    FILE *file = fopen(path, "rb");
    unsigned char *data = NULL;
    long size;

    if (file == NULL || fseek(file, 0, SEEK_END) != 0 || (size = ftell(file)) < 0) {
        abort();
    }
    rewind(file);
    *bytes = (size_t)size;
    data = malloc(*bytes); /* to the byte, so that the sanitizer sees a step too far */
    if ((data == NULL && *bytes > 0) || fread(data, 1, *bytes, file) != *bytes) {
        abort();
    }
    fclose(file);
    return data;
}

static int prepare(char **words)
{
    size_t bytes;
    unsigned char *data = read_all(words[0], &bytes);
    struct eo_image_scratch scratch = {.max_width = number(words[2]),
                                       .max_height = number(words[3])};
    struct eo_image_spec spec = spec_of(words + 4);
    size_t count = (size_t)spec.height * spec.width * EO_IMAGE_CHANNELS;
    size_t scratch_bytes;
    eo_failure failure;
    eo_image image;
    float *pixels;
    int code = 1;

    if (eo_image_check(&spec, &failure) != EO_OK ||
        eo_image_from_ppm(data, bytes, &image, &failure) != EO_OK) {
        free(data);
        return failed(&failure);
    }
    scratch_bytes = eo_image_scratch_bytes(scratch.max_width, scratch.max_height, &spec);
    scratch.memory = malloc(scratch_bytes);
    pixels = malloc(count * sizeof *pixels);
    if (scratch_bytes == 0 || scratch.memory == NULL || pixels == NULL) {
        abort();
    }
    memset(scratch.memory, 0xa5, scratch_bytes);
    if (eo_image_prepare(&image, &spec, &scratch, 0, pixels, &failure) != EO_OK) {
        failed(&failure);
    } else {
        FILE *out = fopen(words[1], "wb");

        if (out == NULL || fwrite(pixels, sizeof *pixels, count, out) != count ||
            fclose(out) != 0) {
            abort();
        }
        code = 0;
    }
    free(pixels);
    free(scratch.memory);
    free(data);
    return code;
}

int main(int argc, char **argv)
{
    if (argc > 1 && argc % 10 == 1) {
        int code = 0;

        for (int i = 1; i < argc && code == 0; i += 10) {
            code = prepare(argv + i);
        }
        return code;
    }
    if (argc == 10) {
        struct eo_image_spec spec = spec_of(argv + 4);

        printf("%zu\n", eo_image_scratch_bytes(number(argv[2]), number(argv[3]), &spec));
        return 0;
    }
    return 2;
}
