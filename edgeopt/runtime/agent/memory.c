/* SPDX-FileCopyrightText: edgeopt contributors
 * SPDX-License-Identifier: Apache-2.0 */
#include "memory.h"

#include "process.h"

#include <fcntl.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/stat.h>
#include <unistd.h>

enum { RESIDENT, ANONYMOUS = 2, SUMS = 5 };

static const char *const keys[SUMS] = {"Rss:", "Pss:", "Anonymous:", "Private_Dirty:", "Swap:"};
static const char *const names[SUMS] = {"rss_bytes", "pss_bytes", "anonymous_bytes",
                                        "private_dirty_bytes", "swap_bytes"};

/* What is mapped there. */
enum kind { OTHER, OF_ARTIFACT, OF_MEMORY, KINDS };

struct sums {
    int64_t bytes[SUMS];   /* -1: not told */
    int64_t shared[KINDS]; /* resident and not anonymous */
    enum kind kind;        /* of the mapping that is read */
};

static enum kind kind_of(const struct eo_job *job, const char *path)
{
    const struct eo_bundle *bundle = job->bundle;
    struct stat facts;

    if (path == NULL) {
        return OTHER;
    }
    if (strncmp(path, "/memfd:", 7) == 0) {
        return OF_MEMORY;
    }
    if (bundle->storage.zip != NULL) {
        return strcmp(path, bundle->storage.path) == 0 ? OF_ARTIFACT : OTHER;
    }
    for (uint32_t i = 0; job->session != NULL && i < job->session->entry->file_count; i++) {
        const struct eo_mapped *file = &bundle->mapped[job->session->entry->files[i]];
        if (file->data != NULL && stat(path, &facts) == 0 && facts.st_dev == file->device &&
            facts.st_ino == file->inode) {
            return OF_ARTIFACT;
        }
    }
    return OTHER;
}

/* Adds one line of smaps: a mapping's head, which begins with its address in lower-case digits, or a
 * figure of the mapping whose head came last. */
static void take_line(const struct eo_job *job, char *line, struct sums *sums)
{
    if (line[0] < 'A' || line[0] > 'Z') {
        line[strcspn(line, "\n")] = '\0';
        sums->kind = kind_of(job, strchr(line, '/'));
        return;
    }
    for (size_t i = 0; i < SUMS; i++) {
        size_t bytes = strlen(keys[i]);
        if (strncmp(line, keys[i], bytes) == 0) {
            int64_t told = strtoll(line + bytes, NULL, 10) * 1024;
            sums->bytes[i] = (sums->bytes[i] < 0 ? 0 : sums->bytes[i]) + told;
            sums->shared[sums->kind] += i == RESIDENT ? told : i == ANONYMOUS ? -told : 0;
        }
    }
}

/* QEMU 8 and gVisor have the file with no figure, or with zeros: no process has no resident page. */
static bool read_sums(const struct eo_job *job, struct sums *sums)
{
    char line[4096 + 128]; /* PATH_MAX, and what is before a path */
    FILE *file = fopen("/proc/self/smaps", "r");

    *sums = (struct sums){.bytes = {-1, -1, -1, -1, -1}};
    while (file != NULL && fgets(line, sizeof line, file) != NULL) {
        take_line(job, line, sums);
    }
    if (file != NULL) {
        (void)fclose(file); /* it was read only */
    }
    return sums->bytes[RESIDENT] > 0;
}

/* Lets the peak begin anew. Source: proc(5), /proc/pid/clear_refs, from Linux 4.0 on. */
static bool reset_peak(void)
{
    int file = open("/proc/self/clear_refs", O_WRONLY | O_CLOEXEC);
    bool is_reset = file >= 0 && write(file, "5", 1) == 1;

    if (file >= 0) {
        (void)close(file);
    }
    return is_reset;
}

static void say(struct eo_events *events, const char *name, int64_t bytes)
{
    if (bytes >= 0) {
        eo_events_integer(events, name, bytes);
    }
}

void eo_memory_say(struct eo_job *job, const char *phase)
{
    struct eo_events *events = job->events;
    int64_t peak = eo_process_peak_bytes();
    struct sums sums;

    eo_events_begin(events, "memory");
    eo_events_text(events, "phase", phase);
    if (read_sums(job, &sums)) {
        for (size_t i = 0; i < SUMS; i++) {
            say(events, names[i], sums.bytes[i]);
        }
        eo_events_integer(events, "artifact_mapped_bytes", sums.shared[OF_ARTIFACT]);
        eo_events_integer(events, "memfd_bytes", sums.shared[OF_MEMORY]);
    } else {
        say(events, names[RESIDENT], eo_process_rss_bytes());
    }
    if (job->session != NULL && job->session->engine->arena_bytes != NULL) {
        say(events, "arena_bytes", job->session->engine->arena_bytes(job->session->model));
    }
    say(events, "peak_bytes", peak);
    eo_events_bool(events, "peak_is_of_phase", !job->peak_is_older);
    job->peak_is_older = !reset_peak();
    eo_events_end(events);
}
