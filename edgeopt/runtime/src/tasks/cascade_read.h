/* SPDX-FileCopyrightText: edgeopt contributors
 * SPDX-License-Identifier: Apache-2.0 */
/* Early exit: what cascade.json says, as edgeopt/run/early_exit.py writes it. */
#ifndef EO_CASCADE_READ_H
#define EO_CASCADE_READ_H

#include "base/arena.h"
#include "base/failure.h"

#define EO_CASCADE_SCHEMA 1

/* The bundle and its artifact that the cascade was found for. */
struct eo_cascade_part {
    const char *name;
    const char *digest;
    const char *engine;
    const char *precision;
};

/* All is owned by the arena. */
struct eo_cascade_rule {
    struct eo_cascade_part first;
    struct eo_cascade_part second;
    double temperature;
    double threshold; /* above 1: no text leaves early */
};

/* Reads and checks the file `path`. Returns EO_OK, EO_EIO, EO_EINPUT if it is damaged, EO_ENOMEM
 * or EO_EUNSUPPORTED (of a later schema version). `failure` is not NULL. */
int eo_cascade_read(const char *path, struct eo_arena *arena, struct eo_cascade_rule *rule,
                    struct eo_failure *failure);

#endif
