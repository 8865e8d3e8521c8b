/* SPDX-FileCopyrightText: edgeopt contributors
 * SPDX-License-Identifier: Apache-2.0 */
/* edgeopt_rt: opens a bundle that `edgeopt compile` made, and runs it on this device.
 *
 *     eo_bundle *bundle;
 *     eo_session *session;
 *     eo_failure failure;
 *     if (eo_bundle_open("minilm.edgeopt", &bundle, &failure) != EO_OK ||
 *         eo_session_open(bundle, NULL, &session, &failure) != EO_OK) {
 *         fprintf(stderr, "%s: %s\n", failure.where, failure.message);
 *     }
 *     eo_text text = {.text = "where is the station?", .bytes = 21};
 *     eo_session_run_texts(session, &text, 1, &failure);
 *     const eo_result *result = eo_session_result(session, 0);
 *     printf("%s %.3f\n", eo_bundle_label(bundle, result->items[0].label), result->items[0].score);
 *
 * Every function that can fail returns EO_OK or one of the codes below, and then fills the caller's
 * `failure` (which may be NULL). Nothing is kept outside of the handles. A bundle is read-only and
 * may be shared by threads; a session is for one thread at a time; any number of sessions, of any
 * bundles, run beside each other. After eo_session_open nothing is allocated by this library until
 * eo_session_close. What is promised across versions is in ABI.md. */
#ifndef EDGEOPT_RT_H
#define EDGEOPT_RT_H

#include <stddef.h>
#include <stdint.h>

#ifdef __cplusplus
extern "C" {
#endif

#define EO_VERSION "0.1.0"
#define EO_VERSION_MAJOR 0
#define EO_VERSION_MINOR 1
#define EO_VERSION_PATCH 0
#define EO_ABI_VERSION 1

#if defined(EO_STATIC)
#define EO_API
#else
#define EO_API __attribute__((visibility("default")))
#endif

enum {
    EO_OK = 0,
    EO_EINPUT = 1,  /* what the caller gave is wrong: an option, a text, an image */
    EO_EBUNDLE = 2, /* the bundle is damaged, was changed, or is none */
    EO_EENGINE = 3, /* an engine's library is missing, does not load, or refused */
    EO_ENOMEM = 4,
    EO_EIO = 5,          /* a file cannot be opened or read */
    EO_EUNSUPPORTED = 6, /* sound, but not for this build, device or task */
    EO_ECANCELLED = 7,   /* another thread called eo_generator_cancel */
};

/* What went wrong, in memory of the caller; both texts end with NUL and are cut if too long. */
typedef struct eo_failure {
    int32_t code;
    char where[256];    /* file, option, engine */
    char message[1024]; /* what was wrong and what was expected */
} eo_failure;

/* "0.1.0", and the number that only grows when something promised in ABI.md changes. */
EO_API const char *eo_version(void);
EO_API uint32_t eo_abi_version(void);

/* ---- tensors ---- */

#define EO_MAX_RANK 8

enum eo_dtype { EO_FLOAT32 = 1, EO_INT32 = 2, EO_INT64 = 3 };

/* Dense, row-major, in host byte order. */
typedef struct eo_tensor {
    int32_t dtype; /* enum eo_dtype */
    uint32_t rank;
    int64_t dims[EO_MAX_RANK];
    uint64_t count; /* product of dims */
    void *data;     /* count elements; who owns it is said where the tensor stands */
} eo_tensor;

/* ---- bundles ---- */

typedef struct eo_bundle eo_bundle;

/* Opens a bundle's directory or its packed file. The manifest is checked against its digest here,
 * every other file against the manifest's SHA-256 when it is first used. */
EO_API int eo_bundle_open(const char *path, eo_bundle **bundle, eo_failure *failure);
/* Close every session first. NULL is allowed. */
EO_API void eo_bundle_close(eo_bundle *bundle);

/* Strings live as long as the bundle. The task is one of feature-extraction,
 * sequence-classification, token-classification, question-answering, image-classification,
 * zero-shot-image-classification, image-feature-extraction, object-detection,
 * semantic-segmentation, text-generation. */
EO_API const char *eo_bundle_name(const eo_bundle *bundle);
EO_API const char *eo_bundle_task(const eo_bundle *bundle);
EO_API const char *eo_bundle_digest(const eo_bundle *bundle);
/* The text of its manifest.json, JSON of `*bytes` without a NUL behind it. */
EO_API const char *eo_bundle_manifest(const eo_bundle *bundle, size_t *bytes);
EO_API uint32_t eo_bundle_label_count(const eo_bundle *bundle);
EO_API const char *eo_bundle_label(const eo_bundle *bundle, uint32_t label); /* NULL: none such */

/* One engine's artifact in the bundle. */
typedef struct eo_artifact {
    const char *engine;         /* onnx, tflite, openvino, tvm */
    const char *engine_version; /* that it was made for */
    const char *precision;      /* fp32, fp16, int8 */
    uint64_t bytes;
} eo_artifact;
EO_API uint32_t eo_bundle_artifact_count(const eo_bundle *bundle);
EO_API int eo_bundle_artifact(const eo_bundle *bundle, uint32_t index, eo_artifact *artifact);

/* A dual encoder (zero-shot-image-classification) has the graphs "text" and "image", each with
 * artifacts of its own; a session runs one of them and gives embeddings of length 1. Other bundles
 * have the graph "main". NULL: none such. */
EO_API uint32_t eo_bundle_graph_count(const eo_bundle *bundle);
EO_API const char *eo_bundle_graph(const eo_bundle *bundle, uint32_t index);
EO_API const char *eo_bundle_artifact_graph(const eo_bundle *bundle, uint32_t artifact);

/* Compares an image's embedding, `size` floats, with those of `count` texts, one after the other:
 * writes `count` logits, and the scores that the model makes of them (softmax over the texts, or of
 * each by itself); either may be NULL. */
EO_API int eo_bundle_compare(const eo_bundle *bundle, const float *image, const float *texts,
                             uint32_t count, uint32_t size, float *logits, float *scores,
                             eo_failure *failure);

/* The bytes of a file of the bundle, by its name there, checked against its hash. They live as long
 * as the bundle. */
EO_API int eo_bundle_file(eo_bundle *bundle, const char *name, const void **data,
                          size_t *bytes, eo_failure *failure);

/* ---- sessions ---- */

typedef struct eo_session eo_session;

typedef struct eo_option {
    const char *key;
    const char *value;
} eo_option;

/* Zero it with EO_SESSION_OPTIONS and set what you want otherwise. Strings are copied. */
typedef struct eo_session_options {
    uint32_t struct_bytes; /* sizeof(eo_session_options) of the header you compiled with */
    int32_t threads;       /* 0: as the target says */
    const char *engine;    /* NULL: the first of the bundle's artifacts that opens here */
    const char *precision; /* NULL: int8, else int4, fp16, fp32 */
    /* Where the engines' libraries are: files and directories with ':' between. NULL: as in
     * $EDGEOPT_RT_LIBRARIES, then lib/ of a bundle that edgeopt deployed (in .edgeopt/bundles: any
     * other may be a stranger's), the directory of the program or library that this code is in, and
     * last what the system has: by the loader, or in its folders. */
    const char *libraries;
    const eo_option *options; /* the engine's own, over those of the bundle */
    uint32_t option_count;
    uint32_t batch; /* texts or images in one run at most; 0: 1 */
    /* Token counts to bind buffers for. NULL: all that the artifact takes; if it takes any, every
     * one up to 512 with an engine to which they are alike (onnxruntime; texts one by one), else
     * the bundle's own and a dozen between, so that a short text is not padded to the longest. */
    const int32_t *seq_lens;
    uint32_t seq_len_count;
    uint32_t max_text_bytes; /* of one text; 0: 65,536 */
    uint32_t max_image_side; /* width and height of one image; 0: 4,096 */
    /* CPUs that the engine's threads may use, such as "4-7" or "0,2". NULL: as the target says, if
     * this machine has them. The calling thread, which computes too, is the caller's own to pin. */
    const char *cpus;
    const char *graph; /* of a bundle with several; NULL: the only one */
} eo_session_options;
#define EO_SESSION_OPTIONS {.struct_bytes = (uint32_t)sizeof(eo_session_options)}

/* Opens an artifact of `bundle` in its engine and binds its buffers. `options` may be NULL. If
 * no engine is asked for and one does not open, the next is tried; the failure then lists all. */
EO_API int eo_session_open(eo_bundle *bundle, const eo_session_options *options,
                           eo_session **session, eo_failure *failure);
EO_API void eo_session_close(eo_session *session);

/* What was opened. */
EO_API const char *eo_session_engine(const eo_session *session);
EO_API const char *eo_session_engine_version(const eo_session *session); /* the library's */
EO_API const char *eo_session_graph(const eo_session *session);
EO_API const char *eo_session_precision(const eo_session *session);
EO_API const char *eo_session_library(const eo_session *session); /* the path that was opened */

/* Tensors by hand: select a shape, fill the inputs' data, run, read the outputs' data. The names
 * are the model's, not the artifact's. `seq_len` is rounded up to the next bound one, 0 is the
 * longest; what lies beyond your tokens is yours to mask. Pointers to tensors, and inputs' data,
 * live until the next select; outputs' data until the next run. */
EO_API int eo_session_select(eo_session *session, uint32_t batch, uint32_t seq_len,
                             eo_failure *failure);
EO_API uint32_t eo_session_input_count(const eo_session *session);
EO_API uint32_t eo_session_output_count(const eo_session *session);
EO_API const char *eo_session_input_name(const eo_session *session, uint32_t index);
EO_API const char *eo_session_output_name(const eo_session *session, uint32_t index);
EO_API const eo_tensor *eo_session_input(const eo_session *session, uint32_t index);
EO_API const eo_tensor *eo_session_output(const eo_session *session, uint32_t index);
EO_API int eo_session_run(eo_session *session, eo_failure *failure);

/* ---- text and images in, results out ---- */

/* UTF-8; broken sequences are read as U+FFFD. `pair` is the second text of a pair, for question
 * answering the context; NULL if there is none. */
typedef struct eo_text {
    const char *text;
    size_t bytes;
    const char *pair;
    size_t pair_bytes;
} eo_text;

/* 8-bit RGB, rows from the top without padding. */
typedef struct eo_image {
    uint32_t width;
    uint32_t height;
    const uint8_t *rgb; /* height * width * 3 */
} eo_image;

/* One finding. For a classification the label and its probability, best first. For token
 * classification one word or name, in the order of the text, as bytes begin..end of it. For
 * question answering one span of the context, best first; label is 0. For object detection the label
 * of one object, best first: as many as the network looks for, most of which are nothing, so take
 * those with a score that is high enough (transformers: above 0.5); eo_session_boxes says where they
 * are. For semantic segmentation a label with its share of the pixels of the network's own grid,
 * largest first; eo_session_class_map says which they are. */
typedef struct eo_item {
    uint32_t label;
    float score;
    uint32_t begin;
    uint32_t end;
} eo_item;

typedef struct eo_result {
    const eo_item *items;
    uint32_t item_count;
    const float *vector; /* an embedding, NULL for other tasks */
    uint32_t vector_count;
    uint32_t tokens;    /* that the text had, those that mark its ends included */
    uint32_t truncated; /* 1: the text had more tokens than the model takes; the rest was not read */
} eo_result;

/* Tokenises, runs and post-processes 1 to `batch` texts in one run of the engine (question
 * answering: as many runs as the context has windows). A bundle's own prompt, which its manifest
 * names, is put before each text here, of a pair before the first. */
EO_API int eo_session_run_texts(eo_session *session, const eo_text *texts, uint32_t count,
                                eo_failure *failure);
EO_API int eo_session_run_images(eo_session *session, const eo_image *images, uint32_t count,
                                 eo_failure *failure);
/* Of text or image `index` of the last run; lives until the next. NULL if there is none. */
EO_API const eo_result *eo_session_result(const eo_session *session, uint32_t index);

/* Where an object is, in pixels of the image from its upper left corner. A side may lie beyond the
 * image's, as the network has it. */
typedef struct eo_box {
    float x_min;
    float y_min;
    float x_max;
    float y_max;
} eo_box;

/* Of a detector: the box of each item in the result of image `index`, in the same order; they live
 * until the next run. NULL if there are none. */
EO_API const eo_box *eo_session_boxes(const eo_session *session, uint32_t index);

/* Of semantic segmentation: writes the label of each pixel of image `index` of the last run to
 * `labels`, which is the caller's: height * width, rows from the top. The network has a grid of its
 * own, often a quarter of the image that it sees (the last two sizes of output 0); its logits are
 * resized to `width` and `height` (bilinear) before the largest is taken, as
 * post_process_semantic_segmentation in transformers does. Give the size of your image, or any other:
 * time goes with its pixels. `width` is at most the session's max_image_side. Call it before the next
 * run or select. */
EO_API int eo_session_class_map(eo_session *session, uint32_t index, uint32_t width,
                                uint32_t height, uint16_t *labels, eo_failure *failure);

/* ---- early exit ---- */

/* A small classifier, whose answer stands if it is sure, and a large one that reads the other
 * texts: what `edgeopt cascade` found. For one thread at a time, as a session is. */
typedef struct eo_cascade eo_cascade;

/* Opens a session on each bundle, with `options` (may be NULL) for both. `path` is cascade.json. It
 * says which artifacts are run and of which bundles, by their digests: others are refused with
 * EO_EINPUT, and so is an engine or precision in `options` that is not its own for both. Leave those
 * NULL. If its threshold is above 1 no text leaves early, and the small bundle gets no session.
 * Both bundles must outlive the cascade. Nothing is allocated until eo_cascade_close. */
EO_API int eo_cascade_open(const char *path, eo_bundle *small, eo_bundle *large,
                           const eo_session_options *options, eo_cascade **cascade,
                           eo_failure *failure);
EO_API void eo_cascade_close(eo_cascade *cascade);

/* Runs 1 to `batch` texts through the small model, and those it is not sure of through the large
 * one, together in one run. It is sure if the highest probability, after the temperature in
 * cascade.json, is the threshold or more: as edgeopt.read_cascade in Python decides, but for what
 * lies within a rounding error of the threshold. A text that goes on costs both models. */
EO_API int eo_cascade_run_texts(eo_cascade *cascade, const eo_text *texts, uint32_t count,
                                eo_failure *failure);
/* Of text `index` of the last run, from the model whose answer stands; lives until the next. The
 * labels of both bundles are the same. NULL if there is none. */
EO_API const eo_result *eo_cascade_result(const eo_cascade *cascade, uint32_t index);
/* 1 if that text left early: the small model's answer stands. Else 0. */
EO_API uint32_t eo_cascade_early(const eo_cascade *cascade, uint32_t index);

/* ---- generating text ---- */

/* A decoder (a bundle for text-generation) that goes on with a prompt, token by token, and keeps what
 * it computed of all tokens before; or an encoder-decoder, which answers it. For one thread at a
 * time, but for eo_generator_cancel.
 *
 *     eo_generator_open(bundle, NULL, &generator, &failure);
 *     eo_generator_prompt(generator, text, strlen(text), NULL, &failure);
 *     do {
 *         eo_generator_next(generator, &piece, &failure);
 *         fwrite(piece.text, 1, piece.bytes, stdout);
 *     } while (piece.end == EO_END_NONE);
 */
typedef struct eo_generator eo_generator;

/* Zero it with EO_GENERATOR_OPTIONS and set what you want otherwise. */
typedef struct eo_generator_options {
    uint32_t struct_bytes;    /* sizeof(eo_generator_options) of the header you compiled with */
    uint32_t context;         /* tokens of prompt and answer at most, of an encoder-decoder each of
                                 both; 0: as the bundle was made for */
    uint64_t max_cache_bytes; /* what the cache may take; 0: no limit */
    /* Engine, precision, threads, libraries, options, max_text_bytes and cpus. NULL: their defaults. */
    const eo_session_options *session;
    uint64_t beams; /* that a prompt may ask for, up to 16; 0: as many as the bundle says, mostly 1 */
} eo_generator_options;
#define EO_GENERATOR_OPTIONS {.struct_bytes = (uint32_t)sizeof(eo_generator_options)}

/* Writes what the cache of a context (0: the bundle's) takes, before anything is opened; the most of
 * all artifacts, as an engine that keeps it inside (OpenVINO) may take thrice the bytes. The memory is
 * used as the text grows. The weights, and what the engine needs in a run, come on top. */
EO_API int eo_generator_cache_bytes(const eo_bundle *bundle, uint32_t context, uint64_t *bytes,
                                    eo_failure *failure);
/* The same for a generator opened with `options` (may be NULL): several beams take as much again, each
 * and once more, but for the source's part. Only context and beams are looked at. */
EO_API int eo_generator_options_bytes(const eo_bundle *bundle, const eo_generator_options *options,
                                      uint64_t *bytes, eo_failure *failure);

/* Opens an artifact of `bundle` in its engine. `options` may be NULL. Nothing is allocated by this
 * library until eo_generator_close. The bundle must outlive the generator. */
EO_API int eo_generator_open(eo_bundle *bundle, const eo_generator_options *options,
                             eo_generator **generator, eo_failure *failure);
EO_API void eo_generator_close(eo_generator *generator);

/* What was opened. */
EO_API const char *eo_generator_engine(const eo_generator *generator);
EO_API const char *eo_generator_engine_version(const eo_generator *generator);
EO_API const char *eo_generator_precision(const eo_generator *generator);
EO_API uint32_t eo_generator_context(const eo_generator *generator);

/* When a search with several beams ends: with as many ended answers as beams (YES), if no beam can
 * become better at its present length (NO) or at any (NEVER). */
enum eo_early_stopping {
    EO_EARLY_DEFAULT = 0, /* as the bundle says */
    EO_EARLY_NO = 1,
    EO_EARLY_YES = 2,
    EO_EARLY_NEVER = 3,
};

/* How the next token is chosen, in this order, as generate() of transformers does. All 0 takes the
 * likeliest token, or what the bundle says of the last five. Zero it with EO_SAMPLING. */
typedef struct eo_sampling {
    uint32_t struct_bytes;    /* sizeof(eo_sampling) of the header you compiled with */
    uint32_t max_tokens;      /* of the answer; 0: as many as the context has room for */
    float repetition_penalty; /* of tokens that prompt or answer have, of an encoder-decoder the
                                 answer alone; 0 and 1: none */
    float temperature;        /* 0: the likeliest token; what follows then says nothing */
    uint32_t top_k;           /* only the best so many; 0: all */
    float top_p;              /* only the best ones with this share of the probability; 0: all */
    float min_p;              /* only those this likely, as a share of the likeliest; 0: all */
    uint32_t stop_count;
    uint64_t seed;            /* the same seed chooses the same of the same logits */
    const char *const *stops; /* texts that end the answer and are no part of it, up to 16 of up to
                                 255 bytes; NULL: none. They are copied. */
    /* Of these, 0 is as the bundle says: what generation_config.json asked for, else none. */
    double length_penalty; /* an answer's score is divided by its length to this power; else 1. FLT_MIN:
                              by nothing */
    uint32_t num_beams; /* up to those of eo_generator_options; 1: none. The first call for a token then
                           searches the whole answer, without a temperature. */
    uint32_t early_stopping;       /* enum eo_early_stopping */
    uint32_t no_repeat_ngram_size; /* so many tokens in a row come once alone; UINT32_MAX: any may */
    uint32_t min_tokens;           /* before one that ends the text; UINT32_MAX: none */
} eo_sampling;
#define EO_SAMPLING {.struct_bytes = (uint32_t)sizeof(eo_sampling)}

/* Reads a prompt, UTF-8, whose tokens are those of the bundle's tokenizer. What the cache already
 * has of its beginning, from the prompt and answer before, is not computed again; an encoder-decoder
 * reads a prompt as a whole, and not again if it is the last one. `sampling` may be NULL. EO_EINPUT:
 * it has no tokens, or more than the context, or is empty for an encoder; then nothing changes. After
 * any other failure there is no answer to go on with, and the next prompt works. */
EO_API int eo_generator_prompt(eo_generator *generator, const char *text, size_t bytes,
                               const eo_sampling *sampling, eo_failure *failure);
EO_API int eo_generator_prompt_tokens(eo_generator *generator, const int32_t *tokens, uint32_t count,
                                      const eo_sampling *sampling, eo_failure *failure);

/* How samples lie in memory. */
enum eo_pcm {
    EO_PCM_FLOAT = 0, /* float, -1 to 1 */
    EO_PCM_16 = 1,    /* int16_t */
};

/* Sound of one channel, for a bundle that writes down speech. Zero it with EO_SOUND. */
typedef struct eo_sound {
    uint32_t struct_bytes; /* sizeof(eo_sound) of the header you compiled with */
    uint32_t rate;         /* samples a second: 16000, others are refused */
    const void *samples;   /* NULL: those of the prompt before, which are not read again */
    uint32_t count;        /* 1 to what the manifest's input.mel.samples says (30 s in Whisper) */
    int32_t format;        /* enum eo_pcm */
    const int32_t *start;  /* what the decoder begins with (language and task), from the manifest's
                              generation.speech; NULL: the bundle's own */
    uint32_t start_count;
} eo_sound;
#define EO_SOUND {.struct_bytes = (uint32_t)sizeof(eo_sound)}

/* Reads speech, which the answer then writes down. EO_EINPUT: it has another rate, no samples or too
 * many, or one that is not a number, or the bundle takes texts; then nothing changes. After any other
 * failure there is no answer to go on with, and the next prompt works. */
EO_API int eo_generator_prompt_audio(eo_generator *generator, const eo_sound *audio,
                                     const eo_sampling *sampling, eo_failure *failure);

/* Why an answer ended. */
enum eo_end {
    EO_END_NONE = 0,
    EO_END_TOKEN = 1,     /* a token that ends a text */
    EO_END_STOP = 2,      /* one of `stops` */
    EO_END_LENGTH = 3,    /* max_tokens */
    EO_END_CONTEXT = 4,   /* the context is full */
    EO_END_CANCELLED = 5, /* eo_generator_cancel */
};

typedef struct eo_piece {
    int32_t token;    /* -1: none was chosen */
    int32_t end;      /* enum eo_end; from then on every call gives it again, without a text */
    const char *text; /* whole characters of UTF-8, no NUL at the end; until the next call */
    uint32_t bytes;   /* 0 for a part of a character, and for what may begin one of `stops` */
} eo_piece;

/* Chooses the next token. A failure of the engine leaves all as it was: the call may be repeated. */
EO_API int eo_generator_next(eo_generator *generator, eo_piece *piece, eo_failure *failure);

/* Calls `sink` with every piece until the answer ends, or `sink` returns another number than 0. */
typedef int eo_piece_sink(void *context, const eo_piece *piece);
EO_API int eo_generator_run(eo_generator *generator, eo_piece_sink *sink, void *context,
                            eo_failure *failure);

/* From any thread: ends the answer that is being made. A prompt that is being read, in parts of up to
 * 128 tokens, ends with EO_ECANCELLED. A prompt given afterwards is not concerned. */
EO_API void eo_generator_cancel(eo_generator *generator);

/* Forgets prompt, answer and cache. */
EO_API void eo_generator_reset(eo_generator *generator);

/* What the generator has of prompt and answer, to go on with it later or elsewhere: tokens, what the
 * cache has of them, and how the next is chosen. eo_generator_save writes as many bytes to `state` as
 * eo_generator_state_bytes says, which is 0 without a prompt. After eo_generator_restore the next token
 * is the one that would have come. A state is of one bundle, engine and precision, and of one library
 * version on one kind of machine; the context may be another. EO_EINPUT for any other, and for one
 * that was changed or cut short: then nothing changes. Its SHA-256 is no signature. */
EO_API size_t eo_generator_state_bytes(const eo_generator *generator);
EO_API int eo_generator_save(const eo_generator *generator, void *state, size_t bytes,
                             eo_failure *failure);
EO_API int eo_generator_restore(eo_generator *generator, const void *state, size_t bytes,
                                eo_failure *failure);

/* The logits of the last run, of the whole vocabulary: after a prompt those that the next token is
 * chosen by, and then those that the last one was. NULL without a prompt. They live until the next
 * call. */
EO_API const float *eo_generator_logits(const eo_generator *generator, uint32_t *count);
/* The tokens of prompt and answer. */
EO_API const int32_t *eo_generator_tokens(const eo_generator *generator, uint32_t *count);
/* How many tokens of the last prompt were in the cache. */
EO_API uint32_t eo_generator_reused(const eo_generator *generator);

/* Points `image` into a binary PPM (P6, 8 bits a channel) of `bytes` at `data`. */
EO_API int eo_image_from_ppm(const void *data, size_t bytes, eo_image *image, eo_failure *failure);

#ifdef __cplusplus
}
#endif

#endif
