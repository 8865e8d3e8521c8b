/* SPDX-FileCopyrightText: edgeopt contributors
 * SPDX-License-Identifier: Apache-2.0 */
/* Which of a bundle's artifacts is opened here. */
#ifndef EO_CHOOSE_H
#define EO_CHOOSE_H

#include "session/session.h"

/* Opens the first artifact that the options allow and whose engine opens it, and fills the session's
 * entry, engine, model, library and version. */
int eo_choose(struct eo_session *session, const struct eo_session_options *options,
              struct eo_failure *failure);

/* The CPUs of the bundle's target if this machine is one and has them; else NULL. */
const char *eo_target_cpus(const struct eo_manifest *manifest);

#endif
