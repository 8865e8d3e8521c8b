/* SPDX-FileCopyrightText: edgeopt contributors
 * SPDX-License-Identifier: Apache-2.0 */
/* One token of an encoded text. */
#ifndef EO_TOKEN_H
#define EO_TOKEN_H

#include <stdint.h>

#define EO_NO_WORD UINT32_MAX

struct eo_token {
    int32_t id;
    uint32_t begin; /* bytes begin..end of the text, of the pair if sequence is 1 */
    uint32_t end;
    uint32_t word;    /* of its sequence, from 0; EO_NO_WORD for a token of the template */
    uint8_t sequence; /* 0: the text, 1: the pair */
    uint8_t type_id;
    uint8_t special; /* 1: the template put it there; then begin and end are 0 */
    uint8_t added;   /* 1: an added token that was found in the text */
};

#endif
