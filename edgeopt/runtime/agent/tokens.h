/* SPDX-FileCopyrightText: edgeopt contributors
 * SPDX-License-Identifier: Apache-2.0 */
/* The command `tokens`. */
#ifndef EO_TOKENS_H
#define EO_TOKENS_H

#include "job.h"

/* Says the tokens of the texts on standard input, with the bundle's tokenizer alone. */
int eo_tokens(struct eo_job *job, struct eo_failure *failure);

#endif
