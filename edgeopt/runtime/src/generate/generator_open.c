/* SPDX-FileCopyrightText: edgeopt contributors
 * SPDX-License-Identifier: Apache-2.0 */
/* Opening and closing a generator: an artifact is chosen, and its cache is bound to it. */
#include "base/affinity.h"
#include "generate/beams.h"
#include "generate/cache.h"
#include "session/choose.h"

#include <stdlib.h>
#include <string.h>

static const char ids_name[] = "input_ids", total_name[] = "total_length", logits_name[] = "logits";
static const char source_name[] = "source_ids", source_length_name[] = "source_length";
static const char features_name[] = "input_features";

static int left_out(struct eo_failure *failure)
{
    return eo_fail(failure, EO_EUNSUPPORTED, "generator", "this build has no engine that generates");
}

static int take_options(const eo_generator_options *given, eo_generator_options *options,
                        struct eo_failure *failure)
{
    *options = (eo_generator_options)EO_GENERATOR_OPTIONS;
    return eo_take_struct(given, "EO_GENERATOR_OPTIONS", "options", options,
                          (uint32_t)sizeof *options, failure);
}

static int check_context(const struct eo_manifest *manifest, uint32_t *context,
                         struct eo_failure *failure)
{
    if (manifest->task->result != EO_GENERATED) {
        return eo_fail(failure, EO_EINPUT, manifest->name,
                       "is for %s, and generates no text: open it with eo_session_open",
                       manifest->task->name);
    }
    if (*context > (uint32_t)manifest->max_seq_len) {
        return eo_fail(failure, EO_EINPUT, "context", "is %u, expected up to %d tokens",
                       (unsigned)*context, (int)manifest->max_seq_len);
    }
    *context = *context == 0 ? (uint32_t)manifest->max_seq_len : *context;
    return EO_OK;
}

/* How many times the states' bytes an engine takes at most. */
static uint32_t times_of(const struct eo_generation *generation, const char *name)
{
    const struct eo_engine *engine =
        eo_generation_is_held(generation, name) ? eo_engine_named(name) : NULL;

    return engine != NULL && engine->holds > 0 ? engine->holds : 1;
}

/* How many beams are asked for, and what the cache then has of each token, if an engine has the
 * states `times` over. */
static int check_beams(const struct eo_generation *generation, uint32_t times, uint64_t asked,
                       uint32_t *beams, uint64_t *row_bytes, struct eo_failure *failure)
{
    if (asked > EO_BEAMS_MAX) {
        return eo_fail(failure, EO_EINPUT, "beams", "is %llu, expected up to %d",
                       (unsigned long long)asked, EO_BEAMS_MAX);
    }
    *beams = asked == 0 ? generation->search.num_beams : (uint32_t)asked;
    *row_bytes = times * generation->row_bytes + eo_beams_row_bytes(generation, *beams);
    return EO_OK;
}

int eo_generator_options_bytes(const eo_bundle *bundle, const eo_generator_options *given,
                               uint64_t *bytes, eo_failure *failure)
{
    struct eo_arena arena = {NULL};
    struct eo_generation generation;
    eo_generator_options options;
    uint32_t beams;
    int result;

    *bytes = 0;
    if (!EO_GENERATES) {
        return left_out(failure);
    }
    result = take_options(given, &options, failure);
    if (result == EO_OK) {
        result = check_context(&bundle->manifest, &options.context, failure);
    }
    if (result == EO_OK) {
        result = eo_generation_read(bundle, &arena, &generation, failure);
    }
    for (uint32_t i = 0; result == EO_OK && i < bundle->manifest.artifact_count; i++) {
        uint32_t times = times_of(&generation, bundle->manifest.artifacts[i].engine);
        uint64_t row = 0, all;
        result = check_beams(&generation, times, options.beams, &beams, &row, failure);
        all = row * options.context + generation.other_bytes;
        *bytes = all > *bytes ? all : *bytes;
    }
    eo_arena_free(&arena);
    return result;
}

int eo_generator_cache_bytes(const eo_bundle *bundle, uint32_t context, uint64_t *bytes,
                             eo_failure *failure)
{
    eo_generator_options options = EO_GENERATOR_OPTIONS;

    options.context = context;
    return eo_generator_options_bytes(bundle, &options, bytes, failure);
}

static int check_cache(struct eo_generator *generator, uint32_t times,
                       const eo_generator_options *options, struct eo_failure *failure)
{
    uint64_t row = 0, bytes, most = options->max_cache_bytes;
    uint64_t other = generator->generation.other_bytes;
    int result = check_beams(&generator->generation, times, options->beams, &generator->beams, &row,
                             failure);

    if (result != EO_OK) {
        return result;
    }
    bytes = row * generator->context + other;
    if (most > 0 && bytes > most) {
        return eo_fail(failure, EO_ENOMEM, "max_cache_bytes",
                       "a context of %u tokens takes %llu bytes, expected up to %llu: room for %llu "
                       "tokens",
                       (unsigned)generator->context, (unsigned long long)bytes,
                       (unsigned long long)most,
                       (unsigned long long)(most < other ? 0 : (most - other) / row));
    }
    return EO_OK;
}

static int open_tokenizer(struct eo_generator *generator, struct eo_failure *failure)
{
    struct eo_file file;
    int result = eo_bundle_tokenizer(generator->session.bundle, generator->session.manifest->tokenizer,
                                     &file, &generator->tokenizer, failure);

    if (result != EO_OK) {
        return result;
    }
    return eo_detokenizer_open(generator->tokenizer, file.data, file.bytes, file.name,
                               &generator->detokenizer, failure);
}

/* ---- memory ---- */

static int no_memory(struct eo_failure *failure, const char *what, uint64_t bytes)
{
    return eo_fail(failure, EO_ENOMEM, "generator", "no memory for %llu bytes of %s",
                   (unsigned long long)bytes, what);
}

static uint64_t aligned(uint64_t bytes)
{
    return (bytes + EO_ALIGNMENT - 1) / EO_ALIGNMENT * EO_ALIGNMENT;
}

/* The cache is not touched here: what the text never needs, a system does not set aside. */
static int take_cache(struct eo_generator *generator, struct eo_failure *failure)
{
    uint64_t bytes = 0;

    for (uint32_t i = 0; i < generator->generation.state_count; i++) {
        const struct eo_state_spec *state = &generator->generation.states[i];
        bytes += state->count * eo_cache_layer_bytes(state, generator->context);
    }
    if (bytes <= SIZE_MAX / 2) {
        generator->cache_memory = calloc(1, (size_t)bytes + EO_ALIGNMENT);
    }
    if (generator->cache_memory == NULL) {
        return no_memory(failure, "cache", bytes);
    }
    generator->cache = (char *)generator->cache_memory +
                       (EO_ALIGNMENT - (uintptr_t)generator->cache_memory % EO_ALIGNMENT);
    return EO_OK;
}

static int take_sound(struct eo_generator *generator, struct eo_failure *failure)
{
    struct eo_arena *arena = &generator->session.arena;

    generator->own_start = generator->generation.start;
    generator->start = eo_arena_take(arena, generator->context, sizeof *generator->start);
    generator->mel = eo_arena_take(arena, 1, sizeof *generator->mel);
    if (generator->start == NULL || generator->mel == NULL) {
        return no_memory(failure, "sound", sizeof *generator->mel);
    }
    generator->mel->bins = generator->session.manifest->sound_bins;
    generator->mel->frames = generator->session.manifest->sound_frames;
    eo_mel_open(generator->mel);
    return EO_OK;
}

static int take_io(struct eo_generator *generator, struct eo_failure *failure)
{
    uint64_t ids = aligned(EO_RUN_LENGTH_MAX * sizeof *generator->ids);
    uint64_t one = aligned(sizeof *generator->total);
    const struct eo_manifest *manifest = generator->session.manifest;
    uint64_t source = generator->generation.start.count == 0
                          ? 0
                          : aligned(generator->context * sizeof *generator->source_ids);
    uint64_t features = (uint64_t)manifest->sound_bins * manifest->sound_frames * sizeof(float);
    uint64_t logits = (uint64_t)generator->vocabulary * sizeof *generator->logits;
    uint64_t bytes = ids + 2 * one + source + aligned(features) + logits;
    char *at;

    if (posix_memalign(&generator->io, EO_ALIGNMENT, (size_t)bytes) != 0) {
        generator->io = NULL;
        return no_memory(failure, "logits", bytes);
    }
    memset(generator->io, 0, (size_t)bytes);
    at = generator->io;
    generator->ids = (int64_t *)(void *)at;
    generator->total = (int32_t *)(void *)(at + ids);
    generator->source_length = (int32_t *)(void *)(at + ids + one);
    generator->source_ids = (int64_t *)(void *)(at + ids + 2 * one);
    generator->features = (float *)(void *)(at + ids + 2 * one + source);
    generator->logits = (float *)(void *)(at + ids + 2 * one + source + aligned(features));
    return features == 0 ? EO_OK : take_sound(generator, failure);
}

static int take_texts(struct eo_generator *generator, uint32_t max_text_bytes,
                      struct eo_failure *failure)
{
    struct eo_arena *arena = &generator->session.arena;
    size_t most = (size_t)generator->context + 1, vocabulary = generator->vocabulary;
    /* A piece, after what may begin a stop, before what is left at the end. */
    size_t text = eo_detokenizer_most(generator->detokenizer) + EO_STOP_BYTES + 4;
    uint32_t longest = max_text_bytes == 0 ? (uint32_t)EO_TEXT_BYTES : max_text_bytes;

    generator->session.max_text_bytes = longest;
    generator->scratch_bytes =
        eo_tokenizer_scratch_bytes(generator->tokenizer, longest, (uint32_t)most);
    if (generator->scratch_bytes == 0) {
        return eo_fail(failure, EO_EINPUT, "max_text_bytes", "%u is too much for this machine",
                       (unsigned)longest);
    }
    generator->scratch = eo_arena_take(arena, generator->scratch_bytes, 1);
    generator->encoded = eo_arena_take(arena, most, sizeof *generator->encoded);
    generator->given = eo_arena_take(arena, most, sizeof *generator->given);
    generator->tokens = eo_arena_take(arena, 2 * most, sizeof *generator->tokens);
    generator->text = eo_arena_take(arena, text, 1);
    generator->sampler.count = generator->vocabulary;
    generator->sampler.candidates =
        eo_arena_take(arena, vocabulary, sizeof *generator->sampler.candidates);
    generator->sampler.seen = eo_arena_take(arena, vocabulary / 8 + 1, 1);
    if (generator->scratch == NULL || generator->encoded == NULL || generator->given == NULL ||
        generator->tokens == NULL || generator->text == NULL ||
        generator->sampler.candidates == NULL || generator->sampler.seen == NULL) {
        return no_memory(failure, "texts", generator->scratch_bytes);
    }
    return EO_OK;
}

/* ---- binding ---- */

static bool is_input(const struct eo_spec *spec, const char *name, int32_t dtype)
{
    return strcmp(spec->name, name) == 0 && spec->dtype == dtype;
}

static int check_signature(struct eo_generator *generator, struct eo_failure *failure)
{
    const struct eo_signature *own = &generator->session.entry->signature;
    const struct eo_spec *logits = &own->outputs[0];
    bool hears = generator->session.manifest->sound_bins > 0;
    uint32_t before = hears ? 1 : generator->generation.start.count > 0 ? 2 : 0; /* an encoder's */
    bool right = own->input_count == before + 2 && own->output_count == 1;

    right = right && (!hears || is_input(&own->inputs[0], features_name, EO_FLOAT32)) &&
            (before != 2 || (is_input(&own->inputs[0], source_name, EO_INT64) &&
                             is_input(&own->inputs[1], source_length_name, EO_INT32)));
    right = right && is_input(&own->inputs[before], ids_name, EO_INT64) &&
            is_input(&own->inputs[before + 1], total_name, EO_INT32) &&
            is_input(logits, logits_name, EO_FLOAT32) && logits->rank == 2;
    if (!right || logits->dims[1] < 1 || logits->dims[1] > INT32_MAX / 8) {
        return eo_fail(failure, EO_EBUNDLE, EO_MANIFEST_FILE,
                       "artifacts.signature: expected %s%s and %s, and %s of a vocabulary",
                       hears        ? "input_features, "
                       : before > 0 ? "source_ids, source_length, "
                                    : "",
                       ids_name, total_name,
                       logits_name);
    }
    generator->vocabulary = (uint32_t)logits->dims[1];
    return EO_OK;
}

/* Tokens that are run or chosen unasked have to be of the vocabulary. */
static int check_forced(const struct eo_generator *generator, struct eo_failure *failure)
{
    const struct eo_generation *all = &generator->generation;
    const struct eo_ids *given[] = {&all->start, &all->first, &all->last, &all->never,
                                    &all->never_first};

    for (size_t i = 0; i < sizeof given / sizeof given[0]; i++) {
        for (uint32_t j = 0; j < given[i]->count; j++) {
            if ((uint32_t)given[i]->ids[j] >= generator->vocabulary) {
                return eo_fail(failure, EO_EBUNDLE, EO_MANIFEST_FILE,
                               "generation: token %d, expected 0 to %u", (int)given[i]->ids[j],
                               (unsigned)generator->vocabulary - 1);
            }
        }
    }
    if (all->start.count >= generator->context) {
        return eo_fail(failure, EO_EINPUT, "context", "is %u, expected room for an answer after %u",
                       (unsigned)generator->context, (unsigned)all->start.count);
    }
    return EO_OK;
}

/* A decoder is bound for some lengths of a run. An encoder-decoder is for those of a source: each up
 * to 16, then eight for each doubling, and the context. */
static uint32_t length_after(const struct eo_generator *generator, uint32_t index, uint32_t length)
{
    static const uint32_t runs[] = EO_RUN_LENGTHS;
    uint32_t step = 1;

    if (generator->generation.start.count == 0) {
        uint32_t next = index < sizeof runs / sizeof runs[0] ? runs[index] : 0;
        return next <= generator->context ? next : 0;
    }
    if (generator->session.manifest->sound_frames > 0) {
        return index == 0 ? generator->session.manifest->sound_frames / 2 : 0;
    }
    if (length == generator->context) {
        return 0;
    }
    while (step * 16 <= length) {
        step *= 2;
    }
    return length + step < generator->context ? length + step : generator->context;
}

static int take_lengths(struct eo_generator *generator, struct eo_failure *failure)
{
    struct eo_arena *arena = &generator->session.arena;
    uint32_t count = 0, length = 0;

    while ((length = length_after(generator, count, length)) > 0) {
        count++;
    }
    generator->lengths = eo_arena_take(arena, count, sizeof *generator->lengths);
    generator->bindings = eo_arena_take(arena, count, sizeof(struct eo_binding *));
    if (generator->lengths == NULL || generator->bindings == NULL) {
        return no_memory(failure, "bindings", count * sizeof *generator->lengths);
    }
    for (uint32_t i = 0; i < count; i++) {
        length = generator->lengths[i] = length_after(generator, i, length);
        generator->bindings[i] = NULL;
    }
    generator->length_count = count;
    return EO_OK;
}

struct ports {
    struct eo_tensor *inputs;
    struct eo_tensor *outputs;
    uint32_t input_count;
    uint32_t output_count;
};

/* The tensor of the engine's port `name`, of `dtype`, for which nothing is set yet. */
static struct eo_tensor *port_of(const struct eo_generator *generator, struct ports *ports,
                                 bool is_input, const char *name, int32_t dtype,
                                 struct eo_failure *failure)
{
    const struct eo_engine *engine = generator->session.engine;
    const struct eo_model *model = generator->session.model;
    uint32_t count = is_input ? ports->input_count : ports->output_count;

    for (uint32_t i = 0; i < count; i++) {
        struct eo_port port = is_input ? engine->input(model, i) : engine->output(model, i);
        struct eo_tensor *tensor = is_input ? &ports->inputs[i] : &ports->outputs[i];
        if (strcmp(port.name, name) != 0) {
            continue;
        }
        if (port.dtype != dtype || tensor->data != NULL) {
            (void)eo_fail(failure, EO_EBUNDLE, name, "is %s in the artifact, expected %s, and once",
                          eo_dtype_name(port.dtype), eo_dtype_name(dtype));
            return NULL;
        }
        tensor->dtype = dtype;
        return tensor;
    }
    (void)eo_fail(failure, EO_EBUNDLE, name, "is not in the artifact");
    return NULL;
}

static void set(struct eo_tensor *tensor, void *data, uint32_t rank, const int64_t *dims)
{
    tensor->data = data;
    tensor->rank = rank;
    tensor->count = 1;
    for (uint32_t i = 0; i < rank; i++) {
        tensor->dims[i] = dims[i];
        tensor->count *= (uint64_t)dims[i];
    }
}

/* Past and present of each layer are the same memory; a source is as long as its run. */
static void set_dims(const struct eo_generator *generator, const struct eo_state_spec *state,
                     uint32_t source, int64_t *dims)
{
    for (uint32_t i = 0; i < state->rank; i++) {
        dims[i] = state->dims[i] == EO_DIM_PAST     ? (int64_t)generator->context
                  : state->dims[i] == EO_DIM_SOURCE ? (int64_t)source
                                                    : state->dims[i];
    }
}

static int set_states(const struct eo_generator *generator, struct ports *ports, uint32_t source,
                      struct eo_failure *failure)
{
    char *at = generator->cache;

    for (uint32_t i = 0; i < generator->generation.state_count; i++) {
        const struct eo_state_spec *state = &generator->generation.states[i];
        int64_t dims[EO_MAX_RANK];
        set_dims(generator, state, source, dims);
        for (uint32_t layer = 0; layer < state->count; layer++) {
            char name[EO_NAME_BYTES];
            struct eo_tensor *past, *present;
            eo_generation_name(state->input, layer, name);
            past = port_of(generator, ports, true, name, EO_FLOAT32, failure);
            if (past == NULL) {
                return EO_EBUNDLE;
            }
            eo_generation_name(state->output, layer, name);
            present = port_of(generator, ports, false, name, EO_FLOAT32, failure);
            if (present == NULL) {
                return EO_EBUNDLE;
            }
            set(past, at, state->rank, dims);
            set(present, at, state->rank, dims);
            at += eo_cache_layer_bytes(state, generator->context);
        }
    }
    return EO_OK;
}

/* Every port has to be one of ours: an engine would read what is not set. */
static int check_ports(const struct eo_generator *generator, const struct ports *ports,
                       struct eo_failure *failure)
{
    const struct eo_engine *engine = generator->session.engine;
    const struct eo_model *model = generator->session.model;

    for (uint32_t i = 0; i < ports->input_count; i++) {
        if (ports->inputs[i].data == NULL) {
            return eo_fail(failure, EO_EBUNDLE, engine->input(model, i).name,
                           "is an input of the artifact, but not of the manifest");
        }
    }
    for (uint32_t i = 0; i < ports->output_count; i++) {
        if (ports->outputs[i].data == NULL) {
            return eo_fail(failure, EO_EBUNDLE, engine->output(model, i).name,
                           "is an output of the artifact, but not of the manifest");
        }
    }
    return EO_OK;
}

/* What is bound for one length: of a run, or of a source, which is `source` tokens long. */
static int set_all(struct eo_generator *generator, struct ports *ports, uint32_t length,
                   struct eo_failure *failure)
{
    const struct eo_manifest *manifest = generator->session.manifest;
    const bool encodes = generator->generation.start.count > 0, hears = manifest->sound_bins > 0;
    const int64_t features[] = {1, manifest->sound_bins, manifest->sound_frames};
    const int64_t logits[] = {1, (int64_t)generator->vocabulary}, one[] = {1};
    const int64_t run[] = {1, encodes ? 1 : (int64_t)length}, source[] = {1, (int64_t)length};
    const struct {
        const char *name;
        void *data;
        const int64_t *dims;
        uint32_t rank;
        int32_t dtype;
        bool is_input, is_there;
    } all[] = {{ids_name, generator->ids, run, 2, EO_INT64, true, true},
               {total_name, generator->total, one, 1, EO_INT32, true, true},
               {source_name, generator->source_ids, source, 2, EO_INT64, true, encodes && !hears},
               {source_length_name, generator->source_length, one, 1, EO_INT32, true,
                encodes && !hears},
               {features_name, generator->features, features, 3, EO_FLOAT32, true, hears},
               {logits_name, generator->logits, logits, 2, EO_FLOAT32, false, true}};

    memset(ports->inputs, 0, ports->input_count * sizeof *ports->inputs);
    memset(ports->outputs, 0, ports->output_count * sizeof *ports->outputs);
    for (size_t i = 0; i < sizeof all / sizeof all[0]; i++) {
        struct eo_tensor *tensor;
        if (!all[i].is_there) {
            continue;
        }
        tensor = port_of(generator, ports, all[i].is_input, all[i].name, all[i].dtype, failure);
        if (tensor == NULL) {
            return EO_EBUNDLE;
        }
        set(tensor, all[i].data, all[i].rank, all[i].dims);
    }
    return generator->holds ? EO_OK : set_states(generator, ports, length, failure);
}

static int bind(struct eo_generator *generator, struct eo_failure *failure)
{
    struct eo_session *session = &generator->session;
    struct ports ports = {.input_count = session->engine->input_count(session->model),
                          .output_count = session->engine->output_count(session->model)};
    int result = EO_OK;

    ports.inputs = eo_arena_take(&session->arena, ports.input_count, sizeof *ports.inputs);
    ports.outputs = eo_arena_take(&session->arena, ports.output_count, sizeof *ports.outputs);
    if (ports.inputs == NULL || ports.outputs == NULL) {
        return no_memory(failure, "bindings", 0);
    }
    for (uint32_t i = 0; result == EO_OK && i < generator->length_count; i++) {
        result = set_all(generator, &ports, generator->lengths[i], failure);
        if (result == EO_OK) {
            result = check_ports(generator, &ports, failure);
        }
        if (result == EO_OK && session->engine->bind(session->model, ports.inputs, ports.outputs,
                                                     &generator->bindings[i], failure) != 0) {
            result = failure->code;
        }
    }
    return result;
}

/* ---- opening ---- */

/* An older engine may open the graph and compute something else. */
static int check_version(const struct eo_generator *generator, struct eo_failure *failure)
{
    const struct eo_session *session = &generator->session;

    for (uint32_t i = 0; i < generator->generation.since_count; i++) {
        const struct eo_since *since = &generator->generation.since[i];
        char *ours, *wanted;
        long major = strtol(session->version, &ours, 10);
        long least = strtol(since->version, &wanted, 10);
        bool is_older = major < least;
        if (strcmp(since->engine, session->engine->name) != 0) {
            continue;
        }
        if (major == least && *ours == '.' && *wanted == '.') {
            is_older = strtol(ours + 1, NULL, 10) < strtol(wanted + 1, NULL, 10);
        }
        if (is_older) {
            return eo_fail(failure, EO_EENGINE, session->library,
                           "is version %s, and this bundle generates with %s or newer",
                           session->version, since->version);
        }
    }
    return EO_OK;
}

/* A first run finds states of other shapes than the manifest says, and starts the engine's threads. */
static int run_once(struct eo_generator *generator, struct eo_failure *failure)
{
    const struct eo_engine *engine = generator->session.engine;
    uint32_t first = generator->generation.start.count > 0 ? 0 : 1;

    generator->ids[0] = 0;
    generator->source_length[0] = 1;
    generator->held = 1;
    for (uint32_t total = first; total <= 1; total++) {
        generator->total[0] = (int32_t)total;
        if (engine->run(generator->bindings[0], failure) != 0) {
            return EO_EENGINE;
        }
    }
    return EO_OK;
}

/* Whether the cache is ours or the engine's own, which may take more than ours would. */
static int take_way(struct eo_generator *generator, const eo_generator_options *options,
                    struct eo_failure *failure)
{
    const struct eo_engine *engine = generator->session.engine;
    uint32_t times = times_of(&generator->generation, engine->name);
    int result;

    generator->holds = eo_generation_is_held(&generator->generation, engine->name);
    if (generator->holds ? engine->forget == NULL : !engine->appends) {
        return eo_fail(failure, EO_EUNSUPPORTED, engine->name, "keeps no cache in this version");
    }
    if (generator->holds && options->beams > 1) {
        return eo_fail(failure, EO_EUNSUPPORTED, engine->name,
                       "keeps its cache to itself, which beams would have to share: leave them out");
    }
    result = check_cache(generator, times, options, failure);
    generator->beams = generator->holds ? 1 : generator->beams; /* whatever the bundle says */
    return result;
}

static int open_engine(struct eo_generator *generator, const eo_generator_options *asked,
                       const eo_session_options *options, struct eo_failure *failure)
{
    int result = eo_choose(&generator->session, options, failure);

    if (result == EO_OK) {
        result = take_way(generator, asked, failure);
    }
    if (result == EO_OK) {
        result = check_version(generator, failure);
    }
    if (result == EO_OK) {
        result = check_signature(generator, failure);
    }
    if (result == EO_OK) {
        result = check_forced(generator, failure);
    }
    if (result == EO_OK) {
        result = take_lengths(generator, failure);
    }
    if (result == EO_OK) {
        result = generator->holds ? EO_OK : take_cache(generator, failure);
    }
    if (result == EO_OK) {
        result = eo_beams_open(generator, failure);
    }
    if (result == EO_OK) {
        result = take_io(generator, failure);
    }
    if (result == EO_OK) {
        result = take_texts(generator, options->max_text_bytes, failure);
    }
    if (result == EO_OK) {
        result = bind(generator, failure);
    }
    return result == EO_OK ? run_once(generator, failure) : result;
}

static int open_generator(struct eo_generator *generator, const eo_generator_options *options,
                          struct eo_failure *failure)
{
    struct eo_session *session = &generator->session;
    eo_session_options how;
    eo_cpus before;
    int result = eo_session_take_options(options->session, &how, failure);

    generator->context = options->context;
    if (result == EO_OK) {
        result = check_context(&session->bundle->manifest, &generator->context, failure);
    }
    if (result == EO_OK) {
        result = eo_generation_read(session->bundle, &session->arena, &generator->generation,
                                    failure);
    }
    if (result == EO_OK) {
        result = check_cache(generator, 1, options, failure);
    }
    if (result == EO_OK) {
        session->manifest = &session->bundle->manifest;
        result = open_tokenizer(generator, failure);
    }
    if (result == EO_OK && how.cpus == NULL) {
        how.cpus = eo_target_cpus(session->manifest);
    }
    if (result != EO_OK || how.cpus == NULL) {
        return result == EO_OK ? open_engine(generator, options, &how, failure) : result;
    }
    result = eo_affinity_set(how.cpus, &before, failure);
    if (result == EO_OK) {
        result = open_engine(generator, options, &how, failure);
        eo_affinity_restore(&before);
    }
    return result;
}

int eo_generator_open(eo_bundle *bundle, const eo_generator_options *given, eo_generator **out,
                      eo_failure *failure)
{
    struct eo_generator *generator;
    eo_generator_options options;
    struct eo_failure local;
    struct eo_failure *told = failure != NULL ? failure : &local;
    int result;

    *out = NULL;
    if (!EO_GENERATES) {
        return left_out(told);
    }
    generator = calloc(1, sizeof *generator);
    if (generator == NULL) {
        return no_memory(told, "a generator", sizeof *generator);
    }
    generator->session.bundle = bundle;
    result = take_options(given, &options, told);
    if (result == EO_OK) {
        result = open_generator(generator, &options, told);
    }
    if (result != EO_OK) {
        eo_generator_close(generator);
        return result;
    }
    *out = generator;
    return EO_OK;
}

void eo_generator_close(eo_generator *generator)
{
    struct eo_session *session;

    if (generator == NULL || !EO_GENERATES) {
        return;
    }
    session = &generator->session;
    for (uint32_t i = 0; i < generator->length_count; i++) {
        if (generator->bindings[i] != NULL) {
            session->engine->unbind(generator->bindings[i]);
        }
    }
    if (session->model != NULL) {
        session->engine->close(session->model);
    }
    eo_packed_give(session->bundle, session->packed_file, session->packed);
    eo_detokenizer_close(generator->detokenizer);
    eo_beams_close(generator);
    free(generator->cache_memory);
    free(generator->io);
    eo_arena_free(&session->arena);
    free(generator);
}
