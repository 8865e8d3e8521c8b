/* SPDX-FileCopyrightText: edgeopt contributors
 * SPDX-License-Identifier: Apache-2.0 */
/* What the model makes of one text or image, as events. */
#ifndef EO_ANSWERS_H
#define EO_ANSWERS_H

#include "job.h"

/* No photo is larger; edgeopt/model/images.py has as many pixels. */
#define EO_PPM_BYTES_MAX ((INT64_C(1) << 26) * 3 + 64)

/* Runs `text`, and says the result. `context` is the job: see eo_take_text in lines.h. */
int eo_answer_text(void *context, const struct eo_text *text, struct eo_failure *failure);

/* Runs the image whose binary PPM of `bytes` bytes follows on standard input, and says the result;
 * `as_map`: the label of each of its pixels too. */
int eo_answer_image(const struct eo_job *job, size_t bytes, bool as_map, struct eo_failure *failure);

#endif
