/* SPDX-FileCopyrightText: edgeopt contributors
 * SPDX-License-Identifier: Apache-2.0 */
/* The normal forms of Unicode (UAX #15). */
#ifndef EO_NORMAL_FORM_H
#define EO_NORMAL_FORM_H

#include "tokenizer/normalized.h"

/* What pairs of code points compose to, by a hash of the pair. */
struct eo_compositions;

struct eo_compositions *eo_compositions_open(void); /* NULL: no memory */
void eo_compositions_close(struct eo_compositions *compositions);

/* NFD and NFKD; with `compositions`, NFC and NFKC. The text may grow by EO_FORM_GROWTH, or
 * EO_COMPATIBLE_GROWTH, characters for each byte of UTF-8 that it has. */
#define EO_FORM_GROWTH 2
#define EO_COMPATIBLE_GROWTH 6
void eo_normal_form(struct eo_normalized *text, bool compatible,
                    const struct eo_compositions *compositions);

#endif
