/* SPDX-FileCopyrightText: edgeopt contributors
 * SPDX-License-Identifier: Apache-2.0 */
/* Finding an engine's library. */
#ifndef EO_DISCOVER_H
#define EO_DISCOVER_H

#include "base/failure.h"
#include "engines/engine.h"

#define EO_PATH_BYTES 4096

/* The engine of that name; NULL if this build has none. */
const struct eo_engine *eo_engine_named(const char *name);

/* Writes into `path` (EO_PATH_BYTES) where a library of `engine` lies: in `places` (files and
 * directories, ':' between); without them in the environment's, under `bundle`/lib if edgeopt
 * deployed it, beside this code, or by its bare name if the system's loader finds it,
 * or in the system's folders of libraries. */
int eo_discover(const struct eo_engine *engine, const char *places, const char *bundle, char *path,
                struct eo_failure *failure);

#endif
