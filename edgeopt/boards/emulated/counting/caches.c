/* SPDX-FileCopyrightText: edgeopt contributors
 * SPDX-License-Identifier: Apache-2.0 */
#include "caches.h"

#include <stdlib.h>
#include <string.h>

static bool is_power_of_2(unsigned long value)
{
    return value != 0 && (value & (value - 1)) == 0;
}

static bool open_level(struct eo_cache *level, unsigned long bytes, unsigned long ways,
                       unsigned long line)
{
    if (ways == 0 || bytes % (ways * line) != 0 || !is_power_of_2(bytes / (ways * line))) {
        return false;
    }
    level->ways = ways;
    level->sets = bytes / (ways * line);
    level->lines = calloc(level->sets * ways, sizeof *level->lines);
    level->changed = calloc(level->sets * ways, sizeof *level->changed);
    return level->lines != NULL && level->changed != NULL;
}

bool eo_caches_open(struct eo_caches *caches, const char *text)
{
    char *end;
    const unsigned long line = strtoul(text, &end, 10);

    memset(caches, 0, sizeof *caches);
    if (!is_power_of_2(line)) {
        return false;
    }
    while ((1UL << caches->line_shift) < line) {
        caches->line_shift++;
    }
    while (*end == ':' && caches->count < EO_MOST_LEVELS) {
        const unsigned long kib = strtoul(end + 1, &end, 10);
        const unsigned long ways = *end == '/' ? strtoul(end + 1, &end, 10) : 0;
        if (!open_level(&caches->levels[caches->count++], 1024 * kib, ways, line)) {
            return false;
        }
    }
    return *end == '\0' && caches->count != 0;
}

/* Puts `line` first in its set; returns whether it was there. The one that leaves for it is put
 * into *left (line + 1, 0 for none), if it was changed. */
static bool touch(struct eo_cache *level, uint64_t line, bool changes, uint64_t *left)
{
    uint64_t *lines = level->lines + (line & (level->sets - 1)) * level->ways;
    bool *changed = level->changed + (lines - level->lines);
    const size_t last = level->ways - 1;
    size_t at = 0;

    *left = 0;
    if (lines[0] == line + 1) { /* as nearly always */
        changed[0] = changed[0] || changes;
        return true;
    }
    while (at < last && lines[at] != line + 1) {
        at++;
    }
    const bool is_there = lines[at] == line + 1;
    const bool was_changed = is_there && changed[at];
    if (!is_there && changed[at]) {
        *left = lines[at];
    }
    memmove(lines + 1, lines, at * sizeof *lines);
    memmove(changed + 1, changed, at * sizeof *changed);
    lines[0] = line + 1;
    changed[0] = was_changed || changes;
    return is_there;
}

/* A changed line leaves level `from`: the next one that has it, or takes it, is the one below. */
static void write_back(struct eo_caches *caches, size_t from, uint64_t line)
{
    for (size_t i = from + 1;; i++) {
        uint64_t left;

        caches->levels[i - 1].write_backs++;
        if (i == caches->count) {
            return;
        }
        touch(&caches->levels[i], line, true, &left);
        if (left == 0) {
            return;
        }
        line = left - 1;
    }
}

static void access_line(struct eo_caches *caches, uint64_t line, bool is_store)
{
    uint64_t left[EO_MOST_LEVELS];
    size_t filled = 0;

    while (filled < caches->count &&
           !touch(&caches->levels[filled], line, is_store && filled == 0, &left[filled])) {
        caches->levels[filled].refills++;
        filled++;
    }
    for (size_t i = 0; i < filled; i++) {
        if (left[i] != 0) {
            write_back(caches, i, left[i] - 1);
        }
    }
}

void eo_caches_access(struct eo_caches *caches, uint64_t address, size_t bytes, bool is_store)
{
    const uint64_t last = (address + bytes - 1) >> caches->line_shift;

    for (uint64_t line = address >> caches->line_shift; line <= last; line++) {
        access_line(caches, line, is_store);
    }
}
