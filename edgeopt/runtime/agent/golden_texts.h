/* SPDX-FileCopyrightText: edgeopt contributors
 * SPDX-License-Identifier: Apache-2.0 */
/* Golden texts of a bundle: raw texts with what the user's own tool answered to them. */
#ifndef EO_GOLDEN_TEXTS_H
#define EO_GOLDEN_TEXTS_H

#include "base/json_tree.h"
#include "events.h"
#include "session/session.h"

#define EO_GOLDEN_TEXTS "golden/texts.json"

/* Runs each text of the bundle's EO_GOLDEN_TEXTS, text in and answer out, and emits one golden event
 * for each; `agree` becomes false if one is off by more than the file allows. Bundles without the
 * file have none. */
int eo_golden_texts_check(struct eo_bundle *bundle, struct eo_session *session,
                          struct eo_events *events, bool *agree, struct eo_failure *failure);

/* The string `key` of the object `node`, decoded, to be freed; NULL if there is none. */
char *eo_text_member(const struct eo_json_tree *tree, uint32_t node, const char *key, size_t *bytes);

#endif
