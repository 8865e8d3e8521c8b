#include "storage.h"

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

static int map_path(const char *path, struct eo_mapped *file, struct eo_failure *failure)
{
    static const char empty[1] = "";
    struct stat facts;
    void *data;
    int error;
    int descriptor = open(path, O_RDONLY | O_CLOEXEC);

    if (descriptor < 0) {
        return eo_fail(failure, EO_EIO, path, "cannot be opened (%s)", strerror(errno));
    }
    if (fstat(descriptor, &facts) != 0 || !S_ISREG(facts.st_mode) ||
        (uint64_t)facts.st_size > SIZE_MAX / 2) {
        (void)close(descriptor);
        return eo_fail(failure, EO_EIO, path, "is no file that can be mapped");
    }
    file->bytes = (size_t)facts.st_size;
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
    if (u16(zip + at + 4) != 0 || u16(zip + at + 8) != storage->entry_count ||
        storage->entries_at > at || size > at - storage->entries_at) {
        return eo_fail(failure, EO_EBUNDLE, storage->path, "is a damaged zip, or one of over 4 GB");
    }
    return EO_OK;
}

int eo_storage_open(const char *path, struct eo_storage *storage, struct eo_failure *failure)
{
    struct eo_mapped file = {0};
    struct stat facts;
    int result;

    /* Without links: files are opened when first used, and a link to the bundle that is in use, as
     * the store on a board keeps, may by then point to the next one. */
    *storage = (struct eo_storage){.path = realpath(path, NULL)};
    if (storage->path == NULL || stat(storage->path, &facts) != 0) {
        return eo_fail(failure, errno == ENOMEM ? EO_ENOMEM : EO_EIO, path,
                       "cannot be opened (%s)", strerror(errno));
    }
    if (S_ISDIR(facts.st_mode)) {
        return EO_OK;
    }
    result = map_path(storage->path, &file, failure);
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
    free(storage->path);
    *storage = (struct eo_storage){0};
}

/* Relative, with forward slashes, without empty parts, "." and "..". */
static bool is_inside(const char *name)
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
    if (local > storage->zip_bytes - LOCAL_BYTES || u32(zip + local) != LOCAL_MAGIC) {
        return eo_fail(failure, EO_EBUNDLE, name, "does not lie where the zip says");
    }
    data = local + LOCAL_BYTES + u16(zip + local + 26) + u16(zip + local + 28);
    if (data > storage->zip_bytes || bytes > storage->zip_bytes - data) {
        return eo_fail(failure, EO_EBUNDLE, name, "lies beyond the end of the zip");
    }
    *file = (struct eo_mapped){.data = zip + data, .bytes = bytes};
    return EO_OK;
}

static int find_entry(const struct eo_storage *storage, const char *name, struct eo_mapped *file,
                      struct eo_failure *failure)
{
    const unsigned char *zip = storage->zip;
    size_t at = storage->entries_at;
    size_t length = strlen(name);

    for (uint32_t i = 0; i < storage->entry_count; i++) {
        size_t name_bytes, left = storage->zip_bytes - at;
        if (left < ENTRY_BYTES || u32(zip + at) != ENTRY_MAGIC) {
            return eo_fail(failure, EO_EBUNDLE, storage->path, "is a damaged zip (entry %u)",
                           (unsigned)i);
        }
        name_bytes = u16(zip + at + 28);
        left -= ENTRY_BYTES;
        if (left < name_bytes || left - name_bytes < u16(zip + at + 30) + u16(zip + at + 32)) {
            return eo_fail(failure, EO_EBUNDLE, storage->path, "is a damaged zip (entry %u)",
                           (unsigned)i);
        }
        if (name_bytes == length && memcmp(zip + at + ENTRY_BYTES, name, length) == 0) {
            return take_entry(storage, zip + at, name, file, failure);
        }
        at += ENTRY_BYTES + name_bytes + u16(zip + at + 30) + u16(zip + at + 32);
    }
    return eo_fail(failure, EO_EBUNDLE, name, "is not in %s", storage->path);
}

int eo_storage_map(const struct eo_storage *storage, const char *name, struct eo_mapped *file,
                   struct eo_failure *failure)
{
    size_t bytes = strlen(storage->path) + 1 + strlen(name) + 1;
    int result;

    if (!is_inside(name)) {
        return eo_fail(failure, EO_EBUNDLE, name, "does not lie inside the bundle");
    }
    if (storage->zip != NULL) {
        return find_entry(storage, name, file, failure);
    }
    *file = (struct eo_mapped){.path = malloc(bytes)};
    if (file->path == NULL || snprintf(file->path, bytes, "%s/%s", storage->path, name) < 0) {
        result = eo_fail(failure, EO_ENOMEM, name, "no memory for its path");
    } else {
        result = map_path(file->path, file, failure);
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
