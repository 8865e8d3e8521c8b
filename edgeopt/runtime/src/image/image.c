/* SPDX-FileCopyrightText: edgeopt contributors
 * SPDX-License-Identifier: Apache-2.0 */
/* Pillow's resize (src/libImaging/Resample.c, Geometry.c: ImagingScaleAffine): two passes, along
 * the rows and along the columns, each to 8 bits by weights of 22 fractional bits. Of the rows that
 * went through the first pass only those that the second needs next are kept, in a ring, and only
 * the columns and rows that are cut out are computed. edgeopt/model/resample.py is the same on the
 * host. Pillow's notice is in THIRD_PARTY_NOTICES.txt. */
#include "image/image.h"

#include "base/failure.h"

#include <math.h>
#include <stdbool.h>
#include <string.h>

/* Pillow's coefficients are to be had to the last bit: no fused multiply-add. gcc does without
 * under -std=c11. */
#ifdef __clang__
#pragma STDC FP_CONTRACT OFF
#endif

#define PRECISION_BITS (32 - 8 - 2) /* of 32: 8 are the pixel's, 2 for what a filter overshoots */
#define HALF (1 << (PRECISION_BITS - 1))
#define LEVELS 256

/* ---- the scratch ---- */

/* One axis's weights: `taps` for each of `count` results, of which `size[i]` from source
 * `start[i]` are in use. */
struct axis {
    uint32_t count;
    uint32_t taps;
    uint32_t *start;
    uint32_t *size;
    int32_t *weights; /* (count, taps) */
};

/* How the scratch is divided up. 64-bit, so that no size overflows before it is checked. */
struct layout {
    uint64_t taps[2];   /* across, down */
    uint64_t levels;    /* float (3, 256): what each value becomes */
    uint64_t axes[2];   /* start, size, weights of each axis */
    uint64_t sums;      /* int32 (widest, 3): a row in the pass down the columns */
    uint64_t row;       /* uint8 (widest, 3): the same rounded */
    uint64_t ring;      /* uint8 (taps down, width, 3) */
    uint64_t all_bytes; /* all of them */
};

static double reach_of(int32_t resample)
{
    return resample == EO_BICUBIC ? 2.0 : 1.0;
}

static double support_of(int32_t resample, uint32_t source, uint32_t wanted)
{
    double scale = (double)source / wanted;

    return reach_of(resample) * (scale < 1.0 ? 1.0 : scale);
}

static uint64_t taps_of(int32_t resample, uint32_t source, uint32_t wanted)
{
    if (resample == EO_NEAREST) {
        return 1;
    }
    return (uint64_t)ceil(support_of(resample, source, wanted)) * 2 + 1;
}

/* Pillow 13 takes the columns first if the height shrinks by over twice as much as the width. */
static bool is_columns_first(uint32_t width, uint32_t height, const struct eo_image_spec *spec)
{
    int64_t down = (int64_t)height - spec->resize_height;

    return down > 0 && down > 2 * ((int64_t)width - spec->resize_width);
}

/* The longest row that the pass down the columns has, for any image up to these sizes: the result's
 * if it comes second, else a source row, which is then shorter than is_columns_first demands. */
static uint32_t widest_of(uint32_t width, uint32_t height, const struct eo_image_spec *spec)
{
    uint32_t down = height > spec->resize_height ? height - spec->resize_height : 0;
    uint32_t most = spec->resize_width + (down + 1) / 2;
    uint32_t source = width < most ? width : most;

    if (spec->keep_shape) {
        source = width; /* both sides shrink alike, so that most is not known */
    }
    return source > spec->width ? source : spec->width;
}

/* The spec for an image of this size, if its shape is kept: with the sides that it becomes. */
static struct eo_image_spec spec_for(uint32_t width, uint32_t height,
                                     const struct eo_image_spec *spec)
{
    struct eo_image_spec found = *spec;

    if (spec->keep_shape && width > 0 && height > 0) {
        /* Below 2^28: a side is at most 65,535, and what it becomes 4,096. */
        if (width < height) {
            found.resize_height = (uint32_t)((double)((uint64_t)spec->resize_width * height) / width);
        } else {
            found.resize_width = (uint32_t)((double)((uint64_t)spec->resize_height * width) / height);
        }
    }
    return found;
}

/* `across` and `down` are how many source pixels go into resize_width and resize_height. */
static struct layout lay_out(uint32_t across, uint32_t down, const struct eo_image_spec *spec,
                             uint32_t widest_row)
{
    uint64_t widest = widest_row;
    struct layout layout;

    layout.taps[0] = taps_of(spec->resample, across, spec->resize_width);
    layout.taps[1] = taps_of(spec->resample, down, spec->resize_height);
    layout.levels = sizeof(float) * EO_IMAGE_CHANNELS * LEVELS;
    layout.axes[0] = sizeof(uint32_t) * spec->width * (2 + layout.taps[0]);
    layout.axes[1] = sizeof(uint32_t) * spec->height * (2 + layout.taps[1]);
    layout.sums = sizeof(int32_t) * widest * EO_IMAGE_CHANNELS;
    layout.row = widest * EO_IMAGE_CHANNELS;
    layout.ring = layout.taps[1] * spec->width * EO_IMAGE_CHANNELS;
    layout.all_bytes = layout.levels + layout.axes[0] + layout.axes[1] + layout.sums + layout.row +
                       layout.ring;
    return layout;
}

/* For images of up to width x height. If the shape is kept, the longer side is rounded down and so
 * shrinks a little more than the shorter one: as if that became one pixel less, or half of one. */
static struct layout lay_out_most(uint32_t width, uint32_t height,
                                  const struct eo_image_spec *spec)
{
    uint32_t shorter = width < height ? width : height;
    uint32_t side = spec->resize_height;
    struct eo_image_spec least = *spec;

    if (!spec->keep_shape) {
        return lay_out(width, height, spec, widest_of(width, height, spec));
    }
    least.resize_height = least.resize_width = side > 1 ? side - 1 : 1;
    shorter = side > 1 ? shorter : 2 * shorter;
    return lay_out(shorter, shorter, &least, widest_of(width, height, spec));
}

static bool is_side(uint32_t side, uint32_t most)
{
    return side > 0 && side <= most;
}

int eo_image_check(const struct eo_image_spec *spec, struct eo_failure *failure)
{
    const char *where = "image";

    if (!is_side(spec->resize_height, EO_IMAGE_SIDE_MAX) ||
        !is_side(spec->resize_width, EO_IMAGE_SIDE_MAX)) {
        return eo_fail(failure, EO_EINPUT, where,
                       "resizing to %u x %u (height x width), expected 1 to %d each",
                       spec->resize_height, spec->resize_width, EO_IMAGE_SIDE_MAX);
    }
    if (!is_side(spec->height, spec->resize_height) || !is_side(spec->width, spec->resize_width)) {
        return eo_fail(failure, EO_EINPUT, where,
                       "%u x %u (height x width) cannot be cut out of %u x %u", spec->height,
                       spec->width, spec->resize_height, spec->resize_width);
    }
    if (spec->keep_shape && spec->resize_height != spec->resize_width) {
        return eo_fail(failure, EO_EINPUT, where,
                       "resizing to %u x %u, expected one side if the shape is kept",
                       spec->resize_height, spec->resize_width);
    }
    if (spec->resample != EO_NEAREST && spec->resample != EO_BILINEAR &&
        spec->resample != EO_BICUBIC) {
        return eo_fail(failure, EO_EINPUT, where,
                       "resampling %d, expected 0 (nearest), 2 (bilinear) or 3 (bicubic)",
                       (int)spec->resample);
    }
    for (int c = 0; c < EO_IMAGE_CHANNELS; c++) {
        if (!isfinite(spec->mean[c]) || !isfinite(spec->std[c]) || !(spec->std[c] > 0.0F)) {
            return eo_fail(failure, EO_EINPUT, where,
                           "mean %g and std %g of channel %d, expected numbers, std above 0",
                           (double)spec->mean[c], (double)spec->std[c], c);
        }
    }
    if (!isfinite(spec->rescale_factor) || fabs(spec->rescale_factor) > 1e30) {
        return eo_fail(failure, EO_EINPUT, where, "rescale factor %g, expected a number",
                       spec->rescale_factor);
    }
    return EO_OK;
}

size_t eo_image_scratch_bytes(uint32_t max_width, uint32_t max_height,
                              const struct eo_image_spec *spec)
{
    uint64_t bytes;

    if (eo_image_check(spec, NULL) != EO_OK || !is_side(max_width, EO_IMAGE_SOURCE_MAX) ||
        !is_side(max_height, EO_IMAGE_SOURCE_MAX)) {
        return 0;
    }
    bytes = lay_out_most(max_width, max_height, spec).all_bytes;
    return bytes > SIZE_MAX ? 0 : (size_t)bytes;
}

/* ---- weights ---- */

static double weigh(int32_t resample, double x)
{
    const double a = -0.5;

    x = fabs(x);
    if (resample == EO_BILINEAR) {
        return x < 1.0 ? 1.0 - x : 0.0;
    }
    if (x < 1.0) {
        return ((a + 2.0) * x - (a + 3.0)) * x * x + 1;
    }
    return x < 2.0 ? (((x - 5) * x + 8) * x - 4) * a : 0.0;
}

static int32_t to_fixed(double weight)
{
    double fixed = weight * (1 << PRECISION_BITS);

    return (int32_t)(weight < 0 ? fixed - 0.5 : fixed + 0.5);
}

/* Fills in results `first` and on of an axis of `wanted` results from `source` pixels. */
static void fill_filter(struct axis *axis, int32_t resample, uint32_t source, uint32_t wanted,
                        uint32_t first)
{
    double scale = (double)source / wanted;
    double support = support_of(resample, source, wanted);
    double shrink = 1.0 / (scale < 1.0 ? 1.0 : scale);

    for (uint32_t i = 0; i < axis->count; i++) {
        int32_t *weights = axis->weights + (size_t)i * axis->taps;
        double center = (first + i + 0.5) * scale;
        double low = center - support + 0.5;
        double high = center + support + 0.5;
        double total = 0.0;
        uint32_t start = low < 0.0 ? 0 : (uint32_t)low;
        uint32_t end = high > source ? source : (uint32_t)high;

        axis->start[i] = start;
        axis->size[i] = end - start;
        for (uint32_t k = 0; k < end - start; k++) {
            total += weigh(resample, (k + start - center + 0.5) * shrink);
        }
        for (uint32_t k = 0; k < end - start; k++) {
            double weight = weigh(resample, (k + start - center + 0.5) * shrink);

            weights[k] = to_fixed(total != 0.0 ? weight / total : weight);
        }
    }
}

/* The same for the nearest pixel. Positions are added up, not multiplied: their rounding differs,
 * and Pillow's is wanted. */
static void fill_nearest(struct axis *axis, uint32_t source, uint32_t wanted, uint32_t first)
{
    double scale = (double)source / wanted;
    double at = scale * 0.5;

    for (uint32_t i = 0; i < first + axis->count; i++) {
        if (i >= first) {
            uint32_t start = (uint32_t)at;

            axis->start[i - first] = start < source ? start : source - 1;
            axis->size[i - first] = 1;
            axis->weights[i - first] = 1 << PRECISION_BITS; /* the pixel itself */
        }
        at += scale;
    }
}

/* Puts an axis of `count` results, cut out of the middle of `wanted`, at `memory`. */
static void fill_axis(struct axis *axis, void *memory, uint64_t taps, int32_t resample,
                      uint32_t source, uint32_t wanted, uint32_t count)
{
    uint32_t first = (wanted - count) / 2;

    axis->count = count;
    axis->taps = (uint32_t)taps;
    axis->start = memory;
    axis->size = axis->start + count;
    axis->weights = (int32_t *)(axis->size + count);
    if (resample == EO_NEAREST) {
        fill_nearest(axis, source, wanted, first);
    } else {
        fill_filter(axis, resample, source, wanted, first);
    }
}

/* ---- pixels ---- */

/* The weights sum to 1, and their magnitudes to 1.27 at most in a cubic filter (tried for all sizes
 * to 79 x 119 and the extremes), so that a sum stays between -0.2 and 1.3 * 2^30. */
static uint8_t to_pixel(int32_t sum)
{
    int32_t value = sum < 0 ? 0 : sum >> PRECISION_BITS;

    return (uint8_t)(value > 255 ? 255 : value);
}

static void resize_row(const uint8_t *row, const struct axis *across, uint8_t *out)
{
    for (uint32_t x = 0; x < across->count; x++) {
        const int32_t *weights = across->weights + (size_t)x * across->taps;
        const uint8_t *from = row + (size_t)across->start[x] * EO_IMAGE_CHANNELS;
        int32_t red = HALF;
        int32_t green = HALF;
        int32_t blue = HALF;

        for (uint32_t k = 0; k < across->size[x]; k++, from += EO_IMAGE_CHANNELS) {
            red += from[0] * weights[k];
            green += from[1] * weights[k];
            blue += from[2] * weights[k];
        }
        *out++ = to_pixel(red);
        *out++ = to_pixel(green);
        *out++ = to_pixel(blue);
    }
}

/* Rows of `bytes` values each; row k lies at (k % wrap) * bytes of `rows`. */
struct rows {
    const uint8_t *rows;
    size_t bytes;
    uint32_t wrap;
};

/* Result `y` of the pass down the columns. */
static void resize_columns(const struct rows *rows, const struct axis *down, uint32_t y,
                           int32_t *sums, uint8_t *out)
{
    const int32_t *weights = down->weights + (size_t)y * down->taps;

    for (size_t i = 0; i < rows->bytes; i++) {
        sums[i] = HALF;
    }
    for (uint32_t k = 0; k < down->size[y]; k++) {
        const uint8_t *row = rows->rows + (down->start[y] + k) % rows->wrap * rows->bytes;

        for (size_t i = 0; i < rows->bytes; i++) {
            sums[i] += row[i] * weights[k];
        }
    }
    for (size_t i = 0; i < rows->bytes; i++) {
        out[i] = to_pixel(sums[i]);
    }
}

/* What each of the 256 values becomes, rounded where transformers rounds. */
static void fill_levels(const struct eo_image_spec *spec, float *levels)
{
    for (uint32_t c = 0; c < EO_IMAGE_CHANNELS; c++) {
        for (uint32_t value = 0; value < LEVELS; value++) {
            float scaled = (float)(value * spec->rescale_factor);

            levels[c * LEVELS + value] = (scaled - spec->mean[c]) / spec->std[c];
        }
    }
}

int eo_image_prepare(const struct eo_image *image, const struct eo_image_spec *spec,
                     const struct eo_image_scratch *scratch, int last, float *pixels,
                     struct eo_failure *failure)
{
    const struct eo_image_spec own = spec_for(image->width, image->height, spec);
    const size_t source_bytes = (size_t)image->width * EO_IMAGE_CHANNELS;
    const size_t row_bytes = (size_t)spec->width * EO_IMAGE_CHANNELS;
    const size_t plane = last ? 1 : (size_t)spec->width * spec->height;
    const size_t step = last ? EO_IMAGE_CHANNELS : 1;
    const bool columns_first = is_columns_first(image->width, image->height, &own);
    struct layout layout;
    struct axis across;
    struct axis down;
    struct rows rows;
    unsigned char *memory = scratch->memory;
    float *levels = scratch->memory;
    int32_t *sums;
    uint8_t *row;
    uint8_t *ring;
    uint32_t next = 0; /* the first source row that did not go into the ring yet */

    if (image->rgb == NULL || image->width == 0 || image->height == 0) {
        return eo_fail(failure, EO_EINPUT, "image", "is empty: %u x %u pixels", image->width,
                       image->height);
    }
    if (image->width > scratch->max_width || image->height > scratch->max_height) {
        return eo_fail(failure, EO_EINPUT, "image",
                       "is %u x %u pixels (width x height), at most %u x %u were made room for",
                       image->width, image->height, scratch->max_width, scratch->max_height);
    }
    layout = lay_out(image->width, image->height, &own,
                     widest_of(image->width, image->height, spec));
    fill_levels(spec, levels);
    memory += layout.levels;
    fill_axis(&across, memory, layout.taps[0], spec->resample, image->width, own.resize_width,
              spec->width);
    memory += layout.axes[0];
    fill_axis(&down, memory, layout.taps[1], spec->resample, image->height, own.resize_height,
              spec->height);
    memory += layout.axes[1];
    sums = (int32_t *)memory;
    row = memory + layout.sums;
    ring = row + layout.row;
    rows = columns_first
               ? (struct rows){.rows = image->rgb, .bytes = source_bytes, .wrap = image->height}
               : (struct rows){.rows = ring, .bytes = row_bytes, .wrap = down.taps};
    for (uint32_t y = 0; y < spec->height; y++) {
        const uint8_t *result = row;

        if (!columns_first) {
            uint32_t end = down.start[y] + down.size[y];

            for (next = next < down.start[y] ? down.start[y] : next; next < end; next++) {
                resize_row(image->rgb + next * source_bytes, &across,
                           ring + next % rows.wrap * row_bytes);
            }
        }
        resize_columns(&rows, &down, y, sums, row);
        if (columns_first) {
            resize_row(row, &across, ring);
            result = ring;
        }
        for (uint32_t x = 0; x < spec->width; x++, pixels += step, result += EO_IMAGE_CHANNELS) {
            for (uint32_t c = 0; c < EO_IMAGE_CHANNELS; c++) {
                pixels[c * plane] = levels[c * LEVELS + result[c]];
            }
        }
    }
    return EO_OK;
}

/* ---- PPM ---- */

struct reader {
    const uint8_t *at;
    const uint8_t *end;
};

static bool is_space(uint8_t c)
{
    return c == ' ' || (c >= '\t' && c <= '\r');
}

/* Skips white space and comments; tells whether there was any. */
static bool skip_space(struct reader *reader)
{
    const uint8_t *start = reader->at;

    while (reader->at < reader->end && (is_space(*reader->at) || *reader->at == '#')) {
        if (*reader->at == '#') {
            const uint8_t *line = memchr(reader->at, '\n', (size_t)(reader->end - reader->at));

            reader->at = line == NULL ? reader->end : line;
        } else {
            reader->at++;
        }
    }
    return reader->at > start;
}

static int read_number(struct reader *reader, const char *name, uint32_t *number,
                       struct eo_failure *failure)
{
    const uint8_t *start;

    *number = 0;
    if (!skip_space(reader)) {
        return eo_fail(failure, EO_EINPUT, "image",
                       "PPM header: expected white space before the %s", name);
    }
    start = reader->at;
    while (reader->at < reader->end && *reader->at >= '0' && *reader->at <= '9') {
        if (reader->at - start == 9) { /* so that it stays below 2^32 */
            return eo_fail(failure, EO_EINPUT, "image", "PPM header: the %s has over 9 digits",
                           name);
        }
        *number = *number * 10 + (uint32_t)(*reader->at++ - '0');
    }
    if (reader->at == start) {
        return eo_fail(failure, EO_EINPUT, "image", "PPM header: has no %s", name);
    }
    return EO_OK;
}

int eo_image_from_ppm(const void *data, size_t bytes, eo_image *image, eo_failure *failure)
{
    struct reader reader;
    uint32_t width = 0;
    uint32_t height = 0;
    uint32_t maximum = 0;
    uint64_t needed;

    if (bytes < 2 || memcmp(data, "P6", 2) != 0) {
        return eo_fail(failure, EO_EINPUT, "image", "is not a binary PPM: it does not begin with P6");
    }
    reader.at = (const uint8_t *)data + 2;
    reader.end = (const uint8_t *)data + bytes;
    if (read_number(&reader, "width", &width, failure) != EO_OK ||
        read_number(&reader, "height", &height, failure) != EO_OK ||
        read_number(&reader, "maximum", &maximum, failure) != EO_OK) {
        return EO_EINPUT;
    }
    if (maximum != 255) {
        return eo_fail(failure, EO_EINPUT, "image",
                       "PPM header: the maximum is %u, expected 255 (8 bits a channel)", maximum);
    }
    if (width == 0 || height == 0) {
        return eo_fail(failure, EO_EINPUT, "image", "is empty: %u x %u pixels", width, height);
    }
    if (reader.at == reader.end || !is_space(*reader.at)) {
        return eo_fail(failure, EO_EINPUT, "image",
                       "PPM header: expected one white space after the maximum");
    }
    reader.at++;
    needed = (uint64_t)width * height * EO_IMAGE_CHANNELS; /* below 3 * 10^18 */
    if ((uint64_t)(reader.end - reader.at) < needed) {
        return eo_fail(failure, EO_EINPUT, "image",
                       "is cut short: %u x %u pixels take %llu bytes, found %llu", width, height,
                       (unsigned long long)needed, (unsigned long long)(reader.end - reader.at));
    }
    image->width = width;
    image->height = height;
    image->rgb = reader.at;
    return EO_OK;
}
