/* SPDX-FileCopyrightText: edgeopt contributors
 * SPDX-License-Identifier: Apache-2.0 */
#include "lines.h"

#include "answers.h"
#include "base/json_tree.h"
#include "golden_texts.h"

#include <stdio.h>
#include <stdlib.h>

static int read_line(const struct eo_job *job, const char *line, size_t bytes, eo_take_text *take,
                     void *context, struct eo_failure *failure)
{
    struct eo_json_tree tree;
    struct eo_text text = {0};
    char *first = NULL, *second = NULL;
    int64_t image_bytes = 0;
    int result = eo_json_parse(line, bytes, "stdin", &tree, failure);

    if (result == EO_OK && job->session != NULL && eo_json_member(&tree, 0, "image") != 0) {
        result = eo_json_integer(&tree, eo_json_member(&tree, 0, "image"), 1, EO_PPM_BYTES_MAX,
                                 &image_bytes)
                     ? eo_answer_image(job, (size_t)image_bytes, eo_json_member(&tree, 0, "map") != 0,
                                 failure)
                     : eo_fail(failure, EO_EINPUT, "stdin",
                               "expected {\"image\": BYTES}, up to %lld",
                               (long long)EO_PPM_BYTES_MAX);
    } else if (result == EO_OK) {
        first = eo_text_member(&tree, 0, "text", &text.bytes);
        second = eo_text_member(&tree, 0, "pair", &text.pair_bytes);
        text.text = first;
        text.pair = second;
        result = first == NULL ? eo_fail(failure, EO_EINPUT, "stdin",
                                         "expected {\"text\": ...} with \"pair\" or without")
                               : take(context, &text, failure);
    }
    if (result == EO_OK) {
        result = eo_job_reader_gone(job, failure);
    }
    free(first);
    free(second);
    eo_json_free(&tree);
    return result;
}

int eo_lines_read(const struct eo_job *job, eo_take_text *take, void *context,
                  struct eo_failure *failure)
{
    char *line = NULL;
    size_t size = 0;
    ssize_t bytes;
    int result = EO_OK;

    while (result == EO_OK && (bytes = getline(&line, &size, stdin)) >= 0) {
        if (line[0] != '\n') { /* which says no more than that the host lives */
            result = read_line(job, line, (size_t)bytes, take, context, failure);
        }
    }
    free(line);
    return result;
}
