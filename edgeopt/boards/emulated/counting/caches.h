/* SPDX-FileCopyrightText: edgeopt contributors
 * SPDX-License-Identifier: Apache-2.0
 *
 * A model of a core's data caches: levels of sets and ways with the least recently used line
 * replaced, filled by loads and stores alike, written back when a changed line leaves. There is no
 * prefetcher, no other core and no instruction in it. */
#ifndef EO_CACHES_H
#define EO_CACHES_H

#include <stdbool.h>
#include <stddef.h>
#include <stdint.h>

enum { EO_MOST_LEVELS = 3 };

struct eo_cache {
    uint64_t *lines; /* sets x ways, the latest first: line + 1, 0 for none */
    bool *changed;   /* of the same places */
    size_t sets, ways;
    uint64_t refills;     /* lines taken in from the level below, or from memory */
    uint64_t write_backs; /* changed lines given to it */
};

struct eo_caches {
    struct eo_cache levels[EO_MOST_LEVELS];
    size_t count;
    unsigned int line_shift; /* log2 of a line's bytes */
};

/* Reads LINE_BYTES:KIB/WAYS[:KIB/WAYS...] ("64:32/2:1024/16"), the nearest level first. Returns
 * false if it is none, or memory ran out. */
bool eo_caches_open(struct eo_caches *caches, const char *text);

/* Loads or stores `bytes` at `address`. */
void eo_caches_access(struct eo_caches *caches, uint64_t address, size_t bytes, bool is_store);

#endif
