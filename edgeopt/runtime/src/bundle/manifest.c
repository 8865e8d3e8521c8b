/* SPDX-FileCopyrightText: edgeopt contributors
 * SPDX-License-Identifier: Apache-2.0 */
#include "bundle/manifest.h"

#include "base/json_digest.h"
#include "base/json_tree.h"
#include "bundle/storage.h"

#include <stdlib.h>
#include <string.h>

/* Reading goes on after a failure and finds nothing more to do: the first failure stands. */
struct reader {
    const struct eo_json_tree *tree;
    struct eo_arena *arena;
    struct eo_failure *failure;
    int result;
    int schema;
};

static const struct eo_task tasks[] = EO_TASKS;
static const char *const kind_names[] = {EO_INPUT_KINDS, NULL};
static const char *const activation_names[] = {"none", "softmax", "sigmoid", NULL};
static const char *const pooling_names[] = {"", "mean", "cls", "max", NULL};
static const char *const dtype_names[] = {"", "float32", "int32", "int64", NULL};

static void wrong(struct reader *reader, const char *key, const char *expected)
{
    if (reader->result == EO_OK) {
        reader->result = eo_fail(reader->failure, EO_EBUNDLE, EO_MANIFEST_FILE,
                                 "%s: expected %s", key, expected);
    }
}

static void *take(struct reader *reader, size_t count, size_t bytes)
{
    void *memory = eo_arena_take(reader->arena, count, bytes);

    if (memory == NULL && reader->result == EO_OK) {
        reader->result = eo_fail(reader->failure, EO_ENOMEM, EO_MANIFEST_FILE, "no memory");
    }
    return memory;
}

/* The member `key`; 0, and a failure if it has to be there. */
static uint32_t member(struct reader *reader, uint32_t node, const char *key)
{
    uint32_t found = reader->result == EO_OK ? eo_json_member(reader->tree, node, key) : 0;

    if (found == 0) {
        wrong(reader, key, "it to be there");
    }
    return found;
}

static const char *text_of(struct reader *reader, uint32_t node, const char *key)
{
    const struct eo_json_node *found = &reader->tree->nodes[node];
    size_t bytes = (size_t)(found->end - found->begin) + 1;
    char *text = NULL;
    int64_t length;

    if (reader->result == EO_OK && found->type == EO_JSON_STRING) {
        text = take(reader, bytes, 1);
        if (text != NULL) {
            length = eo_json_string(reader->tree, node, text, bytes);
            if (length >= 0 && strlen(text) == (size_t)length) {
                return text;
            }
        }
    }
    wrong(reader, key, "a string");
    return "";
}

static const char *text_member(struct reader *reader, uint32_t node, const char *key)
{
    uint32_t found = member(reader, node, key);

    return found == 0 ? "" : text_of(reader, found, key);
}

static int64_t integer_member(struct reader *reader, uint32_t node, const char *key, int64_t low,
                              int64_t high)
{
    uint32_t found = member(reader, node, key);
    int64_t value = low;

    if (found != 0 && !eo_json_integer(reader->tree, found, low, high, &value)) {
        wrong(reader, key, "a whole number in its range");
    }
    return value;
}

static double number_of(struct reader *reader, uint32_t node, const char *key)
{
    double value = 0;

    if (node != 0 && !eo_json_number(reader->tree, node, &value)) {
        wrong(reader, key, "a number");
    }
    return value;
}

static uint32_t choice_of(struct reader *reader, uint32_t node, const char *key,
                          const char *const *names)
{
    for (uint32_t i = 0; names[i] != NULL; i++) {
        if (node != 0 && names[i][0] != '\0' && eo_json_is(reader->tree, node, names[i])) {
            return i;
        }
    }
    wrong(reader, key, "one of those that this version knows");
    return 0;
}

/* Counts the items of the array `key` and points `*items` at its node. */
static uint32_t array_member(struct reader *reader, uint32_t node, const char *key,
                             uint32_t *items)
{
    *items = member(reader, node, key);
    if (*items != 0 && reader->tree->nodes[*items].type == EO_JSON_ARRAY) {
        return eo_json_length(reader->tree, *items);
    }
    wrong(reader, key, "an array");
    return 0;
}

static uint32_t limited(struct reader *reader, const char *key, uint32_t count, uint32_t most)
{
    if (count > most) {
        wrong(reader, key, "not so many");
        return 0;
    }
    return count;
}

static bool boolean_member(struct reader *reader, uint32_t node, const char *key)
{
    uint32_t found = member(reader, node, key);
    uint32_t type = found == 0 ? EO_JSON_FALSE : reader->tree->nodes[found].type;

    if (type != EO_JSON_TRUE && type != EO_JSON_FALSE) {
        wrong(reader, key, "true or false");
    }
    return type == EO_JSON_TRUE;
}

/* Whether `*item`, which begins as 0, can be moved to the next item of `array`. */
static bool next_item(const struct reader *reader, uint32_t array, uint32_t *item)
{
    if (reader->result != EO_OK || array == 0) {
        return false;
    }
    *item = *item == 0 ? array + 1 : reader->tree->nodes[*item].next;
    return *item < reader->tree->nodes[array].next;
}

static int64_t read_dim(struct reader *reader, uint32_t node)
{
    int64_t size = 0;

    if (eo_json_is(reader->tree, node, "batch")) {
        return EO_DIM_BATCH;
    }
    if (eo_json_is(reader->tree, node, "seq")) {
        return EO_DIM_SEQ;
    }
    if (!eo_json_integer(reader->tree, node, 1, INT32_MAX, &size)) {
        wrong(reader, "dims", "a size, \"batch\" or \"seq\"");
    }
    return size;
}

static const struct eo_task *task_member(struct reader *reader, uint32_t node)
{
    uint32_t found = member(reader, node, "task");

    for (size_t i = 0; found != 0 && i < sizeof tasks / sizeof *tasks; i++) {
        if (eo_json_is(reader->tree, found, tasks[i].name)) {
            return &tasks[i];
        }
    }
    wrong(reader, "task", "one of those that this version knows");
    return &tasks[0];
}

static void not_run(struct reader *reader, const char *what)
{
    if (reader->result == EO_OK) {
        reader->result = eo_fail(reader->failure, EO_EUNSUPPORTED, EO_MANIFEST_FILE, "%s", what);
    }
}

/* The node of the one graph `name` of `node`, which is that itself in schema 2. */
static uint32_t graph_member(struct reader *reader, uint32_t node, const char *name)
{
    uint32_t graphs, graph, states;

    if (reader->schema == 2) {
        return node;
    }
    graphs = member(reader, node, "graphs");
    graph = graphs == 0 ? 0 : member(reader, graphs, name);
    states = reader->result == EO_OK ? eo_json_member(reader->tree, graph, "states") : 0;
    if (states != 0 && eo_json_length(reader->tree, states) > 0) {
        not_run(reader, "has states, which this runtime does not keep");
    }
    return graph;
}

static uint32_t read_specs(struct reader *reader, uint32_t node, const char *key,
                           struct eo_spec *specs)
{
    uint32_t array, item = 0, count = array_member(reader, node, key, &array);

    if (count > EO_MAX_TENSORS) {
        wrong(reader, key, "up to 16 tensors");
    }
    for (struct eo_spec *spec = specs; next_item(reader, array, &item); spec++) {
        uint32_t dims, dim = 0;
        spec->name = text_member(reader, item, "name");
        spec->dtype =
            (int32_t)choice_of(reader, member(reader, item, "dtype"), "dtype", dtype_names);
        if (array_member(reader, item, "dims", &dims) > EO_MAX_RANK) {
            wrong(reader, "dims", "up to 8 of them");
        }
        while (next_item(reader, dims, &dim)) {
            spec->dims[spec->rank++] = read_dim(reader, dim);
        }
        if (reader->result == EO_OK && eo_json_member(reader->tree, item, "limit") != 0) {
            spec->limit = integer_member(reader, item, "limit", 1, INT32_MAX);
        }
    }
    return count;
}

static void read_signature(struct reader *reader, uint32_t node, struct eo_signature *signature)
{
    uint32_t found = member(reader, node, "signature");

    if (found != 0) {
        signature->input_count = read_specs(reader, found, "inputs", signature->inputs);
        signature->output_count = read_specs(reader, found, "outputs", signature->outputs);
    }
}

/* Schema 2 has limits beside the signature, in an optional object by the inputs' names. */
static void read_limits(struct reader *reader, struct eo_signature *signature)
{
    uint32_t object = reader->result == EO_OK ? eo_json_member(reader->tree, 0, "limits") : 0;

    if (object != 0 && reader->tree->nodes[object].type != EO_JSON_OBJECT) {
        wrong(reader, "limits", "an object");
    }
    for (uint32_t i = 0; object != 0 && reader->result == EO_OK && i < signature->input_count; i++) {
        struct eo_spec *spec = &signature->inputs[i];
        uint32_t found = eo_json_member(reader->tree, object, spec->name);
        if (found != 0 && !eo_json_integer(reader->tree, found, 1, INT32_MAX, &spec->limit)) {
            wrong(reader, "limits", "whole numbers above 0");
        }
    }
}

static void read_labels(struct reader *reader, struct eo_manifest *manifest)
{
    uint32_t array, item = 0, count = array_member(reader, 0, "labels", &array);
    const char **labels = take(reader, count, sizeof *labels);

    for (uint32_t i = 0; next_item(reader, array, &item); i++) {
        labels[i] = text_of(reader, item, "labels");
    }
    manifest->labels = labels;
    manifest->label_count = count;
}

static void read_pooling(struct reader *reader, struct eo_manifest *manifest)
{
    uint32_t found = member(reader, 0, "pooling");

    if (found != 0 && reader->tree->nodes[found].type != EO_JSON_NULL) {
        manifest->pooling =
            choice_of(reader, member(reader, found, "mode"), "pooling.mode", pooling_names);
        manifest->normalize = boolean_member(reader, found, "normalize");
    }
}

static void read_prompt(struct reader *reader, uint32_t node, struct eo_manifest *manifest)
{
    uint32_t found = reader->result == EO_OK ? eo_json_member(reader->tree, node, "prompt") : 0;

    manifest->prompt = found == 0 ? "" : text_of(reader, found, "prompt");
    if (manifest->prompt[0] != '\0' && manifest->task->result != EO_EMBEDDING &&
        manifest->task->result != EO_SCORES) {
        wrong(reader, "prompt", "none for this task"); /* places in the text would be moved */
    }
}

static void read_tokenizer(struct reader *reader, uint32_t node, struct eo_manifest *manifest)
{
    static const char name[] = "/tokenizer.json";
    uint32_t array, item = 0;

    (void)array_member(reader, node, "tokenizer", &array);
    while (next_item(reader, array, &item)) {
        const char *file = text_of(reader, item, "tokenizer");
        size_t bytes = strlen(file);
        if (bytes >= sizeof name && strcmp(file + bytes - (sizeof name - 1), name) == 0) {
            manifest->tokenizer = file;
        }
    }
}

static bool read_hex(const char *text, uint8_t *bytes, size_t count)
{
    for (size_t i = 0; i < 2 * count; i++) {
        int c = text[i];
        int value = c >= '0' && c <= '9' ? c - '0' : c >= 'a' && c <= 'f' ? c - 'a' + 10 : -1;
        if (value < 0) {
            return false; /* the end of a shorter text too */
        }
        bytes[i / 2] = (uint8_t)((i % 2 == 0 ? 0 : bytes[i / 2]) << 4 | value);
    }
    return text[2 * count] == '\0';
}

static int compare_files(const void *left, const void *right)
{
    const struct eo_listed_file *a = left, *b = right;

    return strcmp(a->name, b->name);
}

static void read_files(struct reader *reader, struct eo_manifest *manifest)
{
    const struct eo_json_tree *tree = reader->tree;
    uint32_t object = member(reader, 0, "files");
    uint32_t count = limited(reader, "files", object == 0 ? 0 : eo_json_length(tree, object),
                             EO_MANIFEST_MAX_FILES);
    struct eo_listed_file *files = take(reader, count, sizeof *files);
    uint32_t i = 0;

    if (object != 0 && tree->nodes[object].type != EO_JSON_OBJECT) {
        wrong(reader, "files", "an object");
    }
    for (uint32_t key = object + 1; reader->result == EO_OK && key < tree->nodes[object].next;
         key = tree->nodes[key + 1].next) {
        struct eo_listed_file *file = &files[i++];
        file->name = text_of(reader, key, "files");
        if (reader->result == EO_OK && !eo_storage_is_inside(file->name)) {
            reader->result = eo_fail(reader->failure, EO_EBUNDLE, file->name,
                                     "does not lie inside the bundle");
        }
        file->bytes = (uint64_t)integer_member(reader, key + 1, "bytes", 0, INT64_MAX);
        if (!read_hex(text_member(reader, key + 1, "sha256"), file->sha256, sizeof file->sha256)) {
            wrong(reader, "sha256", "64 hex digits");
        }
    }
    if (reader->result == EO_OK) {
        qsort(files, count, sizeof *files, compare_files);
    }
    manifest->files = files;
    manifest->file_count = count;
}

int64_t eo_manifest_find(const struct eo_manifest *manifest, const char *name)
{
    const struct eo_listed_file key = {.name = name};
    const struct eo_listed_file *found =
        manifest->file_count == 0 ? NULL
                                  : bsearch(&key, manifest->files, manifest->file_count,
                                            sizeof *manifest->files, compare_files);

    return found == NULL ? -1 : found - manifest->files;
}

static void read_artifact_files(struct reader *reader, uint32_t node,
                                const struct eo_manifest *manifest,
                                struct eo_artifact_entry *artifact)
{
    uint32_t array, item = 0, count = array_member(reader, node, "files", &array);
    uint32_t *files = take(reader, count, sizeof *files);

    if (count == 0) {
        wrong(reader, "artifacts.files", "at least one");
    }
    for (uint32_t i = 0; next_item(reader, array, &item); i++) {
        int64_t found = eo_manifest_find(manifest, text_of(reader, item, "artifacts.files"));
        if (found < 0) {
            wrong(reader, "artifacts.files", "names that are among the files");
        }
        files[i] = (uint32_t)found;
    }
    artifact->files = files;
    artifact->file_count = count;
}

static void read_seq_lens(struct reader *reader, uint32_t node, int32_t max_seq_len,
                          struct eo_artifact_entry *artifact)
{
    uint32_t array, item = 0, count = array_member(reader, node, "seq_lens", &array);
    int32_t *lens = take(reader, count, sizeof *lens);

    for (uint32_t i = 0; next_item(reader, array, &item); i++) {
        int64_t len = 0;
        if (!eo_json_integer(reader->tree, item, i == 0 ? 1 : lens[i - 1] + 1, max_seq_len, &len)) {
            wrong(reader, "seq_lens", "growing numbers up to max_seq_len");
        }
        lens[i] = (int32_t)len;
    }
    artifact->seq_lens = lens;
    artifact->seq_len_count = count;
}

static void read_options(struct reader *reader, uint32_t node, struct eo_artifact_entry *artifact)
{
    const struct eo_json_tree *tree = reader->tree;
    uint32_t object = member(reader, node, "options");
    uint32_t count = object == 0 ? 0 : eo_json_length(tree, object);
    struct eo_option *options = take(reader, count, sizeof *options);
    uint32_t i = 0;

    for (uint32_t key = object + 1; reader->result == EO_OK && key < tree->nodes[object].next;
         key = tree->nodes[key + 1].next) {
        options[i].key = text_of(reader, key, "options");
        options[i++].value = text_of(reader, key + 1, "options");
    }
    artifact->options = options;
    artifact->option_count = count;
}

/* The manifest of the graph that the artifact `node` is of; `manifest` itself after a failure. */
static const struct eo_manifest *graph_of(struct reader *reader, uint32_t node,
                                          const struct eo_manifest *manifest)
{
    uint32_t graphs = reader->schema == 2 ? 0 : member(reader, node, "graphs");

    if (manifest->graph_count == 1) {
        if (graphs != 0 && eo_json_length(reader->tree, graphs) > 1) {
            wrong(reader, "artifacts.graphs", "as many graphs as the model has");
        }
        return manifest;
    }
    for (uint32_t i = 0; i < manifest->graph_count; i++) {
        if (reader->result == EO_OK && eo_json_length(reader->tree, graphs) == 1 &&
            eo_json_member(reader->tree, graphs, manifest->graphs[i].graph) != 0) {
            return &manifest->graphs[i];
        }
    }
    wrong(reader, "artifacts.graphs", "one of the model's");
    return manifest;
}

static void read_artifacts(struct reader *reader, struct eo_manifest *manifest)
{
    uint32_t array, item = 0;
    uint32_t count = limited(reader, "artifacts", array_member(reader, 0, "artifacts", &array),
                             EO_MANIFEST_MAX_ARTIFACTS);
    struct eo_artifact_entry *artifacts = take(reader, count, sizeof *artifacts);

    for (uint32_t i = 0; next_item(reader, array, &item); i++) {
        struct eo_artifact_entry *artifact = &artifacts[i];
        uint32_t own = reader->schema == 2 ? item : member(reader, item, "artifact");
        const struct eo_manifest *of = graph_of(reader, own, manifest);
        uint32_t graph = graph_member(reader, own, of->graph);
        artifact->graph = of->graph;
        artifact->engine = text_member(reader, own, "engine");
        artifact->engine_version = text_member(reader, item, "engine_version");
        artifact->precision = text_member(reader, own, "precision");
        artifact->bytes = (uint64_t)integer_member(reader, item, "bytes", 0, INT64_MAX);
        artifact->bound = number_of(reader, member(reader, item, "bound"), "bound");
        if (artifact->bound < -1 || artifact->bound > 1) {
            wrong(reader, "bound", "a number from -1 to 1");
        }
        read_artifact_files(reader, graph, manifest, artifact);
        read_signature(reader, graph, &artifact->signature);
        read_seq_lens(reader, graph, of->max_seq_len, artifact);
        read_options(reader, own, artifact);
        if (artifact->signature.input_count != of->signature.input_count ||
            artifact->signature.output_count != of->signature.output_count) {
            wrong(reader, "artifacts.signature", "as many tensors as the model's");
        }
    }
    manifest->artifacts = artifacts;
    manifest->artifact_count = count;
}

static void read_goldens(struct reader *reader, struct eo_manifest *manifest)
{
    uint32_t array, item = 0;
    uint32_t count = limited(reader, "golden", array_member(reader, 0, "golden", &array),
                             EO_MANIFEST_MAX_FILES);
    struct eo_golden_entry *goldens = take(reader, count, sizeof *goldens);

    for (uint32_t i = 0; next_item(reader, array, &item); i++) {
        uint32_t graph =
            reader->result == EO_OK ? eo_json_member(reader->tree, item, "graph") : 0;
        goldens[i].graph = graph == 0 ? EO_MAIN_GRAPH : text_of(reader, graph, "graph");
        goldens[i].directory = text_member(reader, item, "directory");
        goldens[i].seq_len = (int32_t)integer_member(reader, item, "seq_len", 0, INT32_MAX);
    }
    manifest->goldens = goldens;
    manifest->golden_count = count;
}

static void read_target(struct reader *reader, struct eo_manifest *manifest)
{
    uint32_t target = member(reader, 0, "target"), cpus;

    if (target != 0) {
        manifest->arch = text_member(reader, target, "arch");
        manifest->threads = (int32_t)integer_member(reader, target, "threads", 1, 1024);
        cpus = member(reader, target, "cpus");
        if (cpus != 0 && reader->tree->nodes[cpus].type != EO_JSON_NULL) {
            manifest->cpus = text_of(reader, cpus, "cpus");
        }
    }
}

static void read_channels(struct reader *reader, uint32_t node, const char *key,
                          float channels[EO_IMAGE_CHANNELS])
{
    uint32_t array, item = 0;

    if (array_member(reader, node, key, &array) != EO_IMAGE_CHANNELS) {
        wrong(reader, key, "one number for each channel");
    }
    for (uint32_t i = 0; next_item(reader, array, &item); i++) {
        channels[i] = (float)number_of(reader, item, key);
    }
}

static void read_image(struct reader *reader, uint32_t node, struct eo_manifest *manifest)
{
    struct eo_image_spec *image = &manifest->image;

    manifest->has_image = true;
    image->height = (uint32_t)integer_member(reader, node, "height", 1, EO_IMAGE_SIDE_MAX);
    image->width = (uint32_t)integer_member(reader, node, "width", 1, EO_IMAGE_SIDE_MAX);
    image->resize_height =
        (uint32_t)integer_member(reader, node, "resize_height", 1, EO_IMAGE_SIDE_MAX);
    image->resize_width =
        (uint32_t)integer_member(reader, node, "resize_width", 1, EO_IMAGE_SIDE_MAX);
    image->resample = (int32_t)integer_member(reader, node, "resample", 0, INT32_MAX);
    image->rescale_factor =
        number_of(reader, member(reader, node, "rescale_factor"), "rescale_factor");
    if (reader->result == EO_OK && eo_json_member(reader->tree, node, "keep_shape") != 0) {
        image->keep_shape = boolean_member(reader, node, "keep_shape");
    }
    read_channels(reader, node, "mean", image->mean);
    read_channels(reader, node, "std", image->std);
    if (reader->result == EO_OK) {
        reader->result = eo_image_check(image, reader->failure) == EO_OK ? EO_OK : EO_EBUNDLE;
    }
}

static void read_text(struct reader *reader, uint32_t node, struct eo_manifest *manifest)
{
    int64_t least = reader->schema == 2 ? 0 : 1; /* 0 stood for a model of images */

    manifest->max_seq_len = (int32_t)integer_member(reader, node, "max_seq_len", least, 1 << 20);
    manifest->pad_id = (int32_t)integer_member(reader, node, "pad_id", 0, INT32_MAX);
    manifest->token_types = boolean_member(reader, node, "token_types");
    read_prompt(reader, node, manifest);
    read_tokenizer(reader, node, manifest);
}

/* Rate, window and hop are those that Whisper has (audio/mel.h). */
static void read_audio(struct reader *reader, uint32_t input, struct eo_manifest *manifest)
{
    uint32_t node = member(reader, input, "mel");
    int64_t samples = integer_member(reader, node, "samples", 320, 1 << 24);

    (void)integer_member(reader, node, "sample_rate", 16000, 16000);
    (void)integer_member(reader, node, "window", 400, 400);
    (void)integer_member(reader, node, "hop", 160, 160);
    manifest->sound_bins = (uint32_t)integer_member(reader, node, "bins", 1, 128);
    manifest->sound_frames = (uint32_t)samples / 320 * 2;
}

/* Schema 2 has all of a text's settings for a model of images too, and null for one of texts. */
static void read_input(struct reader *reader, uint32_t from, struct eo_manifest *manifest)
{
    uint32_t node = member(reader, from, reader->schema == 2 ? "image" : "input");

    manifest->prompt = "";
    if (reader->schema == 2) {
        read_text(reader, 0, manifest);
        if (node != 0 && reader->tree->nodes[node].type != EO_JSON_NULL) {
            read_image(reader, node, manifest);
        }
        return;
    }
    if (choice_of(reader, node == 0 ? 0 : member(reader, node, "kind"), "kind", kind_names) !=
        (uint32_t)manifest->task->input) {
        wrong(reader, "input", "the task's kind");
    }
    if (manifest->task->input == EO_IMAGE) {
        read_image(reader, node, manifest);
        return;
    }
    if (manifest->task->input == EO_AUDIO) {
        read_audio(reader, node, manifest);
        node = member(reader, node, "text");
    }
    if (reader->result == EO_OK) {
        read_text(reader, node, manifest);
    }
}

/* Reads what depends on the graph `name`, whose input stands in node `input`. */
static void read_graph(struct reader *reader, const char *name, uint32_t input,
                       struct eo_manifest *manifest)
{
    manifest->graph = name;
    if (manifest->task->outputs == 0) {
        wrong(reader, "task", "one of a single graph");
    }
    read_input(reader, input, manifest);
    read_signature(reader, graph_member(reader, 0, name), &manifest->signature);
}

/* The graphs of a model whose task has no outputs itself: each has a task of its own. */
static struct eo_manifest *read_graphs(struct reader *reader, uint32_t graphs,
                                       struct eo_manifest *manifest)
{
    const struct eo_json_tree *tree = reader->tree;
    uint32_t count = limited(reader, "graphs", eo_json_length(tree, graphs), EO_MAX_TENSORS);
    uint32_t similarity = member(reader, 0, "similarity"), i = 0;
    struct eo_manifest *found = take(reader, count, sizeof *found);

    for (uint32_t key = graphs + 1; reader->result == EO_OK && key < tree->nodes[graphs].next;
         key = tree->nodes[key + 1].next, i++) {
        found[i] = *manifest;
        found[i].task = task_member(reader, key + 1);
        read_graph(reader, text_of(reader, key, "graphs"),
                   reader->result == EO_OK && eo_json_member(tree, key + 1, "input") != 0 ? key + 1
                                                                                          : 0,
                   &found[i]);
        manifest->tokenizer =
            found[i].tokenizer == NULL ? manifest->tokenizer : found[i].tokenizer;
        found[i].activation = EO_NO_ACTIVATION;
    }
    manifest->graph = "";
    manifest->graphs = found;
    manifest->graph_count = count;
    manifest->scale = number_of(reader, member(reader, similarity, "scale"), "scale");
    if (reader->result == EO_OK && eo_json_member(tree, similarity, "bias") != 0) {
        manifest->bias = number_of(reader, member(reader, similarity, "bias"), "bias");
    }
    return found;
}

/* Each graph's manifest lists what was read after it, and itself alone. */
static void complete_graphs(struct eo_manifest *all, struct eo_manifest *graphs)
{
    for (uint32_t i = 0; i < all->graph_count; i++) {
        graphs[i].artifacts = all->artifacts;
        graphs[i].artifact_count = all->artifact_count;
        graphs[i].goldens = all->goldens;
        graphs[i].golden_count = all->golden_count;
        graphs[i].graphs = &graphs[i];
        graphs[i].graph_count = 1;
    }
}

const struct eo_manifest *eo_manifest_graph(const struct eo_manifest *manifest, const char *name)
{
    if (name == NULL) {
        return manifest->graph_count == 1 ? manifest->graphs : NULL;
    }
    for (uint32_t i = 0; i < manifest->graph_count; i++) {
        if (strcmp(manifest->graphs[i].graph, name) == 0) {
            return &manifest->graphs[i];
        }
    }
    return NULL;
}

static void read_document(struct reader *reader, struct eo_manifest *manifest)
{
    uint32_t activation, graphs = 0;
    struct eo_manifest *several = NULL;

    manifest->name = text_member(reader, 0, "name");
    manifest->task = task_member(reader, 0);
    activation = member(reader, 0, "activation");
    manifest->activation = choice_of(reader, activation, "activation", activation_names);
    read_labels(reader, manifest);
    read_pooling(reader, manifest);
    read_target(reader, manifest);
    read_files(reader, manifest);
    if (reader->schema != 2) {
        graphs = member(reader, 0, "graphs");
    }
    if (graphs != 0 && reader->tree->nodes[graphs].type == EO_JSON_OBJECT &&
        eo_json_length(reader->tree, graphs) > 1) {
        if (manifest->task->outputs != 0) {
            not_run(reader, "has several graphs, this runtime runs one");
        }
        several = read_graphs(reader, graphs, manifest);
    } else {
        read_graph(reader, EO_MAIN_GRAPH, 0, manifest);
        manifest->graphs = manifest;
        manifest->graph_count = 1;
    }
    if (reader->schema == 2) {
        read_limits(reader, &manifest->signature);
    }
    read_artifacts(reader, manifest);
    read_goldens(reader, manifest);
    if (several != NULL) {
        complete_graphs(manifest, several);
    }
}

static void check_digest(struct reader *reader, struct eo_manifest *manifest)
{
    uint8_t stated[32], found[32];

    manifest->digest = text_member(reader, 0, "digest");
    if (reader->result == EO_OK && !read_hex(manifest->digest, stated, sizeof stated)) {
        wrong(reader, "digest", "64 hex digits");
    }
    if (reader->result == EO_OK) {
        reader->result = eo_json_digest(reader->tree, "digest", found, reader->failure);
    }
#ifndef FUZZING_BUILD_MODE_UNSAFE_FOR_PRODUCTION
    if (reader->result == EO_OK && memcmp(stated, found, sizeof stated) != 0) {
        reader->result = eo_fail(reader->failure, EO_EBUNDLE, EO_MANIFEST_FILE,
                                 "was changed: its digest does not match its content");
    }
#endif
}

int eo_manifest_read(const char *text, size_t bytes, struct eo_arena *arena,
                     struct eo_manifest *manifest, struct eo_failure *failure)
{
    struct eo_json_tree tree;
    struct reader reader = {.tree = &tree, .arena = arena, .failure = failure};

    memset(manifest, 0, sizeof *manifest);
    if (bytes > EO_MANIFEST_MAX_BYTES) {
        return eo_fail(failure, EO_EBUNDLE, EO_MANIFEST_FILE, "has %zu bytes, expected up to %zu",
                       bytes, EO_MANIFEST_MAX_BYTES);
    }
    reader.result = eo_json_parse(text, bytes, EO_MANIFEST_FILE, &tree, failure);
    if (reader.result == EO_OK) {
        reader.schema = (int)integer_member(&reader, 0, "schema_version", 1, INT32_MAX);
    }
    if (reader.result == EO_OK &&
        (reader.schema < EO_MANIFEST_OLDEST || reader.schema > EO_MANIFEST_SCHEMA)) {
        reader.result = eo_fail(
            failure, EO_EUNSUPPORTED, EO_MANIFEST_FILE,
            "schema version %d, this runtime reads %d and %d; compile the model again",
            reader.schema, EO_MANIFEST_OLDEST, EO_MANIFEST_SCHEMA);
    }
    if (reader.result == EO_OK) {
        check_digest(&reader, manifest);
    }
    if (reader.result == EO_OK) {
        read_document(&reader, manifest);
    }
    eo_json_free(&tree);
    return reader.result;
}
