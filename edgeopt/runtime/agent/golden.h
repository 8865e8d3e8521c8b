/* SPDX-FileCopyrightText: edgeopt contributors
 * SPDX-License-Identifier: Apache-2.0 */
/* A golden call of a bundle: in.<input>.npy and out.<output>.npy, by the model's own names. */
#ifndef EO_GOLDEN_H
#define EO_GOLDEN_H

#include "session/session.h"

struct eo_golden {
    const char *directory;
    struct eo_tensor inputs[EO_MAX_TENSORS]; /* in the order of the model's signature, as are these */
    struct eo_tensor outputs[EO_MAX_TENSORS];
};

/* Reads the call in `directory` of the graph of `manifest`. The tensors' data is owned by `golden` and freed with
 * eo_golden_close, also after a failure. */
int eo_golden_open(struct eo_bundle *bundle, const struct eo_manifest *manifest,
                   const char *directory, struct eo_golden *golden, struct eo_failure *failure);
void eo_golden_close(struct eo_golden *golden);

/* Selects the shape of `batch` such inputs and copies them into row `row` of it, in the artifact's
 * dtypes; int64 becomes int32 and back if every value fits. */
int eo_golden_fill(const struct eo_golden *golden, struct eo_session *session, uint32_t batch,
                   uint32_t row, struct eo_failure *failure);

/* Makes of a tensor of the selected shape its row `row`: what a call of one input has. */
void eo_golden_row(const struct eo_session *session, uint32_t row, struct eo_tensor *tensor);

/* The input `attention_mask`, or NULL. */
const struct eo_tensor *eo_golden_mask(const struct eo_golden *golden,
                                       const struct eo_session *session);

#endif
