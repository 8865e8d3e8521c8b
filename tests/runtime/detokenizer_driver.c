/* SPDX-FileCopyrightText: edgeopt contributors
 * SPDX-License-Identifier: Apache-2.0 */
/* detokenizer TOKENIZER.JSON: reads lines of token ids, the first 1 if the text goes on; writes for each
 * its pieces in hex, a space between, and the rest at the end after '|'. */
#include "tokenizer/detokenizer.h"

#include <stdio.h>
#include <stdlib.h>

static char *slurp(const char *path, size_t *bytes)
{
    FILE *file = fopen(path, "rb");
    char *text = malloc(1 << 24);

    *bytes = file == NULL || text == NULL ? 0 : fread(text, 1, 1 << 24, file);
    if (file != NULL) {
        (void)fclose(file);
    }
    return text;
}

static void show(const char *text, size_t bytes)
{
    for (size_t i = 0; i < bytes; i++) {
        printf("%02x", (unsigned)(unsigned char)text[i]);
    }
}

int main(int argc, char **argv)
{
    struct eo_failure failure = {0};
    struct eo_tokenizer *tokenizer = NULL;
    struct eo_detokenizer *detokenizer = NULL;
    struct eo_stream stream;
    size_t bytes;
    char *json = slurp(argc > 1 ? argv[1] : "", &bytes), *out;
    int id, begun, end;

    if (eo_tokenizer_open(json, bytes, "tokenizer.json", &tokenizer, &failure) != EO_OK ||
        eo_detokenizer_open(tokenizer, json, bytes, "tokenizer.json", &detokenizer, &failure) !=
            EO_OK) {
        printf("%d %s: %s\n", (int)failure.code, failure.where, failure.message);
        eo_tokenizer_close(tokenizer);
        free(json);
        return 0;
    }
    free(json);
    out = malloc(eo_detokenizer_most(detokenizer)); /* exactly: the sanitizer sees one more */
    while (scanf("%d", &begun) == 1) {
        stream = (struct eo_stream){.begun = begun != 0};
        while ((end = getchar()) == ' ' && scanf("%d", &id) == 1) {
            show(out, eo_detokenizer_next(detokenizer, &stream, id, out));
            printf(" ");
        }
        printf("|");
        show(out, eo_detokenizer_end(&stream, out));
        printf("\n");
    }
    free(out);
    eo_detokenizer_close(detokenizer);
    eo_tokenizer_close(tokenizer);
    return 0;
}
