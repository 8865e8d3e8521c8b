#include "utf8.h"

uint32_t eo_utf8_bytes(const unsigned char *at, size_t left)
{
    /* Section 4: no overlong forms, no surrogates, nothing past U+10FFFF. */
    uint32_t count = at[0] < 0x80 ? 1 : at[0] < 0xc2 ? 0 : at[0] < 0xe0 ? 2 : at[0] < 0xf0 ? 3 : 4;

    if (count == 0 || at[0] > 0xf4 || count > left) {
        return 0;
    }
    for (uint32_t i = 1; i < count; i++) {
        if ((at[i] & 0xc0) != 0x80) {
            return 0;
        }
    }
    if ((at[0] == 0xe0 && at[1] < 0xa0) || (at[0] == 0xed && at[1] > 0x9f) ||
        (at[0] == 0xf0 && at[1] < 0x90) || (at[0] == 0xf4 && at[1] > 0x8f)) {
        return 0;
    }
    return count;
}
