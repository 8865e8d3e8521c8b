/* SPDX-FileCopyrightText: edgeopt contributors
 * SPDX-License-Identifier: Apache-2.0 */
#include "engines/discover.h"

#include "base/arch.h"

#include <dirent.h>
#include <dlfcn.h>
#include <stdbool.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/stat.h>

/* Who needs less builds without the engines that he will not have. */
static const struct eo_engine *const engines[] = {
#ifndef EO_WITHOUT_ONNX
    &eo_engine_onnx,
#endif
#ifndef EO_WITHOUT_TFLITE
    &eo_engine_tflite,
#endif
#ifndef EO_WITHOUT_OPENVINO
    &eo_engine_openvino,
#endif
#ifndef EO_WITHOUT_TVM
    &eo_engine_tvm,
#endif
    NULL,
};

const struct eo_engine *eo_engine_named(const char *name)
{
    for (size_t i = 0; engines[i] != NULL; i++) {
        if (strcmp(name, engines[i]->name) == 0) {
            return engines[i];
        }
    }
    return NULL;
}

/* Whether `file` is `library`, or that with a version after it: libonnxruntime.so.1.31.1. */
static bool is_library(const char *file, const char *library)
{
    size_t bytes = strlen(library);

    return strncmp(file, library, bytes) == 0 && (file[bytes] == '\0' || file[bytes] == '.');
}

static bool find_in_directory(const struct eo_engine *engine, const char *directory, char *path)
{
    const struct dirent *entry;
    bool found = false;
    DIR *folder = opendir(directory);

    if (folder == NULL) {
        return false;
    }
    while (!found && (entry = readdir(folder)) != NULL) {
        for (size_t i = 0; !found && engine->libraries[i] != NULL; i++) {
            int wrote = is_library(entry->d_name, engine->libraries[i])
                            ? snprintf(path, EO_PATH_BYTES, "%s/%s", directory, entry->d_name)
                            : -1;
            found = wrote > 0 && wrote < EO_PATH_BYTES;
        }
    }
    (void)closedir(folder); /* fails for no folder only */
    return found;
}

static bool find_at(const struct eo_engine *engine, const char *place, char *path)
{
    const char *slash = strrchr(place, '/');
    const char *file = slash == NULL ? place : slash + 1;
    struct stat facts;

    if (stat(place, &facts) != 0) {
        return false;
    }
    if (S_ISDIR(facts.st_mode)) {
        return find_in_directory(engine, place, path);
    }
    for (size_t i = 0; engine->libraries[i] != NULL; i++) {
        /* A bare name would be looked up by the loader; this one is in the working directory. */
        int wrote = is_library(file, engine->libraries[i])
                        ? snprintf(path, EO_PATH_BYTES, "%s%s", slash == NULL ? "./" : "", place)
                        : -1;
        if (wrote > 0 && wrote < EO_PATH_BYTES) {
            return true;
        }
    }
    return false;
}

static bool find_among(const struct eo_engine *engine, const char *places, char *path)
{
    while (*places != '\0') {
        char place[EO_PATH_BYTES];
        size_t bytes = strcspn(places, ":");
        if (bytes > 0 && bytes < sizeof place) {
            memcpy(place, places, bytes);
            place[bytes] = '\0';
            if (find_at(engine, place, path)) {
                return true;
            }
        }
        places += bytes + (places[bytes] == ':');
    }
    return false;
}

static bool find_beside(const struct eo_engine *engine, char *path)
{
    static const int here = 0; /* any address in this code's file */
    char directory[EO_PATH_BYTES];
    const char *slash;
    Dl_info facts;

    if (dladdr(&here, &facts) == 0 || facts.dli_fname == NULL) {
        return false;
    }
    slash = strrchr(facts.dli_fname, '/');
    if (slash == NULL || slash - facts.dli_fname >= EO_PATH_BYTES) {
        return false;
    }
    memcpy(directory, facts.dli_fname, (size_t)(slash - facts.dli_fname));
    directory[slash - facts.dli_fname] = '\0';
    return find_in_directory(engine, directory, path);
}

/* Opens by name, and keeps open: it is opened again at once. */
static bool find_by_name(const struct eo_engine *engine, char *path)
{
    for (size_t i = 0; engine->libraries[i] != NULL; i++) {
        if (dlopen(engine->libraries[i], RTLD_LAZY | RTLD_LOCAL) != NULL) {
            return snprintf(path, EO_PATH_BYTES, "%s", engine->libraries[i]) > 0;
        }
    }
    return false;
}

/* Debian's onnxruntime is libonnxruntime.so.1.21 and has no shorter name, so that the loader does
 * not find it by one. */
static bool find_in_system(const struct eo_engine *engine, char *path)
{
    static const char *const directories[] = {
        "/usr/local/lib", "/usr/lib/" EO_MULTIARCH, "/usr/lib64", "/usr/lib", NULL,
    };

    for (size_t i = 0; directories[i] != NULL; i++) {
        if (find_in_directory(engine, directories[i], path)) {
            return true;
        }
    }
    return false;
}

/* Whether the bundle at `path`, without links, is where `edgeopt` puts bundles on a board, with
 * libraries of its own in lib/. Any other bundle may be a stranger's, and so would be what is in it
 * and not in its manifest. */
static bool is_deployed(const char *path)
{
    static const char place[] = "/.edgeopt/bundles";
    const char *slash = strrchr(path, '/');
    size_t bytes = slash == NULL ? 0 : (size_t)(slash - path);

    return bytes >= sizeof place - 1 &&
           memcmp(slash - (sizeof place - 1), place, sizeof place - 1) == 0;
}

int eo_discover(const struct eo_engine *engine, const char *places, const char *bundle, char *path,
                struct eo_failure *failure)
{
    const char *given = getenv("EDGEOPT_RT_LIBRARIES");
    char inside[EO_PATH_BYTES];
    int wrote;

    if (places != NULL) {
        return find_among(engine, places, path)
                   ? EO_OK
                   : eo_fail(failure, EO_EENGINE, engine->name, "no %s* in %s",
                             engine->libraries[0], places);
    }
    wrote = snprintf(inside, sizeof inside, "%s/lib", bundle);
    if ((given != NULL && find_among(engine, given, path)) ||
        (is_deployed(bundle) && wrote > 0 && wrote < EO_PATH_BYTES &&
         find_in_directory(engine, inside, path)) ||
        find_beside(engine, path) || find_by_name(engine, path) || find_in_system(engine, path)) {
        return EO_OK;
    }
    return eo_fail(failure, EO_EENGINE, engine->name,
                   "no %s* in $EDGEOPT_RT_LIBRARIES (%s), %sbeside this library, or among the "
                   "system's",
                   engine->libraries[0], given == NULL ? "not set" : given,
                   is_deployed(bundle) ? "the bundle's lib/, " : "");
}
