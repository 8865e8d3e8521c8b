/* SPDX-FileCopyrightText: edgeopt contributors
 * SPDX-License-Identifier: Apache-2.0 */
/* Changes the model under load: opens the new bundle beside the old, lets every thread step over
 * between two calls, and closes the old one when the last has left. No call fails or waits.
 *
 *     hot_swap SWAPS TEXT BUNDLE_A BUNDLE_B
 *
 * Costs the memory of both models for as long as a swap takes. */
#include "edgeopt_rt.h"

#include <pthread.h>
#include <stdatomic.h>
#include <stdbool.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <time.h>

enum { WORKERS = 3 };

/* A bundle with a session for each worker, as a session is for one thread at a time. */
struct model {
    eo_bundle *bundle;
    eo_session *sessions[WORKERS];
    atomic_int users; /* workers that have not left it */
    atomic_long calls;
};

static _Atomic(struct model *) current;
static atomic_bool stop;
static atomic_long failed;
static const char *text;

static void model_close(struct model *model)
{
    if (model != NULL) {
        for (int i = 0; i < WORKERS; i++) {
            eo_session_close(model->sessions[i]);
        }
        eo_bundle_close(model->bundle);
        free(model);
    }
}

static struct model *model_open(const char *path, eo_failure *failure)
{
    eo_session_options options = EO_SESSION_OPTIONS;
    struct model *model = calloc(1, sizeof *model);
    int result;

    if (model == NULL) {
        abort();
    }
    options.threads = 1; /* the workers are the parallelism */
    atomic_init(&model->users, WORKERS);
    result = eo_bundle_open(path, &model->bundle, failure);
    for (int i = 0; result == EO_OK && i < WORKERS; i++) {
        result = eo_session_open(model->bundle, &options, &model->sessions[i], failure);
    }
    if (result != EO_OK) {
        model_close(model);
        return NULL;
    }
    return model;
}

static void *work(void *argument)
{
    const int worker = *(const int *)argument;
    struct model *model = atomic_load(&current);
    eo_text given = {.text = text, .bytes = strlen(text)};
    eo_failure failure;

    while (!atomic_load(&stop)) {
        struct model *newest = atomic_load(&current);
        if (newest != model) {
            atomic_fetch_sub(&model->users, 1); /* from here on the old one is not touched */
            model = newest;
        }
        if (eo_session_run_texts(model->sessions[worker], &given, 1, &failure) != EO_OK) {
            fprintf(stderr, "hot_swap: %s: %s\n", failure.where, failure.message);
            atomic_fetch_add(&failed, 1);
        }
        atomic_fetch_add(&model->calls, 1);
    }
    return NULL;
}

/* If the new bundle does not open, the old one goes on. */
static int swap(const char *path, eo_failure *failure)
{
    const struct timespec pause = {.tv_nsec = 1000000};
    struct model *next = model_open(path, failure);
    struct model *old;

    if (next == NULL) {
        return failure->code;
    }
    old = atomic_exchange(&current, next);
    while (atomic_load(&old->users) > 0) {
        nanosleep(&pause, NULL);
    }
    printf("%.12s answered %ld calls\n", eo_bundle_digest(old->bundle), atomic_load(&old->calls));
    model_close(old);
    return EO_OK;
}

int main(int argc, char **argv)
{
    const struct timespec pause = {.tv_nsec = 50000000};
    pthread_t threads[WORKERS];
    int numbers[WORKERS];
    eo_failure failure;
    struct model *first;

    if (argc != 5) {
        fprintf(stderr, "usage: hot_swap SWAPS TEXT BUNDLE_A BUNDLE_B\n");
        return 2;
    }
    text = argv[2];
    first = model_open(argv[3], &failure);
    if (first == NULL) {
        fprintf(stderr, "hot_swap: %s: %s\n", failure.where, failure.message);
        return 2;
    }
    atomic_store(&current, first);
    for (int i = 0; i < WORKERS; i++) {
        numbers[i] = i;
        if (pthread_create(&threads[i], NULL, work, &numbers[i]) != 0) {
            abort();
        }
    }
    for (int i = 1; i <= atoi(argv[1]); i++) {
        nanosleep(&pause, NULL);
        if (swap(argv[3 + i % 2], &failure) != EO_OK) {
            fprintf(stderr, "hot_swap: %s: %s\n", failure.where, failure.message);
        }
    }
    atomic_store(&stop, true);
    for (int i = 0; i < WORKERS; i++) {
        (void)pthread_join(threads[i], NULL);
    }
    model_close(atomic_load(&current));
    printf("%ld calls failed\n", atomic_load(&failed));
    return atomic_load(&failed) == 0 ? 0 : 1;
}
