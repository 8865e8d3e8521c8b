/* What the agent asks of an engine. An engine is one file, engine_<name>.c, with one such table.
 *
 * A session is opened once, bound once per input set, and then run any number of times. `bind`
 * may allocate and may run the model to learn its output shapes; `run` allocates nothing of ours,
 * and the results of a run stand until the next. A session is used by one thread. */
#ifndef EO_ENGINE_H
#define EO_ENGINE_H

#include "failure.h"
#include "tensor.h"

#define EO_MAX_TENSORS 16

struct eo_option {
    const char *key;
    const char *value;
};

struct eo_open {
    const char *library; /* path of the engine's shared library */
    const char *model;   /* path of the artifact */
    int32_t threads;
    const struct eo_option *options; /* the engine's own; an unknown key is an error */
    size_t option_count;
};

/* One input or output of the artifact. */
struct eo_port {
    const char *name; /* owned by the session */
    enum eo_dtype dtype;
};

struct eo_session; /* each engine defines its own */

struct eo_engine {
    const char *name;
    /* Writes the library's own version, such as "1.31.1", without opening a model. */
    int (*version)(const char *library, char *text, size_t size, struct eo_failure *failure);
    int (*open)(const struct eo_open *how, struct eo_session **session, struct eo_failure *failure);
    size_t (*input_count)(const struct eo_session *session);
    size_t (*output_count)(const struct eo_session *session);
    struct eo_port (*input)(const struct eo_session *session, size_t index);
    struct eo_port (*output)(const struct eo_session *session, size_t index);
    /* Takes input_count tensors in the artifact's order and dtypes; they must outlive the binding. */
    int (*bind)(struct eo_session *session, const struct eo_tensor *inputs,
                struct eo_failure *failure);
    int (*run)(struct eo_session *session, struct eo_failure *failure);
    /* After a run: the buffer of output `index`, owned by the session. */
    const struct eo_tensor *(*result)(const struct eo_session *session, size_t index);
    void (*close)(struct eo_session *session);
};

extern const struct eo_engine eo_engine_ort;
extern const struct eo_engine eo_engine_openvino;
extern const struct eo_engine eo_engine_tvm;

#endif
