/* SPDX-FileCopyrightText: edgeopt contributors
 * SPDX-License-Identifier: Apache-2.0 */
/* Reads texts and images from standard input. */
#ifndef EO_LINES_H
#define EO_LINES_H

#include "job.h"

/* Takes a text, which lives no longer than the call. */
typedef int eo_take_text(void *context, const struct eo_text *text, struct eo_failure *failure);

/* Reads texts to the end of the input, a JSON object a line, and hands each to `take`. Behind an
 * object that says how many bytes an image has comes the image, which is answered if a session is
 * open; one with "map" asks for the labels of its pixels too. */
int eo_lines_read(const struct eo_job *job, eo_take_text *take, void *context,
                  struct eo_failure *failure);

#endif
