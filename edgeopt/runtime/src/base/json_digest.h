/* SPDX-FileCopyrightText: edgeopt contributors
 * SPDX-License-Identifier: Apache-2.0 */
/* The digest that a manifest carries of itself. */
#ifndef EO_JSON_DIGEST_H
#define EO_JSON_DIGEST_H

#include "base/json_tree.h"

/* SHA-256 over the document in the form json.dumps(document, sort_keys=True,
 * separators=(",", ":")) of Python writes, the member `left_out` of the top object left out. Holds
 * for text that Python's json.dumps wrote: escapes and numbers are taken as they stand. */
int eo_json_digest(const struct eo_json_tree *tree, const char *left_out, uint8_t digest[32],
                   struct eo_failure *failure);

#endif
