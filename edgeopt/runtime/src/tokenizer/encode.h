/* SPDX-FileCopyrightText: edgeopt contributors
 * SPDX-License-Identifier: Apache-2.0 */
/* From a text to its tokens, without those of the template. */
#ifndef EO_ENCODE_H
#define EO_ENCODE_H

#include "tokenizer/tokenizer_model.h"

/* Bytes of scratch, aligned to 8, for a text of `text_bytes`. */
uint64_t eo_encode_scratch(const struct eo_tokenizer *tokenizer, uint32_t text_bytes);

/* Gives the tokens of `text` to `sink`; false if it grows too much when it is normalised. */
bool eo_encode(const struct eo_tokenizer *tokenizer, const char *text, uint32_t text_bytes,
               void *scratch, struct eo_sink *sink);

#endif
