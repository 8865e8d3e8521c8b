/* SPDX-FileCopyrightText: edgeopt contributors
 * SPDX-License-Identifier: Apache-2.0 */
#include "base/failure.h"

#include <stdarg.h>
#include <stdio.h>

int eo_fail(struct eo_failure *failure, int code, const char *where, const char *format, ...)
{
    va_list arguments;

    if (failure == NULL) {
        return code;
    }
    failure->code = code;
    if (snprintf(failure->where, sizeof failure->where, "%s", where) < 0) {
        failure->where[0] = '\0';
    }
    va_start(arguments, format);
    if (vsnprintf(failure->message, sizeof failure->message, format, arguments) < 0) {
        failure->message[0] = '\0';
    }
    va_end(arguments);
    return code;
}
