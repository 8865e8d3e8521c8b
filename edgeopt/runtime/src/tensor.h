/* A dense row-major tensor in host byte order. */
#ifndef EO_TENSOR_H
#define EO_TENSOR_H

#include <stddef.h>
#include <stdint.h>

#define EO_MAX_RANK 8

enum eo_dtype { EO_FLOAT32 = 1, EO_INT32 = 2, EO_INT64 = 3 };

struct eo_tensor {
    enum eo_dtype dtype;
    uint32_t rank;
    int64_t dims[EO_MAX_RANK];
    size_t count; /* product of dims */
    void *data;   /* count elements; who owns it is said where the tensor stands */
};

size_t eo_dtype_bytes(enum eo_dtype dtype);
const char *eo_dtype_name(enum eo_dtype dtype);

/* Writes "(1, 128)" into `text`, cut where too long. */
void eo_shape_text(const struct eo_tensor *tensor, char *text, size_t size);

#endif
