/* edgeopt-agent: loads an artifact on the board, checks it against golden outputs, times it. */
#include "arguments.h"
#include "clock.h"
#include "compare.h"
#include "golden.h"
#include "json_out.h"
#include "measure.h"
#include "process.h"

#include <signal.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <unistd.h>

#define AGENT_VERSION "0.1.0"

enum { EXIT_FAILED = 1, EXIT_ARGUMENTS = 2, EXIT_READER_GONE = 3 };

struct job {
    const struct eo_arguments *arguments;
    struct eo_json *json;
    struct eo_session *session;
    struct eo_tensor inputs[EO_MAX_TENSORS]; /* what the session is bound to; owned */
    int64_t rss_before_bytes;
    int64_t rss_loaded_bytes;
    int is_warmup;
};

static int reader_gone(struct eo_json *json, struct eo_failure *failure)
{
    if (eo_json_is_broken(json)) {
        return eo_fail(failure, "stdout", "its reader is gone");
    }
    return 0;
}

static void say_hello(struct eo_json *json)
{
    eo_json_begin(json, "hello");
    eo_json_text(json, "agent", AGENT_VERSION);
    eo_json_text(json, "arch", eo_process_arch());
    eo_json_integer(json, "pid", (int64_t)getpid());
    eo_json_end(json);
}

static void free_inputs(struct job *job)
{
    for (size_t i = 0; i < EO_MAX_TENSORS; i++) {
        free(job->inputs[i].data);
    }
    memset(job->inputs, 0, sizeof job->inputs);
}

static int open_engine(struct job *job, struct eo_failure *failure)
{
    const struct eo_arguments *arguments = job->arguments;
    char version[64];
    int64_t begin_ns;

    job->rss_before_bytes = eo_process_rss_bytes();
    begin_ns = eo_clock_wall_ns();
    if (arguments->engine->version(arguments->open.library, version, sizeof version, failure) != 0 ||
        arguments->engine->open(&arguments->open, &job->session, failure) != 0) {
        return -1;
    }
    eo_json_begin(job->json, "engine");
    eo_json_text(job->json, "engine", arguments->engine->name);
    eo_json_text(job->json, "version", version);
    eo_json_integer(job->json, "load_ns", eo_clock_wall_ns() - begin_ns);
    eo_json_end(job->json);
    job->rss_loaded_bytes = eo_process_rss_bytes();
    return reader_gone(job->json, failure);
}

static const struct eo_tensor *find_result(const struct job *job, const char *name)
{
    const struct eo_arguments *arguments = job->arguments;
    const struct eo_engine *engine = arguments->engine;
    const char *wanted = eo_artifact_name(name, arguments->outputs, arguments->output_count);

    for (size_t i = 0; i < engine->output_count(job->session); i++) {
        if (strcmp(engine->output(job->session, i).name, wanted) == 0) {
            return engine->result(job->session, i);
        }
    }
    return NULL;
}

/* Emits one golden event; returns whether the output agrees. */
static bool compare_output(const struct job *job, const struct eo_golden *golden,
                           const struct eo_named_tensor *output, const struct eo_tensor *got)
{
    struct eo_agreement agreement = eo_compare(got, &output->tensor, eo_golden_mask(golden));
    bool agrees = agreement.cosine >= job->arguments->cosine_min; /* false for NaN */

    eo_json_begin(job->json, "golden");
    eo_json_text(job->json, "directory", golden->directory);
    eo_json_text(job->json, "output", output->name);
    eo_json_number(job->json, "cosine", agreement.cosine);
    eo_json_number(job->json, "max_abs_error", agreement.max_abs_error);
    eo_json_bool(job->json, "agrees", agrees);
    if (!agreement.same_shape) {
        char found[128], expected[128], reason[320];
        eo_shape_text(got, found, sizeof found);
        eo_shape_text(&output->tensor, expected, sizeof expected);
        if (snprintf(reason, sizeof reason, "shape %s, expected %s", found, expected) > 0) {
            eo_json_text(job->json, "reason", reason);
        }
    } else if (!(agreement.cosine == agreement.cosine)) {
        eo_json_text(job->json, "reason", "NaN or infinity");
    }
    eo_json_end(job->json);
    return agrees;
}

static int check_golden(struct job *job, const struct eo_golden *golden, bool *agree,
                        struct eo_failure *failure)
{
    const struct eo_arguments *arguments = job->arguments;

    free_inputs(job);
    if (eo_golden_inputs(golden, arguments->inputs, arguments->input_count, arguments->engine,
                         job->session, job->inputs, failure) != 0 ||
        arguments->engine->bind(job->session, job->inputs, failure) != 0 ||
        arguments->engine->run(job->session, failure) != 0) { /* as the timed runs will */
        return -1;
    }
    for (size_t i = 0; i < golden->output_count; i++) {
        const struct eo_tensor *got = find_result(job, golden->outputs[i].name);
        if (got == NULL) {
            return eo_fail(failure, golden->directory,
                           "the artifact has no output %s; --output MODEL=ARTIFACT maps names",
                           golden->outputs[i].name);
        }
        if (!compare_output(job, golden, &golden->outputs[i], got)) {
            *agree = false;
        }
    }
    return reader_gone(job->json, failure);
}

/* Checks the goldens from the last to the first, so that the first stays bound for the timing. */
static int check_goldens(struct job *job, bool *agree, struct eo_failure *failure)
{
    struct eo_golden *golden = malloc(sizeof *golden);
    int result = 0;

    *agree = true;
    if (golden == NULL) {
        return eo_fail(failure, "--golden", "no memory");
    }
    for (size_t i = job->arguments->golden_count; result == 0 && i > 0; i--) {
        result = eo_golden_open(job->arguments->goldens[i - 1], golden, failure);
        if (result == 0) {
            result = check_golden(job, golden, agree, failure);
        }
        eo_golden_close(golden);
    }
    free(golden);
    return result;
}

static int timed_run(void *context, struct eo_failure *failure)
{
    const struct job *job = context;

    return job->arguments->engine->run(job->session, failure);
}

static int send_samples(void *context, const struct eo_samples *samples, struct eo_failure *failure)
{
    const struct job *job = context;

    eo_json_begin(job->json, job->is_warmup ? "warmup" : "samples");
    eo_json_integer(job->json, "first", samples->first);
    eo_json_integers(job->json, job->is_warmup ? "ns" : "wall_ns", samples->wall_ns, samples->count);
    if (!job->is_warmup) {
        eo_json_integers(job->json, "cpu_ns", samples->cpu_ns, samples->count);
    }
    eo_json_end(job->json);
    return reader_gone(job->json, failure);
}

static int time_runs(struct job *job, struct eo_failure *failure)
{
    const struct eo_timed timed = {.context = job, .run = timed_run, .samples = send_samples};

    job->is_warmup = 1;
    if (eo_measure(&timed, job->arguments->warmup, failure) != 0) {
        return -1;
    }
    job->is_warmup = 0;
    return eo_measure(&timed, job->arguments->runs, failure);
}

static void say_memory(const struct job *job)
{
    eo_json_begin(job->json, "memory");
    eo_json_integer(job->json, "rss_before_bytes", job->rss_before_bytes);
    eo_json_integer(job->json, "rss_loaded_bytes", job->rss_loaded_bytes);
    eo_json_integer(job->json, "peak_bytes", eo_process_peak_bytes());
    eo_json_end(job->json);
}

static int run(const struct eo_arguments *arguments, struct eo_json *json,
               struct eo_failure *failure)
{
    struct job job = {.arguments = arguments, .json = json, .session = NULL};
    bool agree = false;
    int result = open_engine(&job, failure);

    if (result == 0) {
        result = check_goldens(&job, &agree, failure);
    }
    if (result == 0 && agree) {
        result = time_runs(&job, failure);
    }
    if (result == 0) {
        say_memory(&job);
        eo_json_begin(json, "done");
        eo_json_bool(json, "outputs_agree", agree);
        eo_json_end(json);
    }
    if (job.session != NULL) {
        arguments->engine->close(job.session);
    }
    free_inputs(&job);
    return result;
}

static int info(const struct eo_arguments *arguments, struct eo_json *json,
                struct eo_failure *failure)
{
    char text[4096];

    eo_process_features(text, sizeof text);
    eo_json_begin(json, "cpu");
    eo_json_text(json, "arch", eo_process_arch());
    eo_json_words(json, "features", text);
    eo_json_integer(json, "cores_online", (int64_t)sysconf(_SC_NPROCESSORS_ONLN));
    eo_json_end(json);
    if (arguments->engine != NULL) {
        if (arguments->engine->version(arguments->open.library, text, sizeof text, failure) != 0) {
            return -1;
        }
        eo_json_begin(json, "engine");
        eo_json_text(json, "engine", arguments->engine->name);
        eo_json_text(json, "version", text);
        eo_json_end(json);
    }
    return reader_gone(json, failure);
}

/* Gives events the stdout we were started with, and engines, which may print, our stderr. */
static int take_stdout(void)
{
    int events = dup(STDOUT_FILENO);

    if (events < 0 || dup2(STDERR_FILENO, STDOUT_FILENO) < 0) {
        return -1;
    }
    return events;
}

static int fail(struct eo_json *json, const struct eo_failure *failure, int status)
{
    eo_json_begin(json, "error");
    eo_json_text(json, "where", failure->where);
    eo_json_text(json, "message", failure->message);
    eo_json_end(json);
    return eo_json_is_broken(json) ? EXIT_READER_GONE : status;
}

int main(int argc, char **argv)
{
    struct eo_arguments arguments;
    struct eo_failure failure;
    struct eo_json json;
    int events;
    int result;

    if (eo_parse(argc, argv, &arguments, &failure) != 0) {
        eo_json_open(&json, STDOUT_FILENO);
        return fail(&json, &failure, EXIT_ARGUMENTS);
    }
    if (arguments.command == EO_VERSION || arguments.command == EO_HELP) {
        return fputs(arguments.command == EO_HELP ? eo_usage : AGENT_VERSION "\n", stdout) < 0 ||
                       fflush(stdout) != 0
                   ? EXIT_FAILED
                   : 0;
    }
    events = take_stdout();
    /* Without SIGPIPE a write to a closed channel fails, and the agent ends in an orderly way. */
    if (events < 0 || signal(SIGPIPE, SIG_IGN) == SIG_ERR) {
        return EXIT_FAILED;
    }
    eo_json_open(&json, events);
    say_hello(&json);
    result = arguments.command == EO_RUN ? run(&arguments, &json, &failure)
                                         : info(&arguments, &json, &failure);
    return result == 0 ? 0 : fail(&json, &failure, EXIT_FAILED);
}
