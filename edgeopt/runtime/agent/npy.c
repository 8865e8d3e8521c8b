#include "npy.h"

#include <errno.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>

#define HEADER_MAX 4096 /* NumPy's own header of such a tensor is 118 bytes */

/* Returns the text after `'key':` and its blanks, or NULL where the header has no such key. */
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

static int parse_dtype(const char *text, enum eo_dtype *dtype)
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

static int read_header(FILE *file, const char *path, char *header, struct eo_failure *failure)
{
    unsigned char lead[8];
    unsigned char size[4] = {0, 0, 0, 0};
    size_t bytes;

    if (fread(lead, 1, sizeof lead, file) != sizeof lead ||
        memcmp(lead, "\x93NUMPY", 6) != 0) {
        return eo_fail(failure, path, "is not a .npy file");
    }
    if (lead[6] != 1 && lead[6] != 2) {
        return eo_fail(failure, path, ".npy version %u.%u, expected 1.0 or 2.0", lead[6], lead[7]);
    }
    bytes = lead[6] == 1 ? 2 : 4;
    if (fread(size, 1, bytes, file) != bytes) {
        return eo_fail(failure, path, "is cut off in its header");
    }
    bytes = (size_t)size[0] | (size_t)size[1] << 8 | (size_t)size[2] << 16 | (size_t)size[3] << 24;
    if (bytes >= HEADER_MAX) {
        return eo_fail(failure, path, "header of %zu bytes, expected under %d", bytes, HEADER_MAX);
    }
    if (fread(header, 1, bytes, file) != bytes) {
        return eo_fail(failure, path, "is cut off in its header");
    }
    header[bytes] = '\0';
    return 0;
}

static int read_tensor(FILE *file, const char *path, struct eo_tensor *tensor,
                       struct eo_failure *failure)
{
    char header[HEADER_MAX];
    const char *order;
    size_t bytes;

    if (read_header(file, path, header, failure) != 0) {
        return -1;
    }
    if (parse_dtype(value_of(header, "'descr':"), &tensor->dtype) != 0) {
        return eo_fail(failure, path, "dtype is not little-endian float32, int32 or int64: %.80s",
                       header);
    }
    order = value_of(header, "'fortran_order':");
    if (order == NULL || strncmp(order, "False", 5) != 0) {
        return eo_fail(failure, path, "is in Fortran order, expected C order");
    }
    if (parse_shape(value_of(header, "'shape':"), tensor) != 0) {
        return eo_fail(failure, path, "shape is malformed, too large or over rank %d: %.120s",
                       EO_MAX_RANK, header);
    }
    bytes = tensor->count * eo_dtype_bytes(tensor->dtype);
    tensor->data = malloc(bytes == 0 ? 1 : bytes);
    if (tensor->data == NULL) {
        return eo_fail(failure, path, "no memory for its %zu bytes", bytes);
    }
    if (fread(tensor->data, 1, bytes, file) != bytes || fgetc(file) != EOF) {
        free(tensor->data);
        tensor->data = NULL;
        return eo_fail(failure, path, "does not hold exactly the %zu bytes that its shape needs",
                       bytes);
    }
    return 0;
}

int eo_npy_read(const char *path, struct eo_tensor *tensor, struct eo_failure *failure)
{
    FILE *file = fopen(path, "rb");
    int result;

    memset(tensor, 0, sizeof *tensor);
    if (file == NULL) {
        return eo_fail(failure, path, "cannot be opened (%s)", strerror(errno));
    }
    result = read_tensor(file, path, tensor, failure);
    if (fclose(file) != 0 && result == 0) {
        free(tensor->data);
        tensor->data = NULL;
        result = eo_fail(failure, path, "cannot be read (%s)", strerror(errno));
    }
    return result;
}
