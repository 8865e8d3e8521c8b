/* SPDX-FileCopyrightText: edgeopt contributors
 * SPDX-License-Identifier: Apache-2.0 */
#include "bundle/storage.h"

#include <errno.h>
#include <fcntl.h>
#include <stdbool.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/mman.h>
#include <sys/stat.h>
#include <unistd.h>

/* Source: PKWARE APPNOTE.TXT 6.3.10, sections 4.3.7, 4.3.12 and 4.3.16. */
enum {
    LOCAL_BYTES = 30,
    ENTRY_BYTES = 46,
    END_BYTES = 22,
    COMMENT_MAX = 65535,
    NAME_MAX_BYTES = 1023,
    ENTRIES_MAX = 8192, /* EO_MANIFEST_MAX_FILES, their folders, and the manifest */
    LOCAL_MAGIC = 0x04034b50,
    ENTRY_MAGIC = 0x02014b50,
    END_MAGIC = 0x06054b50,
};

static uint32_t u16(const unsigned char *at)
{
    return (uint32_t)at[0] | (uint32_t)at[1] << 8;
}

static uint32_t u32(const unsigned char *at)
{
    return u16(at) | u16(at + 2) << 16;
}

/* Maps `name`, below the open `directory` if it is relative; `path` is its name in failures.
 * O_NONBLOCK: a FIFO has no writer to wait for. */
static int map_path(int directory, const char *name, const char *path, struct eo_mapped *file,
                    struct eo_failure *failure)
{
    static const char empty[1] = "";
    struct stat facts;
    void *data;
    int error;
    int descriptor = openat(directory, name, O_RDONLY | O_CLOEXEC | O_NONBLOCK | O_NOCTTY);

    if (descriptor < 0) {
        return eo_fail(failure, EO_EIO, path, "cannot be opened (%s)", strerror(errno));
    }
    if (fstat(descriptor, &facts) != 0 || !S_ISREG(facts.st_mode) ||
        (uint64_t)facts.st_size > SIZE_MAX / 2) {
        (void)close(descriptor);
        return eo_fail(failure, EO_EIO, path, "is no file that can be mapped");
    }
    file->bytes = (size_t)facts.st_size;
    file->device = facts.st_dev;
    file->inode = facts.st_ino;
    if (file->bytes == 0) {
        (void)close(descriptor);
        file->data = empty;
        return EO_OK;
    }
    data = mmap(NULL, file->bytes, PROT_READ, MAP_PRIVATE, descriptor, 0);
    error = errno;
    (void)close(descriptor);
    if (data == MAP_FAILED) {
        return eo_fail(failure, EO_EIO, path, "cannot be mapped (%s)", strerror(error));
    }
    file->data = data;
    return EO_OK;
}

static void unmap(const void *data, size_t bytes)
{
    void *start = NULL;

    if (bytes > 0) {
        memcpy(&start, &data, sizeof start); /* munmap takes no const */
        (void)munmap(start, bytes);
    }
}

/* Of an entry of the central directory that was checked, with its name and fields. */
static size_t entry_bytes(const unsigned char *entry)
{
    return ENTRY_BYTES + (size_t)u16(entry + 28) + u16(entry + 30) + u16(entry + 32);
}

/* Whether an entry's name, of a file or (with a slash at its end) of a directory, is one that no
 * tool unpacks to another place. */
static bool is_safe_name(const unsigned char *entry)
{
    uint32_t bytes = u16(entry + 28);
    char name[NAME_MAX_BYTES + 1];

    bytes -= bytes > 0 && entry[ENTRY_BYTES + bytes - 1] == '/';
    if (bytes == 0 || bytes > NAME_MAX_BYTES) {
        return false;
    }
    memcpy(name, entry + ENTRY_BYTES, bytes);
    name[bytes] = '\0';
    return strlen(name) == bytes && eo_storage_is_inside(name);
}

/* Checks that the entries fill the central directory, which ends at `end`, and that there is one
 * reading of them only: no name twice, none that leads out. */
static int check_entries(const struct eo_storage *storage, size_t end, struct eo_failure *failure)
{
    const unsigned char *zip = storage->zip;
    size_t at = storage->entries_at;

    for (uint32_t i = 0; i < storage->entry_count; i++) {
        const unsigned char *entry = zip + at;
        const unsigned char *other = zip + storage->entries_at;
        if (end - at < ENTRY_BYTES || u32(entry) != ENTRY_MAGIC || entry_bytes(entry) > end - at) {
            return eo_fail(failure, EO_EBUNDLE, storage->path, "is a damaged zip (entry %u)",
                           (unsigned)i);
        }
        if (!is_safe_name(entry)) {
            return eo_fail(failure, EO_EBUNDLE, storage->path,
                           "has a name that does not lie inside the bundle (entry %u)", (unsigned)i);
        }
        for (; other < entry; other += entry_bytes(other)) {
            if (u16(other + 28) == u16(entry + 28) &&
                memcmp(other + ENTRY_BYTES, entry + ENTRY_BYTES, u16(entry + 28)) == 0) {
                return eo_fail(failure, EO_EBUNDLE, storage->path,
                               "has a name twice (entry %u)", (unsigned)i);
            }
        }
        at += entry_bytes(entry);
    }
    return at == end ? EO_OK
                     : eo_fail(failure, EO_EBUNDLE, storage->path, "is a damaged zip (its end)");
}

/* Finds the end record, which only a comment may follow, and the central directory. */
static int find_entries(struct eo_storage *storage, struct eo_failure *failure)
{
    const unsigned char *zip = storage->zip;
    size_t bytes = storage->zip_bytes;
    size_t lowest = bytes > END_BYTES + COMMENT_MAX ? bytes - END_BYTES - COMMENT_MAX : 0;
    size_t at, size;

    if (bytes < END_BYTES) {
        return eo_fail(failure, EO_EBUNDLE, storage->path, "is no bundle: too short for a zip");
    }
    for (at = bytes - END_BYTES;
         u32(zip + at) != END_MAGIC || u16(zip + at + 20) != bytes - at - END_BYTES; at--) {
        if (at == lowest) {
            return eo_fail(failure, EO_EBUNDLE, storage->path,
                           "is no bundle: neither a directory nor a whole zip");
        }
    }
    size = u32(zip + at + 12);
    storage->entries_at = u32(zip + at + 16);
    storage->entry_count = u16(zip + at + 10);
    if (storage->entry_count > ENTRIES_MAX) {
        return eo_fail(failure, EO_EBUNDLE, storage->path, "has %u entries, expected up to %d",
                       (unsigned)storage->entry_count, (int)ENTRIES_MAX);
    }
    if (u16(zip + at + 4) != 0 || u16(zip + at + 8) != storage->entry_count ||
        storage->entries_at > at || size != at - storage->entries_at) {
        return eo_fail(failure, EO_EBUNDLE, storage->path, "is a damaged zip, or one of over 4 GB");
    }
    return check_entries(storage, at, failure);
}

static int open_directory(struct eo_storage *storage, struct eo_failure *failure)
{
    storage->directory = open(storage->path, O_RDONLY | O_DIRECTORY | O_CLOEXEC);
    return storage->directory >= 0 ? EO_OK
                                   : eo_fail(failure, EO_EIO, storage->path,
                                             "cannot be opened (%s)", strerror(errno));
}

int eo_storage_open(const char *path, struct eo_storage *storage, struct eo_failure *failure)
{
    struct eo_mapped file = {0};
    struct stat facts;
    int result;

    /* Without links: files are opened when first used, and a link to the bundle that is in use, as
     * the store on a board keeps, may by then point to the next one. */
    *storage = (struct eo_storage){.path = realpath(path, NULL), .directory = -1};
    if (storage->path == NULL || stat(storage->path, &facts) != 0) {
        return eo_fail(failure, errno == ENOMEM ? EO_ENOMEM : EO_EIO, path,
                       "cannot be opened (%s)", strerror(errno));
    }
    if (S_ISDIR(facts.st_mode)) {
        return open_directory(storage, failure);
    }
    result = map_path(AT_FDCWD, storage->path, storage->path, &file, failure);
    if (result != EO_OK) {
        return result;
    }
    storage->zip = file.data;
    storage->zip_bytes = file.bytes;
    return find_entries(storage, failure);
}

void eo_storage_close(struct eo_storage *storage)
{
    if (storage->zip != NULL) {
        unmap(storage->zip, storage->zip_bytes);
    }
    if (storage->directory > 0) { /* 0: never opened, or the program has closed its input */
        (void)close(storage->directory);
    }
    free(storage->path);
    *storage = (struct eo_storage){.directory = -1};
}

bool eo_storage_is_inside(const char *name)
{
    for (const char *part = name;; part++) {
        size_t bytes = strcspn(part, "/\\");
        if (bytes == 0 || (bytes == 1 && part[0] == '.') ||
            (bytes == 2 && part[0] == '.' && part[1] == '.') || part[bytes] == '\\') {
            return false;
        }
        part += bytes;
        if (*part == '\0') {
            return true;
        }
    }
}

/* Checks that the data of the entry at `entry` lies in the zip, stored as it is. */
static int take_entry(const struct eo_storage *storage, const unsigned char *entry,
                      const char *name, struct eo_mapped *file, struct eo_failure *failure)
{
    const unsigned char *zip = storage->zip;
    size_t local = u32(entry + 42);
    size_t bytes = u32(entry + 24);
    size_t data;

    if ((u16(entry + 8) & 1) != 0 || u16(entry + 10) != 0 || u32(entry + 20) != bytes) {
        return eo_fail(failure, EO_EBUNDLE, name,
                       "is compressed or encrypted; pack the bundle with: edgeopt pack");
    }
    if (local > storage->zip_bytes - LOCAL_BYTES || u32(zip + local) != LOCAL_MAGIC ||
        u16(zip + local + 26) != u16(entry + 28) ||
        u16(entry + 28) > storage->zip_bytes - LOCAL_BYTES - local ||
        memcmp(zip + local + LOCAL_BYTES, entry + ENTRY_BYTES, u16(entry + 28)) != 0) {
        return eo_fail(failure, EO_EBUNDLE, name, "does not lie where the zip says");
    }
    data = local + LOCAL_BYTES + u16(zip + local + 26) + u16(zip + local + 28);
    if (data > storage->entries_at || bytes > storage->entries_at - data) {
        return eo_fail(failure, EO_EBUNDLE, name, "lies beyond the end of the zip");
    }
    *file = (struct eo_mapped){.data = zip + data, .bytes = bytes};
    return EO_OK;
}

static int find_entry(const struct eo_storage *storage, const char *name, struct eo_mapped *file,
                      struct eo_failure *failure)
{
    size_t length = strlen(name);
    size_t at = storage->entries_at;

    for (uint32_t i = 0; i < storage->entry_count; i++) {
        const unsigned char *entry = storage->zip + at;
        if (u16(entry + 28) == length && memcmp(entry + ENTRY_BYTES, name, length) == 0) {
            return take_entry(storage, entry, name, file, failure);
        }
        at += entry_bytes(entry);
    }
    return eo_fail(failure, EO_EBUNDLE, name, "is not in %s", storage->path);
}

int eo_storage_map(const struct eo_storage *storage, const char *name, struct eo_mapped *file,
                   struct eo_failure *failure)
{
    size_t bytes = strlen(storage->path) + 1 + strlen(name) + 1;
    int result;

    if (!eo_storage_is_inside(name)) {
        return eo_fail(failure, EO_EBUNDLE, name, "does not lie inside the bundle");
    }
    if (storage->zip != NULL) {
        return find_entry(storage, name, file, failure);
    }
    *file = (struct eo_mapped){.path = malloc(bytes)};
    if (file->path == NULL || snprintf(file->path, bytes, "%s/%s", storage->path, name) < 0) {
        result = eo_fail(failure, EO_ENOMEM, name, "no memory for its path");
    } else {
        result = map_path(storage->directory, name, file->path, file, failure);
    }
    if (result != EO_OK) {
        free(file->path);
        *file = (struct eo_mapped){0};
    }
    return result;
}

void eo_storage_unmap(const struct eo_storage *storage, struct eo_mapped *file)
{
    if (file->data != NULL && storage->zip == NULL) {
        unmap(file->data, file->bytes);
    }
    free(file->path);
    *file = (struct eo_mapped){0};
}

bool eo_storage_is_gone(const struct eo_storage *storage)
{
    struct stat mine, now;

    return storage->path != NULL && storage->zip == NULL &&
           (storage->directory < 0 || fstat(storage->directory, &mine) != 0 ||
            stat(storage->path, &now) != 0 || mine.st_dev != now.st_dev ||
            mine.st_ino != now.st_ino);
}

int eo_storage_stays(const struct eo_mapped *file, struct eo_failure *failure)
{
    struct stat facts;

    if (file->path != NULL && (stat(file->path, &facts) != 0 || facts.st_dev != file->device ||
                               facts.st_ino != file->inode)) {
        return eo_fail(failure, EO_EIO, file->path,
                       "was replaced while the bundle was opened; open it again");
    }
    return EO_OK;
}

void eo_storage_forget(const void *data, size_t bytes)
{
    long page = sysconf(_SC_PAGESIZE);
    uintptr_t first, last;

    if (page <= 0) {
        return;
    }
    first = ((uintptr_t)data + (uintptr_t)page - 1) / (uintptr_t)page * (uintptr_t)page;
    last = ((uintptr_t)data + bytes) / (uintptr_t)page * (uintptr_t)page;
    if (first < last) {
        (void)madvise((void *)first, last - first, MADV_DONTNEED); /* advice only */
    }
}
