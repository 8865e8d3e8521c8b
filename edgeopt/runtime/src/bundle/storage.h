/* SPDX-FileCopyrightText: edgeopt contributors
 * SPDX-License-Identifier: Apache-2.0 */
/* Where a bundle's files lie: in a directory, or in a packed file (a zip that only stores). Files
 * are mapped, so they must not be changed while they are open; who replaces a bundle puts a new one
 * in its place by rename. */
#ifndef EO_STORAGE_H
#define EO_STORAGE_H

#include "base/failure.h"

#include <stdbool.h>

struct eo_storage {
    char *path;
    int directory; /* open as long as the storage, so that all files are of one bundle; -1: a zip */
    const unsigned char *zip; /* NULL: a directory */
    size_t zip_bytes;
    size_t entries_at; /* the central directory */
    uint32_t entry_count;
};

/* `data` is NULL before it is opened. */
struct eo_mapped {
    const void *data;
    size_t bytes;
    char *path; /* owned; NULL in a zip */
    uint64_t device, inode;
};

int eo_storage_open(const char *path, struct eo_storage *storage, struct eo_failure *failure);
void eo_storage_close(struct eo_storage *storage);

/* Maps file `name`, which is refused if it could lie outside of the bundle. */
int eo_storage_map(const struct eo_storage *storage, const char *name, struct eo_mapped *file,
                   struct eo_failure *failure);
void eo_storage_unmap(const struct eo_storage *storage, struct eo_mapped *file);

/* Whether the directory that was opened is not (or no longer) at its path. */
bool eo_storage_is_gone(const struct eo_storage *storage);

/* Fails if what `file` was mapped from is no longer at its path, for an engine that opened that. */
int eo_storage_stays(const struct eo_mapped *file, struct eo_failure *failure);

/* Whether `name` is relative, with forward slashes, without empty parts, "." and "..". */
bool eo_storage_is_inside(const char *name);

/* Lets the pages of a mapping, which the kernel keeps in its cache, leave this process until they
 * are read again. What is not whole pages stays. */
void eo_storage_forget(const void *data, size_t bytes);

#endif
