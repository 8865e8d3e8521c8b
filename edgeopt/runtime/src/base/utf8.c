/* SPDX-FileCopyrightText: edgeopt contributors
 * SPDX-License-Identifier: Apache-2.0 */
#include "base/utf8.h"

/* How many bytes a sequence has that starts with `lead`, 0 if none does, and what its second
 * byte may be. Source: RFC 3629, section 4. */
static uint32_t sequence_bytes(unsigned char lead, unsigned char *low, unsigned char *high)
{
    *low = lead == 0xe0 ? 0xa0 : lead == 0xf0 ? 0x90 : 0x80;
    *high = lead == 0xed ? 0x9f : lead == 0xf4 ? 0x8f : 0xbf;
    return lead < 0xc2 ? 0 : lead < 0xe0 ? 2 : lead < 0xf0 ? 3 : lead < 0xf5 ? 4 : 0;
}

uint32_t eo_utf8_next(const char *text, size_t end, size_t *at)
{
    unsigned char lead = (unsigned char)text[(*at)++], low, high;
    uint32_t bytes, code;

    if (lead < 0x80) {
        return lead;
    }
    bytes = sequence_bytes(lead, &low, &high);
    code = bytes == 0 ? EO_REPLACEMENT : lead & (0x7fU >> bytes);
    for (uint32_t i = 1; i < bytes; i++) {
        unsigned char next = *at < end ? (unsigned char)text[*at] : 0;
        if (next < low || next > high) {
            return EO_REPLACEMENT;
        }
        code = code << 6 | (next & 0x3f);
        (*at)++;
        low = 0x80;
        high = 0xbf;
    }
    return code;
}

uint32_t eo_utf8_write(uint32_t code, char out[4])
{
    if (code < 0x80) {
        out[0] = (char)code;
        return 1;
    }
    if (code < 0x800) {
        out[0] = (char)(0xc0 | code >> 6);
        out[1] = (char)(0x80 | (code & 0x3f));
        return 2;
    }
    if (code < 0x10000) {
        out[0] = (char)(0xe0 | code >> 12);
        out[1] = (char)(0x80 | (code >> 6 & 0x3f));
        out[2] = (char)(0x80 | (code & 0x3f));
        return 3;
    }
    out[0] = (char)(0xf0 | code >> 18);
    out[1] = (char)(0x80 | (code >> 12 & 0x3f));
    out[2] = (char)(0x80 | (code >> 6 & 0x3f));
    out[3] = (char)(0x80 | (code & 0x3f));
    return 4;
}

uint32_t eo_utf8_bytes(const unsigned char *at, size_t left)
{
    unsigned char low, high;
    uint32_t bytes = at[0] < 0x80 ? 1 : sequence_bytes(at[0], &low, &high);

    if (bytes > left || (bytes > 1 && (at[1] < low || at[1] > high))) {
        return 0;
    }
    for (uint32_t i = 2; i < bytes; i++) {
        if ((at[i] & 0xc0) != 0x80) {
            return 0;
        }
    }
    return bytes;
}
