/* SPDX-FileCopyrightText: edgeopt contributors
 * SPDX-License-Identifier: Apache-2.0 */
#include "engines/library.h"

#include <dlfcn.h>
#include <string.h>

void *eo_library_open(const char *path, int scope, struct eo_failure *failure)
{
    void *library = dlopen(path, RTLD_NOW | scope);

    if (library == NULL) {
        const char *why = dlerror();
        eo_fail(failure, EO_EENGINE, path, "cannot be loaded (%s)",
                why == NULL ? "no reason given" : why);
    }
    return library;
}

int eo_library_symbols(void *library, const char *path, const struct eo_symbol *symbols,
                       const char *what, struct eo_failure *failure)
{
    for (; symbols->name != NULL; symbols++) {
        void *found = dlsym(library, symbols->name);
        if (found == NULL) {
            return eo_fail(failure, EO_EENGINE, path, "has no %s: it is not %s", symbols->name,
                           what);
        }
        memcpy(symbols->function, &found, sizeof found); /* ISO C has no cast to a function */
    }
    return EO_OK;
}
