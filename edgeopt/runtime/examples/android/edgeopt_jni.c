/* SPDX-FileCopyrightText: edgeopt contributors
 * SPDX-License-Identifier: Apache-2.0 */
/* The bridge between org.edgeopt.rt.Native and libedgeopt_rt.
 *
 * Texts cross as UTF-8 in byte arrays: JNI's own strings are in "modified UTF-8", which has another
 * form for an emoji than the library reads. */
#include "edgeopt_rt.h"

#include <jni.h>
#include <stdint.h>
#include <stdlib.h>
#include <string.h>

struct opened {
    eo_bundle *bundle;
    eo_session *session;
};

static struct opened *opened_of(jlong handle)
{
    return (struct opened *)(intptr_t)handle;
}

static jbyteArray bytes_of(JNIEnv *env, const char *text)
{
    const jsize size = (jsize)strlen(text);
    jbyteArray bytes = (*env)->NewByteArray(env, size);

    if (bytes != NULL) {
        (*env)->SetByteArrayRegion(env, bytes, 0, size, (const jbyte *)text);
    }
    return bytes;
}

/* If something is missing here, Java has an exception pending already. */
static void throw(JNIEnv *env, const eo_failure *failure)
{
    jclass kind = (*env)->FindClass(env, "org/edgeopt/rt/EdgeoptException");
    jmethodID make = kind ? (*env)->GetMethodID(env, kind, "<init>", "(I[B[B)V") : NULL;
    jbyteArray where = make ? bytes_of(env, failure->where) : NULL;
    jbyteArray message = where ? bytes_of(env, failure->message) : NULL;
    jobject thrown =
        message ? (*env)->NewObject(env, kind, make, (jint)failure->code, where, message) : NULL;

    if (thrown != NULL) {
        (*env)->Throw(env, thrown);
    }
}

/* Copies a byte array, with NUL after it; NULL for null, and with an exception without memory. */
static char *text_of(JNIEnv *env, jbyteArray bytes, size_t *size)
{
    char *text;

    *size = bytes == NULL ? 0 : (size_t)(*env)->GetArrayLength(env, bytes);
    if (bytes == NULL) {
        return NULL;
    }
    text = malloc(*size + 1);
    if (text == NULL) {
        throw(env, &(eo_failure){.code = EO_ENOMEM, .where = "text", .message = "no memory"});
        return NULL;
    }
    (*env)->GetByteArrayRegion(env, bytes, 0, (jsize)*size, (jbyte *)text);
    text[*size] = '\0';
    return text;
}

static void close_opened(struct opened *opened)
{
    if (opened != NULL) {
        eo_session_close(opened->session);
        eo_bundle_close(opened->bundle);
        free(opened);
    }
}

JNIEXPORT jlong JNICALL Java_org_edgeopt_rt_Native_open(JNIEnv *env, jclass self, jbyteArray path,
                                                        jbyteArray libraries, jint threads)
{
    eo_session_options options = EO_SESSION_OPTIONS;
    struct opened *opened = calloc(1, sizeof *opened);
    eo_failure failure = {.code = EO_ENOMEM, .where = "session", .message = "no memory"};
    size_t size;
    char *bundle = text_of(env, path, &size);
    char *places = text_of(env, libraries, &size);

    (void)self;
    options.threads = threads;
    options.libraries = places;
    if (opened == NULL || bundle == NULL || (libraries != NULL && places == NULL) ||
        eo_bundle_open(bundle, &opened->bundle, &failure) != EO_OK ||
        eo_session_open(opened->bundle, &options, &opened->session, &failure) != EO_OK) {
        close_opened(opened);
        opened = NULL;
        if (!(*env)->ExceptionCheck(env)) {
            throw(env, &failure);
        }
    }
    free(bundle);
    free(places);
    return (jlong)(intptr_t)opened;
}

JNIEXPORT void JNICALL Java_org_edgeopt_rt_Native_close(JNIEnv *env, jclass self, jlong handle)
{
    (void)env;
    (void)self;
    close_opened(opened_of(handle));
}

/* name, task, digest, engine, precision, then the labels. */
JNIEXPORT jobjectArray JNICALL Java_org_edgeopt_rt_Native_facts(JNIEnv *env, jclass self,
                                                                jlong handle)
{
    const struct opened *opened = opened_of(handle);
    const char *const facts[] = {
        eo_bundle_name(opened->bundle),       eo_bundle_task(opened->bundle),
        eo_bundle_digest(opened->bundle),     eo_session_engine(opened->session),
        eo_session_precision(opened->session)};
    const jsize first = (jsize)(sizeof facts / sizeof facts[0]);
    const jsize count = first + (jsize)eo_bundle_label_count(opened->bundle);
    jclass kind = (*env)->FindClass(env, "[B");
    jobjectArray all = kind ? (*env)->NewObjectArray(env, count, kind, NULL) : NULL;

    (void)self;
    for (jsize i = 0; all != NULL && i < count; i++) {
        jbyteArray one = bytes_of(
            env, i < first ? facts[i] : eo_bundle_label(opened->bundle, (uint32_t)(i - first)));
        if (one == NULL) {
            return NULL;
        }
        (*env)->SetObjectArrayElement(env, all, i, one);
        (*env)->DeleteLocalRef(env, one); /* a frame has room for 16 of them only */
    }
    return all;
}

/* {IntArray of tokens, truncated, then label, begin, end of each item; FloatArray of their scores;
 * FloatArray of the vector or null}. */
static jobjectArray result_of(JNIEnv *env, const eo_result *result)
{
    const jsize count = (jsize)result->item_count;
    jclass kind = (*env)->FindClass(env, "java/lang/Object");
    jobjectArray all = kind ? (*env)->NewObjectArray(env, 3, kind, NULL) : NULL;
    jintArray numbers = all ? (*env)->NewIntArray(env, 2 + 3 * count) : NULL;
    jfloatArray scores = numbers ? (*env)->NewFloatArray(env, count) : NULL;

    if (scores == NULL) {
        return NULL;
    }
    (*env)->SetIntArrayRegion(env, numbers, 0, 2,
                              (jint[]){(jint)result->tokens, (jint)result->truncated});
    for (jsize i = 0; i < count; i++) {
        const eo_item *item = &result->items[i];
        (*env)->SetIntArrayRegion(
            env, numbers, 2 + 3 * i, 3,
            (jint[]){(jint)item->label, (jint)item->begin, (jint)item->end});
        (*env)->SetFloatArrayRegion(env, scores, i, 1, &item->score);
    }
    (*env)->SetObjectArrayElement(env, all, 0, numbers);
    (*env)->SetObjectArrayElement(env, all, 1, scores);
    if (result->vector != NULL) {
        jfloatArray vector = (*env)->NewFloatArray(env, (jsize)result->vector_count);
        if (vector == NULL) {
            return NULL;
        }
        (*env)->SetFloatArrayRegion(env, vector, 0, (jsize)result->vector_count, result->vector);
        (*env)->SetObjectArrayElement(env, all, 2, vector);
    }
    return all;
}

JNIEXPORT jobjectArray JNICALL Java_org_edgeopt_rt_Native_run(JNIEnv *env, jclass self,
                                                              jlong handle, jbyteArray text,
                                                              jbyteArray pair)
{
    struct opened *opened = opened_of(handle);
    jobjectArray all = NULL;
    eo_text given = {0};
    eo_failure failure;
    char *first = text_of(env, text, &given.bytes);
    char *second = text_of(env, pair, &given.pair_bytes);

    (void)self;
    given.text = first;
    given.pair = second;
    if (!(*env)->ExceptionCheck(env)) {
        if (eo_session_run_texts(opened->session, &given, 1, &failure) == EO_OK) {
            all = result_of(env, eo_session_result(opened->session, 0));
        } else {
            throw(env, &failure);
        }
    }
    free(first);
    free(second);
    return all;
}
