/* SPDX-FileCopyrightText: edgeopt contributors
 * SPDX-License-Identifier: Apache-2.0 */
/* Weights that an engine packed for its kernels, shared by the sessions of one artifact: a file in
 * memory alone, which the engine writes for the first session and maps for the others. */
#ifndef EO_PACKED_H
#define EO_PACKED_H

#include "bundle/bundle.h"

enum { EO_PACKED_PATH_BYTES = 32 };

enum eo_packed_role {
    EO_PACKED_NONE = 0,
    EO_PACKED_FIRST, /* writes it: calls eo_packed_written once it has run */
    EO_PACKED_NEXT,  /* maps what is written */
};

/* Writes to `path` where the weights of file `index`, packed by the engine's library at `library`,
 * are or are to be. EO_PACKED_NONE: the session packs for itself, since another one is writing them,
 * packed them by another library, or the system has no such files. Else eo_packed_give follows. Any
 * thread may call these. */
enum eo_packed_role eo_packed_take(struct eo_bundle *bundle, uint32_t index, const char *library,
                                   char path[EO_PACKED_PATH_BYTES]);
void eo_packed_written(struct eo_bundle *bundle, uint32_t index);
/* What nobody uses any longer is freed; so is what the first session gave back before it ran. */
void eo_packed_give(struct eo_bundle *bundle, uint32_t index, enum eo_packed_role role);

#endif
