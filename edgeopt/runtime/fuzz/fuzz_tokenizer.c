/* SPDX-FileCopyrightText: edgeopt contributors
 * SPDX-License-Identifier: Apache-2.0 */
/* Byte 0 chooses: below FIXED a fixed tokenizer and the rest as text and pair; above, the rest is a
 * tokenizer.json up to the first NUL and a text after it. Then max_tokens, pair (bit 1) and
 * truncation (from bit 2 on), pair_skip. */
#include "tokenizer/tokenizer.h"

#include <stdlib.h>
#include <string.h>

#define HEAD 4
#define NO_ADDED "\"single_word\":false,\"special\":true"
#define WORDPIECE(options)                                                                         \
    "{\"version\":\"1.0\",\"added_tokens\":["                                                      \
    "{\"id\":1,\"content\":\"[CLS]\",\"lstrip\":false,\"rstrip\":false,\"normalized\":false," NO_ADDED  \
    "},{\"id\":6,\"content\":\"X y\",\"lstrip\":true,\"rstrip\":true,\"normalized\":true," NO_ADDED     \
    "}],\"normalizer\":{\"type\":\"BertNormalizer\"," options                                      \
    "},\"pre_tokenizer\":{\"type\":\"BertPreTokenizer\"},\"post_processor\":{\"type\":"           \
    "\"BertProcessing\",\"sep\":[\"[SEP]\",2],\"cls\":[\"[CLS]\",1]},\"model\":{\"type\":"         \
    "\"WordPiece\",\"unk_token\":\"[UNK]\",\"continuing_subword_prefix\":\"##\","                  \
    "\"max_input_chars_per_word\":20,\"vocab\":{\"[UNK]\":0,\"[CLS]\":1,\"[SEP]\":2,\"a\":3,"      \
    "\"##a\":4,\"##\\u00e9\":5}}}"
#define BPE(added, trim)                                                                           \
    "{\"version\":\"1.0\",\"added_tokens\":["                                                      \
    "{\"id\":5,\"content\":\"<s>\",\"lstrip\":true,\"rstrip\":true,\"normalized\":" added           \
    "," NO_ADDED "}],\"normalizer\":null,\"pre_tokenizer\":{\"type\":\"ByteLevel\","              \
    "\"add_prefix_space\":true,\"trim_offsets\":true,\"use_regex\":" added                         \
    "},\"post_processor\":{\"type\":\"RobertaProcessing\",\"sep\":[\"\",0],\"cls\":[\"\",0],"      \
    "\"trim_offsets\":" trim ",\"add_prefix_space\":true},\"model\":{\"type\":\"BPE\","           \
    "\"unk_token\":\"?\",\"fuse_unk\":" trim ",\"vocab\":{\"?\":0,\"a\":1,\"aa\":2,"              \
    "\"aaa\":3,\"\\u0120\":4},\"merges\":[\"a a\",\"aa a\",\"a aa\"]}}"

#define TOKENIZER(normalizer, pre_tokenizer, model)                                                \
    "{\"version\":\"1.0\",\"added_tokens\":["                                                      \
    "{\"id\":0,\"content\":\"<s>\",\"lstrip\":true,\"rstrip\":false,\"normalized\":true," NO_ADDED  \
    "}],\"normalizer\":" normalizer ",\"pre_tokenizer\":" pre_tokenizer ",\"model\":" model "}"
#define NORMALIZERS(parts) "{\"type\":\"Sequence\",\"normalizers\":[" parts "]}"
#define SPLITTERS(parts) "{\"type\":\"Sequence\",\"pretokenizers\":[" parts "]}"
#define STRIP "{\"type\":\"Strip\",\"strip_left\":true,\"strip_right\":true}"
#define BYTE_LEVEL                                                                                 \
    "{\"type\":\"ByteLevel\",\"add_prefix_space\":true,\"trim_offsets\":true,"                   \
    "\"use_regex\":false}"
#define PLAIN(type) "{\"type\":\"" type "\"}"
#define METASPACE(scheme)                                                                          \
    "{\"type\":\"Metaspace\",\"replacement\":\"_\",\"prepend_scheme\":\"" scheme "\"}"
#define REPLACE(kind, pattern, content)                                                            \
    "{\"type\":\"Replace\",\"pattern\":{\"" kind "\":\"" pattern "\"},\"content\":\"" content   \
    "\"}"
#define UNIGRAM(fallback)                                                                          \
    "{\"type\":\"Unigram\",\"unk_id\":0,\"byte_fallback\":" fallback ",\"vocab\":["              \
    "[\"<s>\",0],[\"_\",-1],[\"a\",-2.5],[\"aa\",-4],[\"_a\",-3],[\"e\",-2.25],[\"<0x62>\",-9],"  \
    "[\"<0xC3>\",-9],[\"<0xA9>\",-9],[\"aaaaaaaa\",-1e1],[\"a\",-2]]}"
#define CHARACTERS                                                                                 \
    "{\"type\":\"BPE\",\"unk_token\":\"<s>\",\"fuse_unk\":true,\"byte_fallback\":true,"            \
    "\"vocab\":{\"<s>\":0,\"_\":1,\"a\":2,\"_a\":3,\"<0x62>\":4,\"<0xC3>\":5,\"<0xA9>\":6,"        \
    "\"aa\":7},\"merges\":[[\"_\",\"a\"],[\"a\",\"a\"]]}"
#define BYTES                                                                                      \
    "{\"type\":\"BPE\",\"unk_token\":\"<s>\",\"ignore_merges\":true,\"vocab\":{\"<s>\":0,\"a\":1,"   \
    "\"\\u00c3\":2,\"\\u00a9\":3,\"\\u00c3\\u00a9\":4,\"aa\":5},\"merges\":[\"a a\","               \
    "\"\\u00c3 \\u00a9\"]}"
#define GPT4                                                                                       \
    "{\"type\":\"Split\",\"pattern\":{\"Regex\":\"(?i:'s|'t|'re|'ve|'m|'ll|'d)|"                  \
    "[^\\\\r\\\\n\\\\p{L}\\\\p{N}]?\\\\p{L}+|\\\\p{N}{1,3}| ?[^\\\\s\\\\p{L}\\\\p{N}]+"             \
    "[\\\\r\\\\n]*|\\\\s*[\\\\r\\\\n]+|\\\\s+(?!\\\\S)|\\\\s+\"},\"behavior\":\"Isolated\","              \
    "\"invert\":false}"

static const char *const fixed[] = {
    WORDPIECE("\"clean_text\":true,\"handle_chinese_chars\":true,\"lowercase\":true"),
    WORDPIECE("\"clean_text\":false,\"handle_chinese_chars\":true,\"strip_accents\":false,"
              "\"lowercase\":true"),
    BPE("true", "true"),
    BPE("false", "false"),
    TOKENIZER(NORMALIZERS(PLAIN("NFKC") "," PLAIN("Lowercase") "," PLAIN("StripAccents") ","
                          REPLACE("Regex", " {2,}", "_") "," REPLACE("String", "b", "bbb")),
              SPLITTERS(PLAIN("WhitespaceSplit") "," METASPACE("always")), UNIGRAM("true")),
    TOKENIZER(NORMALIZERS(PLAIN("NFC") "," PLAIN("Nmt") "," STRIP), "null", UNIGRAM("false")),
    TOKENIZER("{\"type\":\"Prepend\",\"prepend\":\"_\"}",
              SPLITTERS(PLAIN("Punctuation") "," METASPACE("always")), CHARACTERS),
    TOKENIZER(PLAIN("NFD"), SPLITTERS(GPT4 "," BYTE_LEVEL), BYTES),
    TOKENIZER(PLAIN("NFKD"), PLAIN("Whitespace"),
              "{\"type\":\"WordLevel\",\"unk_token\":\"<s>\",\"vocab\":{\"<s>\":0,\"a\":1}}"),
};
#define FIXED (sizeof fixed / sizeof *fixed)

int LLVMFuzzerTestOneInput(const uint8_t *data, size_t size);

/* Reads all that the tokens say, so that a wrong one is met. */
static void check(const struct eo_tokenizer *tokenizer, const struct eo_text *text,
                  const struct eo_encode_options *options, const struct eo_token *tokens,
                  const struct eo_token_counts *counts)
{
    if (counts->count > options->max_tokens || counts->count > counts->total) {
        abort();
    }
    for (uint32_t i = 0; i < counts->count; i++) {
        size_t bytes = tokens[i].sequence == 0 ? text->bytes : text->pair_bytes;
        if (eo_tokenizer_text(tokenizer, tokens[i].id) == NULL || tokens[i].begin > tokens[i].end ||
            tokens[i].end > bytes) {
            abort();
        }
    }
}

static void encode(const struct eo_tokenizer *tokenizer, const struct eo_text *text,
                   const struct eo_encode_options *options)
{
    size_t longest = text->bytes > text->pair_bytes ? text->bytes : text->pair_bytes;
    size_t bytes =
        eo_tokenizer_scratch_bytes(tokenizer, (uint32_t)longest, options->max_tokens);
    void *scratch = malloc(bytes);
    struct eo_token *tokens = malloc((options->max_tokens + 1) * sizeof *tokens);
    struct eo_token_counts counts;

    if (scratch != NULL && tokens != NULL &&
        eo_tokenizer_encode(tokenizer, text, options, scratch, bytes, tokens, &counts, NULL) ==
            EO_OK) {
        check(tokenizer, text, options, tokens, &counts);
    }
    free(scratch);
    free(tokens);
}

int LLVMFuzzerTestOneInput(const uint8_t *data, size_t size)
{
    struct eo_tokenizer *tokenizer;
    struct eo_failure failure;
    struct eo_encode_options options;
    struct eo_text text = {0};
    const char *rest = (const char *)data + HEAD, *json = rest, *cut;
    size_t bytes, json_bytes;

    if (size < HEAD) {
        return 0;
    }
    options = (struct eo_encode_options){data[1], (data[2] >> 2) % 3, data[3] & 15};
    bytes = size - HEAD;
    cut = memchr(rest, '\0', bytes);
    text.text = cut == NULL ? rest + bytes : cut + 1;
    text.bytes = (size_t)(rest + bytes - text.text);
    json_bytes = cut == NULL ? bytes : (size_t)(cut - rest);
    if (data[0] < FIXED) {
        json = fixed[data[0]];
        json_bytes = strlen(json);
        text = (struct eo_text){.text = rest, .bytes = bytes};
        if ((data[2] & 2) != 0) {
            text.bytes = bytes / 2;
            text.pair = rest + text.bytes;
            text.pair_bytes = bytes - text.bytes;
        }
    } else if ((data[2] & 2) != 0) {
        text.pair = text.text;
        text.pair_bytes = text.bytes;
    }
    if (eo_tokenizer_open(json, json_bytes, "fuzz", &tokenizer, &failure) == EO_OK) {
        encode(tokenizer, &text, &options);
        eo_tokenizer_close(tokenizer);
    } else if (data[0] < FIXED) {
        abort(); /* the fixed ones are sound */
    }
    return 0;
}
