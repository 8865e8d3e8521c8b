/* SPDX-FileCopyrightText: edgeopt contributors
 * SPDX-License-Identifier: Apache-2.0 */
/* Opening an engine's shared library and looking its functions up. */
#ifndef EO_LIBRARY_H
#define EO_LIBRARY_H

#include "base/failure.h"

struct eo_symbol {
    const char *name;
    void *function; /* where the pointer to the function is put */
};

/* dlopen with RTLD_NOW and `scope` (RTLD_LOCAL or RTLD_GLOBAL); NULL with `failure` filled. The
 * library is never closed: engines keep threads and thread-local state that outlive a session. */
void *eo_library_open(const char *path, int scope, struct eo_failure *failure);

/* Looks up every symbol, up to the one without a name; `what` says in the failure whose they are. */
int eo_library_symbols(void *library, const char *path, const struct eo_symbol *symbols,
                       const char *what, struct eo_failure *failure);

#endif
