# SPDX-FileCopyrightText: edgeopt contributors
# SPDX-License-Identifier: Apache-2.0
"""C that counts allocations, and the functions that the linker has to wrap for it."""

# Every allocation of the library's own code goes through these; the engine's, which is opened with
# dlopen, do not.
WRAPPED = ("malloc", "calloc", "realloc", "posix_memalign", "strdup")
COUNTER = """
#include "edgeopt_rt.h"
#include <stdio.h>
#include <stdlib.h>
#include <string.h>

static int allocations;
void *__real_malloc(size_t n);
void *__real_calloc(size_t n, size_t m);
void *__real_realloc(void *p, size_t n);
int __real_posix_memalign(void **p, size_t a, size_t n);
char *__real_strdup(const char *s);
void *__wrap_malloc(size_t n) { allocations++; return __real_malloc(n); }
void *__wrap_calloc(size_t n, size_t m) { allocations++; return __real_calloc(n, m); }
void *__wrap_realloc(void *p, size_t n) { allocations++; return __real_realloc(p, n); }
int __wrap_posix_memalign(void **p, size_t a, size_t n)
{
    allocations++;
    return __real_posix_memalign(p, a, n);
}
char *__wrap_strdup(const char *s) { allocations++; return __real_strdup(s); }
"""
