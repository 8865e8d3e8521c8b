/* SPDX-FileCopyrightText: edgeopt contributors
 * SPDX-License-Identifier: Apache-2.0 */
/* edgeopt-agent: opens a bundle on the board with the runtime library, checks an artifact against its
 * golden outputs, and times it. */
#include "arguments.h"
#include "base/affinity.h"
#include "base/arch.h"
#include "base/json_tree.h"
#include "clock.h"
#include "compare.h"
#include "events.h"
#include "golden.h"
#include "golden_texts.h"
#include "measure.h"
#include "operators.h"
#include "process.h"
#include "sampler.h"
#include "tokenizer/tokenizer.h"

#include <poll.h>
#include <signal.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <unistd.h>

enum { EXIT_FAILED = 1, EXIT_ARGUMENTS = 2, EXIT_READER_GONE = 3 };

struct job {
    const struct eo_arguments *arguments;
    struct eo_events *events;
    struct eo_bundle *bundle;
    struct eo_session *session;
    const struct encoder *encoder; /* of the command `tokens` alone */
    int64_t rss_before_bytes;
    int64_t rss_loaded_bytes;
    bool has_run; /* the session, once */
    const struct eo_text *text; /* that is timed; of the command `texts` alone */
    int64_t heard_ns; /* when the host last wrote to stdin; 0: never */
    bool is_warmup;
};

static int reader_gone(struct eo_events *events, struct eo_failure *failure)
{
    return eo_events_is_broken(events) ? eo_fail(failure, EO_EIO, "stdout", "its reader is gone")
                                   : EO_OK;
}

/* A host that writes to stdin while the agent measures, and then ends or is silent for long, is gone:
 * a link that stalls has no end, and the agent would be in the way of the next measurement. One that
 * never wrote is not waited for. */
static int host_gone(struct job *job, struct eo_failure *failure)
{
    const int64_t silence_ns = INT64_C(1000000000) * EO_SILENCE_S;
    struct pollfd input = {.fd = STDIN_FILENO, .events = POLLIN};
    int64_t now_ns = eo_clock_wall_ns();
    ssize_t got = 1;
    char beats[64];

    while (got > 0 && poll(&input, 1, 0) > 0) {
        got = read(STDIN_FILENO, beats, sizeof beats);
        job->heard_ns = got > 0 ? now_ns : job->heard_ns;
    }
    return job->heard_ns != 0 && (got == 0 || now_ns - job->heard_ns > silence_ns)
               ? eo_fail(failure, EO_EIO, "stdin", "the host is gone")
               : EO_OK;
}

static void say_hello(struct eo_events *events)
{
    eo_events_begin(events, "hello");
    eo_events_text(events, "agent", EO_VERSION);
    eo_events_text(events, "arch", EO_ARCH);
    eo_events_integer(events, "pid", (int64_t)getpid());
    eo_events_end(events);
}

/* Gives this thread, which computes too, the CPUs of the engine's threads. What is wrong with them
 * the session tells, and that a bundle's own do not exist here is no failure. */
static void pin(const struct job *job, const char *asked)
{
    eo_cpus before;

    (void)eo_affinity_set(asked != NULL ? asked : job->bundle->manifest.cpus, &before, NULL);
}

static int open_job(struct job *job, struct eo_failure *failure)
{
    const struct eo_arguments *arguments = job->arguments;
    char cpus[128];
    int64_t begin_ns;
    int result = eo_bundle_open(arguments->bundle, &job->bundle, failure);

    if (result != EO_OK) {
        return result;
    }
    if (arguments->session.cpus != NULL || job->bundle->manifest.cpus != NULL) {
        pin(job, arguments->session.cpus);
    }
    job->rss_before_bytes = eo_process_rss_bytes();
    begin_ns = eo_clock_wall_ns();
    result = eo_session_open(job->bundle, &arguments->session, &job->session, failure);
    if (result != EO_OK) {
        return result;
    }
    eo_events_begin(job->events, "engine");
    eo_events_text(job->events, "engine", eo_session_engine(job->session));
    eo_events_text(job->events, "version", eo_session_engine_version(job->session));
    eo_events_text(job->events, "precision", eo_session_precision(job->session));
    eo_events_text(job->events, "library", eo_session_library(job->session));
    eo_events_integer(job->events, "load_ns", eo_clock_wall_ns() - begin_ns);
    eo_process_cpus(cpus, sizeof cpus);
    eo_events_text(job->events, "cpus", cpus);
    eo_events_end(job->events);
    job->rss_loaded_bytes = eo_process_rss_bytes();
    return reader_gone(job->events, failure);
}

/* Emits one golden event; returns whether the output agrees. */
static bool compare_output(const struct job *job, const struct eo_golden *golden, uint32_t index)
{
    const struct eo_tensor *expected = &golden->outputs[index];
    const struct eo_tensor *got = eo_session_output(job->session, index);
    struct eo_agreement agreement =
        eo_compare(got, expected, eo_golden_mask(golden, job->session));
    bool agrees = agreement.cosine >= job->session->entry->bound; /* false for NaN */

    eo_events_begin(job->events, "golden");
    eo_events_text(job->events, "directory", golden->directory);
    eo_events_text(job->events, "output", eo_session_output_name(job->session, index));
    eo_events_number(job->events, "cosine", agreement.cosine);
    eo_events_number(job->events, "max_abs_error", agreement.max_abs_error);
    eo_events_bool(job->events, "agrees", agrees);
    if (!agreement.same_shape) {
        char found[128], wanted[128], reason[320];
        eo_shape_text(got, found, sizeof found);
        eo_shape_text(expected, wanted, sizeof wanted);
        if (snprintf(reason, sizeof reason, "shape %s, expected %s", found, wanted) > 0) {
            eo_events_text(job->events, "reason", reason);
        }
    } else if (!(agreement.cosine == agreement.cosine)) {
        eo_events_text(job->events, "reason", "NaN or infinity");
    }
    eo_events_end(job->events);
    return agrees;
}

/* Runs the session; of its first run ever it says how long that took. */
static int run_golden(struct job *job, struct eo_failure *failure)
{
    int64_t begin_ns = eo_clock_wall_ns();
    int result = eo_session_run(job->session, failure);

    if (result == EO_OK && !job->has_run) {
        eo_events_begin(job->events, "first");
        eo_events_integer(job->events, "wall_ns", eo_clock_wall_ns() - begin_ns);
        eo_events_end(job->events);
    }
    job->has_run = true;
    return result;
}

static int check_golden(struct job *job, const struct eo_golden *golden, bool *agree,
                        struct eo_failure *failure)
{
    int result = eo_golden_fill(golden, job->session, failure);

    if (result == EO_OK) {
        result = run_golden(job, failure);
    }
    for (uint32_t i = 0; result == EO_OK && i < eo_session_output_count(job->session); i++) {
        *agree = compare_output(job, golden, i) && *agree;
    }
    return result == EO_OK ? reader_gone(job->events, failure) : result;
}

static bool is_timed(const struct job *job, const struct eo_golden_entry *entry, int32_t seq_len)
{
    return entry->seq_len == seq_len && strcmp(entry->graph, job->session->manifest->graph) == 0;
}

/* Checks goldens of one length from the last to the first, so that the first stays in the inputs for
 * the timing: the last alone if `begins`, which is the session's first run, else the others. If there
 * is but one, its inputs are put back then. */
static int check_goldens(struct job *job, bool begins, bool *agree, struct eo_failure *failure)
{
    const struct eo_manifest *manifest = job->session->manifest;
    int32_t seq_len = job->arguments->seq_len;
    struct eo_golden *golden = malloc(sizeof *golden);
    uint32_t count = 0, seen = 0;
    int result = EO_OK;

    if (golden == NULL) {
        return eo_fail(failure, EO_ENOMEM, "goldens", "no memory");
    }
    for (uint32_t i = 0; job->arguments->seq_len == 0 && i < manifest->golden_count; i++) {
        int32_t len = manifest->goldens[i].seq_len;
        seq_len = len <= job->session->max_seq_len && len > seq_len ? len : seq_len;
    }
    for (uint32_t i = 0; i < manifest->golden_count; i++) {
        count += is_timed(job, &manifest->goldens[i], seq_len);
    }
    for (uint32_t i = manifest->golden_count; result == EO_OK && i > 0; i--) {
        const struct eo_golden_entry *entry = &manifest->goldens[i - 1];
        bool is_last = seen == 0;
        if (!is_timed(job, entry, seq_len)) {
            continue;
        }
        seen++;
        if (begins ? is_last : !is_last || count == 1) {
            result = eo_golden_open(job->bundle, manifest, entry->directory, golden, failure);
            if (result == EO_OK) {
                result = begins || count > 1 ? check_golden(job, golden, agree, failure)
                                             : eo_golden_fill(golden, job->session, failure);
            }
            eo_golden_close(golden);
        }
    }
    free(golden);
    if (result == EO_OK && count == 0) {
        return eo_fail(failure, EO_EINPUT, "--seq-len",
                       "the bundle has no golden call of %d tokens", (int)seq_len);
    }
    return result;
}

static int timed_run(void *context, struct eo_failure *failure)
{
    const struct job *job = context;

    return eo_session_run(job->session, failure);
}

static int send_samples(void *context, const struct eo_samples *samples, struct eo_failure *failure)
{
    struct job *job = context;

    eo_events_begin(job->events, job->is_warmup ? "warmup" : "samples");
    eo_events_integer(job->events, "first", samples->first);
    eo_events_integers(job->events, job->is_warmup ? "ns" : "wall_ns", samples->wall_ns, samples->count);
    if (!job->is_warmup) {
        eo_events_span(job->events, samples->begin_ns, samples->end_ns);
        eo_events_integers(job->events, "cpu_ns", samples->cpu_ns, samples->count);
    }
    eo_events_end(job->events);
    return reader_gone(job->events, failure) == EO_OK ? host_gone(job, failure) : failure->code;
}

static int time_runs(struct job *job, int64_t runs, int64_t duration_ms, struct eo_failure *failure)
{
    const struct eo_timed timed = {.context = job, .run = timed_run, .samples = send_samples};

    return eo_measure(&timed, runs, duration_ms * 1000000, failure);
}

static int warm_up(struct job *job, struct eo_failure *failure)
{
    int result;

    job->is_warmup = true;
    result = time_runs(job, job->arguments->warmup, 0, failure);
    job->is_warmup = false;
    return result;
}

/* Reads how many runs the next block has: a number in a line; 0 at the end of the input. Empty lines
 * say that the host lives. Reads byte by byte, so that nothing of a later block is lost. */
static int next_block(int64_t *runs, struct eo_failure *failure)
{
    struct pollfd input = {.fd = STDIN_FILENO, .events = POLLIN};
    bool digits = false;
    char byte = 0;

    *runs = 0;
    for (;;) {
        ssize_t got = poll(&input, 1, EO_SILENCE_S * 1000) > 0 ? read(STDIN_FILENO, &byte, 1) : -1;
        if (got == 0) {
            return digits ? eo_fail(failure, EO_EINPUT, "stdin", "ends within a line") : EO_OK;
        }
        if (got < 0) {
            return eo_fail(failure, EO_EIO, "stdin", "the host is gone");
        }
        if (byte == '\n' && *runs > 0) {
            return EO_OK;
        }
        if (byte != '\n' && (byte < '0' || byte > '9' || *runs > 100000000)) {
            return eo_fail(failure, EO_EINPUT, "stdin", "expected a number of runs in each line");
        }
        digits = byte != '\n';
        *runs = digits ? *runs * 10 + (byte - '0') : 0;
    }
}

static void say_ready(const struct job *job)
{
    eo_events_begin(job->events, "ready");
    eo_events_end(job->events);
}

/* Times the blocks of runs that the host asks for, one by one: another program runs in between. */
static int time_blocks(struct job *job, struct eo_failure *failure)
{
    int64_t runs = 1;
    int result;

    say_ready(job);
    result = reader_gone(job->events, failure);
    while (result == EO_OK && (result = next_block(&runs, failure)) == EO_OK && runs > 0) {
        result = time_runs(job, runs, 0, failure);
        if (result == EO_OK) {
            eo_events_begin(job->events, "block");
            eo_events_integer(job->events, "runs", runs);
            eo_events_end(job->events);
            result = reader_gone(job->events, failure);
        }
    }
    return result;
}

/* Each run by itself, so that none is timed with what is said of another. */
static int time_operators(struct job *job, struct eo_failure *failure)
{
    int result = eo_operators_say(job->session, job->events, failure);

    for (int32_t i = 0; result == EO_OK && i < job->arguments->runs; i++) {
        result = time_runs(job, 1, 0, failure);
    }
    return result == EO_OK ? eo_operators_say(job->session, job->events, failure) : result;
}

static void say_memory(const struct job *job)
{
    eo_events_begin(job->events, "memory");
    eo_events_integer(job->events, "rss_before_bytes", job->rss_before_bytes);
    eo_events_integer(job->events, "rss_loaded_bytes", job->rss_loaded_bytes);
    eo_events_integer(job->events, "peak_bytes", eo_process_peak_bytes());
    eo_events_end(job->events);
}

/* `source` is the text that findings are places of; NULL for an image. */
static void say_result(const struct job *job, const char *source, const struct eo_result *result)
{
    struct eo_events *events = job->events;
    const eo_box *boxes = source == NULL ? eo_session_boxes(job->session, 0) : NULL;

    for (uint32_t i = 0; i < result->item_count; i++) {
        const struct eo_item *item = &result->items[i];
        const char *label = eo_bundle_label(job->bundle, item->label);
        eo_events_begin(events, "item");
        if (label != NULL) {
            eo_events_text(events, "label", label);
        }
        eo_events_number(events, "score", item->score);
        if (source != NULL && item->end > 0) {
            eo_events_integer(events, "begin", item->begin);
            eo_events_integer(events, "end", item->end);
            eo_events_text_bytes(events, "text", source + item->begin, item->end - item->begin);
        }
        if (boxes != NULL) {
            const float sides[] = {boxes[i].x_min, boxes[i].y_min, boxes[i].x_max, boxes[i].y_max};
            eo_events_numbers(events, "box", sides, 4);
        }
        eo_events_end(events);
    }
    eo_events_begin(events, "result");
    eo_events_integer(events, "items", result->item_count);
    if (result->vector != NULL) {
        eo_events_numbers(events, "vector", result->vector, result->vector_count);
    }
    eo_events_integer(events, "tokens", result->tokens);
    eo_events_bool(events, "truncated", result->truncated != 0);
    eo_events_end(events);
}

/* What is done with a text, which lives no longer than the call. */
typedef int read_text(struct job *job, const struct eo_text *text, struct eo_failure *failure);

static int run_text(struct job *job, const struct eo_text *text, struct eo_failure *failure)
{
    int result = eo_session_run_texts(job->session, text, 1, failure);

    if (result == EO_OK) {
        say_result(job, text->pair != NULL ? text->pair : text->text,
                   eo_session_result(job->session, 0));
    }
    return result;
}

/* No photo is larger; edgeopt/model/images.py has as many pixels. */
#define PPM_BYTES_MAX ((INT64_C(1) << 26) * 3 + 64)

static void say_runs(const struct job *job, const int64_t *labels, const int64_t *counts, size_t runs)
{
    eo_events_begin(job->events, "map");
    eo_events_integers(job->events, "labels", labels, runs);
    eo_events_integers(job->events, "counts", counts, runs);
    eo_events_end(job->events);
}

/* Says the label of each pixel, row by row from the top: how many have one label, and then another. */
static int say_map(const struct job *job, const struct eo_image *image, struct eo_failure *failure)
{
    const size_t pixels = (size_t)image->width * image->height;
    uint16_t *map = malloc(pixels * sizeof *map);
    int64_t labels[256], counts[256];
    size_t runs = 0;
    int result = map == NULL ? eo_fail(failure, EO_ENOMEM, "map", "no memory")
                             : eo_session_class_map(job->session, 0, image->width, image->height,
                                                    map, failure);

    for (size_t i = 0; result == EO_OK && i < pixels; i++) {
        if (runs > 0 && map[i] == labels[runs - 1]) {
            counts[runs - 1]++;
            continue;
        }
        if (runs == sizeof labels / sizeof *labels) {
            say_runs(job, labels, counts, runs);
            runs = 0;
        }
        labels[runs] = map[i];
        counts[runs++] = 1;
    }
    if (runs > 0) {
        say_runs(job, labels, counts, runs);
    }
    free(map);
    return result;
}

/* Runs the image whose binary PPM of `bytes` bytes follows on standard input. */
static int run_image(struct job *job, size_t bytes, bool as_map, struct eo_failure *failure)
{
    struct eo_image image;
    void *data = malloc(bytes);
    int result = EO_OK;

    if (data == NULL) {
        return eo_fail(failure, EO_ENOMEM, "image", "no memory for %zu bytes", bytes);
    }
    if (fread(data, 1, bytes, stdin) != bytes) {
        result = eo_fail(failure, EO_EINPUT, "stdin", "ends within an image");
    }
    if (result == EO_OK) {
        result = eo_image_from_ppm(data, bytes, &image, failure);
    }
    if (result == EO_OK) {
        result = eo_session_run_images(job->session, &image, 1, failure);
    }
    if (result == EO_OK && as_map) {
        result = say_map(job, &image, failure);
    }
    if (result == EO_OK) {
        say_result(job, NULL, eo_session_result(job->session, 0));
    }
    free(data);
    return result;
}

static int read_line(struct job *job, const char *line, size_t bytes, read_text *read,
                     struct eo_failure *failure)
{
    struct eo_json_tree tree;
    struct eo_text text = {0};
    char *first = NULL, *second = NULL;
    int64_t image_bytes = 0;
    int result = eo_json_parse(line, bytes, "stdin", &tree, failure);

    if (result == EO_OK && job->session != NULL && eo_json_member(&tree, 0, "image") != 0) {
        result = eo_json_integer(&tree, eo_json_member(&tree, 0, "image"), 1, PPM_BYTES_MAX,
                                 &image_bytes)
                     ? run_image(job, (size_t)image_bytes, eo_json_member(&tree, 0, "map") != 0,
                                 failure)
                     : eo_fail(failure, EO_EINPUT, "stdin",
                               "expected {\"image\": BYTES}, up to %lld",
                               (long long)PPM_BYTES_MAX);
    } else if (result == EO_OK) {
        first = eo_text_member(&tree, 0, "text", &text.bytes);
        second = eo_text_member(&tree, 0, "pair", &text.pair_bytes);
        text.text = first;
        text.pair = second;
        result = first == NULL ? eo_fail(failure, EO_EINPUT, "stdin",
                                         "expected {\"text\": ...} with \"pair\" or without")
                               : read(job, &text, failure);
    }
    if (result == EO_OK) {
        result = reader_gone(job->events, failure);
    }
    free(first);
    free(second);
    eo_json_free(&tree);
    return result;
}

/* Reads texts from standard input, a JSON object a line; behind one that says how many bytes an image
 * has, the image. One with "map" asks for the labels of its pixels too. */
static int read_lines(struct job *job, read_text *read, struct eo_failure *failure)
{
    char *line = NULL;
    size_t size = 0;
    ssize_t bytes;
    int result = EO_OK;

    while (result == EO_OK && (bytes = getline(&line, &size, stdin)) >= 0) {
        if (line[0] != '\n') { /* which says no more than that the host lives */
            result = read_line(job, line, (size_t)bytes, read, failure);
        }
    }
    free(line);
    return result;
}

static int run_timed_text(void *context, struct eo_failure *failure)
{
    const struct job *job = context;

    return eo_session_run_texts(job->session, job->text, 1, failure);
}

/* Times one text as it is served: from the text to the answer. */
static int time_text(struct job *job, const struct eo_text *text, struct eo_failure *failure)
{
    const struct eo_timed timed = {.context = job, .run = run_timed_text, .samples = send_samples};
    int result;

    job->text = text;
    result = eo_measure(&timed, 1, 0, failure);
    job->text = NULL;
    if (result == EO_OK) {
        const struct eo_result *found = eo_session_result(job->session, 0);
        eo_events_begin(job->events, "text");
        eo_events_integer(job->events, "tokens", found->tokens);
        eo_events_bool(job->events, "truncated", found->truncated != 0);
        eo_events_end(job->events);
    }
    return result;
}

/* Times texts, each when it comes: the host waits for one before it sends the next. */
static int time_texts(struct job *job, struct eo_failure *failure)
{
    say_ready(job);
    return read_lines(job, time_text, failure);
}

/* Lets the board rest for so long, and says from when to when. */
static void idle(const struct job *job)
{
    const int64_t begin_ns = eo_clock_wall_ns();

    (void)poll(NULL, 0, job->arguments->idle_ms); /* no signal of ours returns from it */
    eo_events_begin(job->events, "idle");
    eo_events_span(job->events, begin_ns, eo_clock_wall_ns());
    eo_events_end(job->events);
}

static int run(struct job *job, struct eo_failure *failure)
{
    const struct eo_arguments *arguments = job->arguments;
    struct eo_sampler sampler = {0};
    bool agree = true;
    int result = arguments->read_count == 0
                     ? EO_OK
                     : eo_sampler_start(&sampler, arguments->reads, arguments->read_count,
                                        job->events, failure);

    if (result == EO_OK && arguments->idle_ms > 0) {
        idle(job);
    }
    if (result == EO_OK) {
        result = open_job(job, failure);
    }
    if (result == EO_OK) {
        result = check_goldens(job, true, &agree, failure);
    }
    if (result == EO_OK) {
        result = eo_golden_texts_check(job->bundle, job->session, job->events, &agree, failure);
    }
    if (result == EO_OK) {
        result = check_goldens(job, false, &agree, failure);
    }
    if (result == EO_OK && agree) {
        result = warm_up(job, failure);
    }
    if (result == EO_OK && agree) {
        enum eo_command command = job->arguments->command;
        result = command == EO_BLOCKS      ? time_blocks(job, failure)
                 : command == EO_OPERATORS ? time_operators(job, failure)
                 : command == EO_TEXTS
                     ? time_texts(job, failure)
                     : time_runs(job, job->arguments->runs, job->arguments->duration_ms, failure);
    }
    eo_sampler_stop(&sampler);
    if (result == EO_OK) {
        say_memory(job);
        eo_events_begin(job->events, "done");
        eo_events_bool(job->events, "outputs_agree", agree);
        eo_events_end(job->events);
    }
    return result;
}

/* Says what the model makes of the texts, or images. */
static int read_samples(struct job *job, struct eo_failure *failure)
{
    int result = open_job(job, failure);

    return result == EO_OK ? read_lines(job, run_text, failure) : result;
}

/* No text has more tokens than bytes, and no template more than the rest. */
enum { TEXT_BYTES = 65536, TOKENS_MAX = 2 * TEXT_BYTES + 64 };

/* What the command `tokens` works with. */
struct encoder {
    struct eo_tokenizer *tokenizer;
    void *scratch;
    size_t scratch_bytes;
    struct eo_token *tokens;
    int64_t *values; /* of one member of an event */
    uint32_t max_tokens;
};

static void say_tokens(const struct job *job, uint32_t count, uint32_t total)
{
    static const char *const names[] = {"ids", "types", "begins", "ends"};
    const struct encoder *encoder = job->encoder;

    eo_events_begin(job->events, "tokens");
    for (size_t member = 0; member < sizeof names / sizeof *names; member++) {
        for (uint32_t i = 0; i < count; i++) {
            const struct eo_token *token = &encoder->tokens[i];
            const int64_t values[] = {token->id, token->type_id, token->begin, token->end};
            encoder->values[i] = values[member];
        }
        eo_events_integers(job->events, names[member], encoder->values, count);
    }
    eo_events_integer(job->events, "total", total);
    eo_events_end(job->events);
}

static int encode_text(struct job *job, const struct eo_text *text, struct eo_failure *failure)
{
    const struct encoder *encoder = job->encoder;
    const struct eo_encode_options options = {.max_tokens = encoder->max_tokens,
                                              .truncation = EO_LONGEST_FIRST};
    struct eo_token_counts counts;
    int result;

    if (text->bytes > TEXT_BYTES || text->pair_bytes > TEXT_BYTES) {
        return eo_fail(failure, EO_EINPUT, "text", "has more than %d bytes", (int)TEXT_BYTES);
    }
    result = eo_tokenizer_encode(encoder->tokenizer, text, &options, encoder->scratch,
                                 encoder->scratch_bytes, encoder->tokens, &counts, failure);
    if (result == EO_OK) {
        say_tokens(job, counts.count, counts.total);
    }
    return result;
}

static int open_encoder(const struct job *job, struct encoder *encoder, struct eo_failure *failure)
{
    const char *name = job->bundle->manifest.tokenizer;
    const void *json;
    size_t bytes;
    int result;

    if (name == NULL) {
        return eo_fail(failure, EO_EUNSUPPORTED, job->arguments->bundle, "has no tokenizer");
    }
    result = eo_bundle_file(job->bundle, name, &json, &bytes, failure);
    if (result == EO_OK) {
        result = eo_tokenizer_open(json, bytes, name, &encoder->tokenizer, failure);
    }
    if (result != EO_OK) {
        return result;
    }
    encoder->max_tokens =
        job->arguments->seq_len > 0 ? (uint32_t)job->arguments->seq_len : (uint32_t)TOKENS_MAX;
    encoder->scratch_bytes =
        eo_tokenizer_scratch_bytes(encoder->tokenizer, TEXT_BYTES, encoder->max_tokens);
    encoder->scratch = malloc(encoder->scratch_bytes);
    encoder->tokens = calloc(encoder->max_tokens, sizeof *encoder->tokens);
    encoder->values = calloc(encoder->max_tokens, sizeof *encoder->values);
    return encoder->scratch == NULL || encoder->tokens == NULL || encoder->values == NULL
               ? eo_fail(failure, EO_ENOMEM, "tokens", "no memory")
               : EO_OK;
}

/* Says the tokens of the texts. */
static int encode_texts(struct job *job, struct eo_failure *failure)
{
    struct encoder encoder = {0};
    int result = eo_bundle_open(job->arguments->bundle, &job->bundle, failure);

    if (result == EO_OK) {
        result = open_encoder(job, &encoder, failure);
    }
    job->encoder = &encoder;
    if (result == EO_OK) {
        result = read_lines(job, encode_text, failure);
    }
    job->encoder = NULL;
    eo_tokenizer_close(encoder.tokenizer);
    free(encoder.scratch);
    free(encoder.tokens);
    free(encoder.values);
    return result;
}

static int info(const struct job *job, struct eo_failure *failure)
{
    const struct eo_session_options *options = &job->arguments->session;
    struct eo_events *events = job->events;
    char text[4096];

    eo_process_features(text, sizeof text);
    eo_events_begin(events, "cpu");
    eo_events_text(events, "arch", EO_ARCH);
    eo_events_words(events, "features", text);
    eo_events_integer(events, "cores_online", (int64_t)sysconf(_SC_NPROCESSORS_ONLN));
    eo_events_end(events);
    if (options->engine != NULL) {
        const struct eo_engine *engine = eo_engine_named(options->engine);
        char path[EO_PATH_BYTES];
        if (engine == NULL) {
            return eo_fail(failure, EO_EINPUT, "--engine", "unknown engine %s", options->engine);
        }
        if (eo_discover(engine, options->libraries, ".", path, failure) != EO_OK ||
            engine->version(path, text, sizeof text, failure) != 0) {
            return failure->code;
        }
        eo_events_begin(events, "engine");
        eo_events_text(events, "engine", engine->name);
        eo_events_text(events, "version", text);
        eo_events_text(events, "library", path);
        eo_events_end(events);
    }
    return reader_gone(events, failure);
}

/* Says the clock for each that comes in: who asks can tell its own clock's offset. */
static int tell_clock(struct job *job, struct eo_failure *failure)
{
    char beats[64];

    while (read(STDIN_FILENO, beats, sizeof beats) > 0) {
        eo_events_begin(job->events, "clock");
        eo_events_integer(job->events, "ns", eo_clock_wall_ns());
        eo_events_end(job->events);
    }
    return reader_gone(job->events, failure);
}

/* Gives events the stdout we were started with, and engines, which may print, our stderr. */
static int take_stdout(void)
{
    int descriptor = dup(STDOUT_FILENO);

    if (descriptor < 0 || dup2(STDERR_FILENO, STDOUT_FILENO) < 0) {
        return -1;
    }
    return descriptor;
}

static int fail(struct eo_events *events, const struct eo_failure *failure, int status)
{
    eo_events_begin(events, "error");
    eo_events_text(events, "where", failure->where);
    eo_events_text(events, "message", failure->message);
    eo_events_end(events);
    return eo_events_is_broken(events) ? EXIT_READER_GONE : status;
}

int main(int argc, char **argv)
{
    struct eo_arguments arguments;
    struct eo_failure failure;
    struct eo_events events;
    struct job job = {.arguments = &arguments, .events = &events};
    int descriptor;
    int result;

    if (eo_parse(argc, argv, &arguments, &failure) != EO_OK) {
        eo_events_open(&events, STDOUT_FILENO);
        return fail(&events, &failure, EXIT_ARGUMENTS);
    }
    if (arguments.command == EO_VERSION_ONLY || arguments.command == EO_HELP) {
        return fputs(arguments.command == EO_HELP ? eo_usage : EO_VERSION "\n", stdout) < 0 ||
                       fflush(stdout) != 0
                   ? EXIT_FAILED
                   : 0;
    }
    /* One session runs here, with the threads that it is asked for: what was inherited is another's. */
    if (unsetenv("TVM_NUM_THREADS") != 0) {
        return EXIT_FAILED;
    }
    descriptor = take_stdout();
    /* Without SIGPIPE a write to a closed channel fails, and the agent ends in an orderly way. */
    if (descriptor < 0 || signal(SIGPIPE, SIG_IGN) == SIG_ERR) {
        return EXIT_FAILED;
    }
    eo_events_open(&events, descriptor);
    say_hello(&events);
    result = arguments.command == EO_RUN      ? run(&job, &failure)
             : arguments.command == EO_BLOCKS ? run(&job, &failure)
             : arguments.command == EO_TEXTS  ? run(&job, &failure)
             : arguments.command == EO_OPERATORS ? run(&job, &failure)
             : arguments.command == EO_READ   ? read_samples(&job, &failure)
             : arguments.command == EO_TOKENS ? encode_texts(&job, &failure)
             : arguments.command == EO_CLOCK  ? tell_clock(&job, &failure)
                                              : info(&job, &failure);
    eo_session_close(job.session);
    eo_bundle_close(job.bundle);
    return result == EO_OK ? 0 : fail(&events, &failure, EXIT_FAILED);
}
