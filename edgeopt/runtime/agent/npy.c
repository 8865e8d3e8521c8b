/* SPDX-FileCopyrightText: edgeopt contributors
 * SPDX-License-Identifier: Apache-2.0 */
#include "npy.h"

#include <stdlib.h>
#include <string.h>

#define HEADER_MAX 4096 /* NumPy's own header of such a tensor is 118 bytes */

/* Returns the text after `'key':` and its blanks, or NULL if the header has no such key. */
static const char *value_of(const char *header, const char *key)
{
    const char *at = strstr(header, key);

    if (at == NULL) {
        return NULL;
    }
    at += strlen(key);
    while (*at == ' ') {
        at++;
    }
    return at;
}

static int parse_dtype(const char *text, int32_t *dtype)
{
    if (text == NULL) {
        return -1;
    }
    if (strncmp(text, "'<f4'", 5) == 0) {
        *dtype = EO_FLOAT32;
    } else if (strncmp(text, "'<i4'", 5) == 0) {
        *dtype = EO_INT32;
    } else if (strncmp(text, "'<i8'", 5) == 0) {
        *dtype = EO_INT64;
    } else {
        return -1;
    }
    return 0;
}

/* Parses "(1, 128)" and fills rank, dims and count; the byte size stays under EO_NPY_MAX_BYTES. */
static int parse_shape(const char *text, struct eo_tensor *tensor)
{
    uint64_t limit = EO_NPY_MAX_BYTES / eo_dtype_bytes(tensor->dtype);
    uint64_t count = 1;

    tensor->rank = 0;
    if (text == NULL || *text++ != '(') {
        return -1;
    }
    for (;;) {
        uint64_t dim = 0;

        while (*text == ' ' || *text == ',') {
            text++;
        }
        if (*text == ')') {
            break;
        }
        if (*text < '0' || *text > '9' || tensor->rank == EO_MAX_RANK) {
            return -1;
        }
        for (; *text >= '0' && *text <= '9'; text++) {
            dim = dim * 10 + (uint64_t)(*text - '0');
            if (dim > limit) {
                return -1;
            }
        }
        if (dim != 0 && count > limit / dim) {
            return -1;
        }
        count *= dim;
        tensor->dims[tensor->rank++] = (int64_t)dim;
    }
    tensor->count = (size_t)count;
    return 0;
}

/* Copies the header into `header` and returns where the data begins, 0 if it is none. */
static size_t read_header(const unsigned char *file, size_t bytes, const char *where, char *header,
                          struct eo_failure *failure)
{
    size_t begin, size;

    if (bytes < 12 || memcmp(file, "\x93NUMPY", 6) != 0) {
        eo_fail(failure, EO_EBUNDLE, where, "is not a .npy file");
        return 0;
    }
    if (file[6] != 1 && file[6] != 2) {
        eo_fail(failure, EO_EBUNDLE, where, ".npy version %u.%u, expected 1.0 or 2.0", file[6],
                file[7]);
        return 0;
    }
    begin = file[6] == 1 ? 10 : 12;
    size = (size_t)file[8] | (size_t)file[9] << 8;
    if (file[6] == 2) {
        size |= (size_t)file[10] << 16 | (size_t)file[11] << 24;
    }
    if (size >= HEADER_MAX || size > bytes - begin) {
        eo_fail(failure, EO_EBUNDLE, where, "header of %zu bytes is too long, or cut off", size);
        return 0;
    }
    memcpy(header, file + begin, size);
    header[size] = '\0';
    return begin + size;
}

int eo_npy_read(const void *file, size_t bytes, const char *where, struct eo_tensor *tensor,
                struct eo_failure *failure)
{
    char header[HEADER_MAX];
    const char *order;
    size_t begin, size;

    memset(tensor, 0, sizeof *tensor);
    begin = read_header(file, bytes, where, header, failure);
    if (begin == 0) {
        return EO_EBUNDLE;
    }
    if (parse_dtype(value_of(header, "'descr':"), &tensor->dtype) != 0) {
        return eo_fail(failure, EO_EBUNDLE, where,
                       "dtype is not little-endian float32, int32 or int64: %.80s", header);
    }
    order = value_of(header, "'fortran_order':");
    if (order == NULL || strncmp(order, "False", 5) != 0) {
        return eo_fail(failure, EO_EBUNDLE, where, "is in Fortran order, expected C order");
    }
    if (parse_shape(value_of(header, "'shape':"), tensor) != 0) {
        return eo_fail(failure, EO_EBUNDLE, where,
                       "shape is malformed, too large or over rank %d: %.120s", EO_MAX_RANK,
                       header);
    }
    size = (size_t)tensor->count * eo_dtype_bytes(tensor->dtype);
    if (size != bytes - begin) {
        return eo_fail(failure, EO_EBUNDLE, where,
                       "does not hold exactly the %zu bytes that its shape needs", size);
    }
    tensor->data = malloc(size == 0 ? 1 : size);
    if (tensor->data == NULL) {
        return eo_fail(failure, EO_ENOMEM, where, "no memory for its %zu bytes", size);
    }
    memcpy(tensor->data, (const unsigned char *)file + begin, size);
    return EO_OK;
}
