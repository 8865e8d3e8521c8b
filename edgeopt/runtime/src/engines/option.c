/* SPDX-FileCopyrightText: edgeopt contributors
 * SPDX-License-Identifier: Apache-2.0 */
#include "engines/option.h"

#include <inttypes.h>
#include <stdio.h>
#include <string.h>

int eo_option_fill(const char *value, int64_t seq_len, char *text, size_t size,
                   struct eo_failure *failure)
{
    static const char mark[] = "{seq_len}";
    size_t used = 0;

    for (const char *at = value; *at != '\0';) {
        int wrote = 1;
        if (strncmp(at, mark, sizeof mark - 1) == 0) {
            wrote = snprintf(text + used, size - used, "%" PRId64, seq_len);
            at += sizeof mark - 1;
        } else {
            text[used] = *at++;
        }
        if (wrote < 0 || (size_t)wrote >= size - used) {
            return eo_fail(failure, EO_EENGINE, value, "is too long for an option");
        }
        used += (size_t)wrote;
    }
    text[used] = '\0';
    return EO_OK;
}
