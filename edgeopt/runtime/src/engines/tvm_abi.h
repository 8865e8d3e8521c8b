/* SPDX-FileCopyrightText: edgeopt contributors
 * SPDX-License-Identifier: Apache-2.0 */
/* The part of TVM FFI's C interface that the engine uses, declared here because its headers are not
 * shipped. Source: tvm/ffi/c_api.h of apache-tvm-ffi 0.1.13 and dlpack.h 1.x, whose layouts are
 * promised to stay within a major version. Their notices are in THIRD_PARTY_NOTICES.txt. */
#ifndef EO_TVM_ABI_H
#define EO_TVM_ABI_H

#include <stddef.h>
#include <stdint.h>

enum { TVM_NONE = 0, TVM_INT = 1, TVM_BOOL = 2, TVM_RAW_STR = 8, TVM_TENSOR = 70, TVM_ARRAY = 71 };
enum { DL_CPU = 1, DL_INT = 0, DL_FLOAT = 2 };

struct tvm_object { /* the header of every object; its own part follows */
    uint64_t references;
    int32_t type_index;
    uint32_t padding;
    void (*deleter)(void *self, int flags);
};

struct tvm_any {
    int32_t type_index;
    uint32_t padding;
    union {
        int64_t integer;
        double real;
        const char *text;
        struct tvm_object *object;
    } value;
};

struct tvm_bytes {
    const char *data;
    size_t size;
};

struct tvm_error { /* after the header of an error */
    struct tvm_bytes kind;
    struct tvm_bytes message;
};

struct tvm_version {
    uint32_t major, minor, patch;
};

struct dl_tensor { /* also after the header of a tensor */
    void *data;
    int32_t device_type, device_id;
    int32_t rank;
    uint8_t code, bits;
    uint16_t lanes;
    int64_t *shape;
    int64_t *strides;
    uint64_t byte_offset;
};

struct dl_managed_tensor {
    struct dl_tensor tensor;
    void *context;
    void (*deleter)(struct dl_managed_tensor *self);
};

struct tvm_ffi {
    void (*get_version)(struct tvm_version *version);
    int (*get_global)(const struct tvm_bytes *name, struct tvm_object **function);
    int (*call)(struct tvm_object *function, struct tvm_any *arguments, int32_t count,
                struct tvm_any *result);
    int (*create)(void *self,
                  int (*call)(void *self, const struct tvm_any *arguments, int32_t count,
                              struct tvm_any *result),
                  void (*deleter)(void *self), struct tvm_object **function);
    int (*release)(struct tvm_object *object);
    void (*take_error)(struct tvm_object **error);
    int (*from_dlpack)(struct dl_managed_tensor *from, int32_t alignment, int32_t contiguous,
                       struct tvm_object **tensor);
};

_Static_assert(sizeof(struct tvm_object) == 24, "TVMFFIObject");
_Static_assert(sizeof(struct tvm_any) == 16, "TVMFFIAny");
_Static_assert(sizeof(void *) != 8 || sizeof(struct dl_tensor) == 48, "DLTensor");

#endif
