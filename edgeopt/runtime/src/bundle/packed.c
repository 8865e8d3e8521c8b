/* SPDX-FileCopyrightText: edgeopt contributors
 * SPDX-License-Identifier: Apache-2.0 */
#include "bundle/packed.h"

#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/syscall.h>
#include <unistd.h>

/* glibc has memfd_create from 2.27 on, and the kernel from 3.17 on. */
static int memory_file(void)
{
#ifdef SYS_memfd_create
    const unsigned int close_on_exec = 1; /* MFD_CLOEXEC */

    return (int)syscall(SYS_memfd_create, "edgeopt packed weights", close_on_exec);
#else
    return -1;
#endif
}

/* An engine opens it by a name, so that /proc has to be there. */
static enum eo_packed_role begin(struct eo_packed *packed, const char *library,
                                 char path[EO_PACKED_PATH_BYTES])
{
    int file = memory_file();

    if (file < 0) {
        return EO_PACKED_NONE;
    }
    (void)snprintf(path, EO_PACKED_PATH_BYTES, "/proc/self/fd/%d", file);
    packed->library = strdup(library);
    if (packed->library == NULL || access(path, R_OK | W_OK) != 0) {
        free(packed->library);
        packed->library = NULL;
        (void)close(file);
        return EO_PACKED_NONE;
    }
    packed->file = file;
    packed->users = 1;
    return EO_PACKED_FIRST;
}

enum eo_packed_role eo_packed_take(struct eo_bundle *bundle, uint32_t index, const char *library,
                                   char path[EO_PACKED_PATH_BYTES])
{
    struct eo_packed *packed = &bundle->packed[index];
    enum eo_packed_role role = EO_PACKED_NONE;

    (void)pthread_mutex_lock(&bundle->lock); /* fails for a broken mutex only */
    if (packed->users == 0) {
        role = begin(packed, library, path);
    } else if (packed->is_written && strcmp(packed->library, library) == 0) {
        (void)snprintf(path, EO_PACKED_PATH_BYTES, "/proc/self/fd/%d", packed->file);
        packed->users++;
        role = EO_PACKED_NEXT;
    }
    (void)pthread_mutex_unlock(&bundle->lock);
    return role;
}

void eo_packed_written(struct eo_bundle *bundle, uint32_t index)
{
    (void)pthread_mutex_lock(&bundle->lock);
    bundle->packed[index].is_written = true;
    (void)pthread_mutex_unlock(&bundle->lock);
}

void eo_packed_give(struct eo_bundle *bundle, uint32_t index, enum eo_packed_role role)
{
    struct eo_packed *packed = &bundle->packed[index];

    if (role == EO_PACKED_NONE) {
        return;
    }
    (void)pthread_mutex_lock(&bundle->lock);
    if (--packed->users == 0) {
        (void)close(packed->file);
        free(packed->library);
        *packed = (struct eo_packed){0};
    }
    (void)pthread_mutex_unlock(&bundle->lock);
}
