/* SPDX-FileCopyrightText: edgeopt contributors
 * SPDX-License-Identifier: Apache-2.0 */
#ifndef EO_CLASSES_H
#define EO_CLASSES_H

#include <stdint.h>

/* Each instruction is of one class; edgeopt/measure/counters.py names them in this order. */
enum eo_class {
    EO_INTEGER,      /* scalar arithmetic, and what is unknown */
    EO_BRANCH,       /* with exceptions, barriers and system registers */
    EO_LOAD,         /* into general registers; prefetches too */
    EO_STORE,
    EO_VECTOR_LOAD,  /* into floating-point and vector registers */
    EO_VECTOR_STORE,
    EO_VECTOR,       /* floating point and vectors, but for the two below */
    EO_MULTIPLY_ADD, /* multiply and accumulate, a lane into itself or a wider one */
    EO_DOT,          /* dot products and matrix products */
    EO_CLASSES
};

/* Returns the class of an A64 instruction. */
enum eo_class eo_class_of(uint32_t word);

#endif
