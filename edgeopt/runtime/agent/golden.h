/* A golden directory: in.<input>.npy and out.<output>.npy, by the model's own names. */
#ifndef EO_GOLDEN_H
#define EO_GOLDEN_H

#include "engine.h"

struct eo_named_tensor {
    char name[128]; /* the model's name */
    struct eo_tensor tensor;
};

struct eo_golden {
    const char *directory;
    struct eo_named_tensor inputs[EO_MAX_TENSORS];
    size_t input_count;
    struct eo_named_tensor outputs[EO_MAX_TENSORS];
    size_t output_count;
};

/* Reads every .npy of `directory`. The tensors are owned by `golden` and freed with
 * eo_golden_close, also after a failure. */
int eo_golden_open(const char *directory, struct eo_golden *golden, struct eo_failure *failure);
void eo_golden_close(struct eo_golden *golden);

/* Fills `tensors` (zeroed by the caller, one for each input of the session, in its order) with
 * copies in the artifact's dtype; int64 becomes int32 and back where every value fits. `names`
 * maps model names to artifact names. The caller frees each tensor's data, also after a failure. */
int eo_golden_inputs(const struct eo_golden *golden, const struct eo_option *names,
                     size_t name_count, const struct eo_engine *engine,
                     const struct eo_session *session, struct eo_tensor *tensors,
                     struct eo_failure *failure);

/* The artifact's name of the model's `name`: itself where `names` has no other. */
const char *eo_artifact_name(const char *name, const struct eo_option *names, size_t name_count);

/* The golden input `attention_mask`, or NULL. */
const struct eo_tensor *eo_golden_mask(const struct eo_golden *golden);

#endif
