/* SPDX-FileCopyrightText: edgeopt contributors
 * SPDX-License-Identifier: Apache-2.0 */
/* Any bytes as JSON: parsed, walked, and every node decoded as everything. */
#include "base/json_tree.h"

#include <stdlib.h>

int LLVMFuzzerTestOneInput(const uint8_t *data, size_t size);

int LLVMFuzzerTestOneInput(const uint8_t *data, size_t size)
{
    struct eo_json_tree tree;
    struct eo_failure failure;
    char *text = malloc(size + 1);

    if (text != NULL &&
        eo_json_parse((const char *)data, size, "fuzz", &tree, &failure) == EO_OK) {
        for (uint32_t i = 0; i < tree.count; i++) {
            int64_t whole;
            double number;
            (void)eo_json_string(&tree, i, text, size + 1);
            (void)eo_json_string(&tree, i, text, 3);
            (void)eo_json_is(&tree, i, "model");
            (void)eo_json_integer(&tree, i, INT64_MIN, INT64_MAX, &whole);
            (void)eo_json_number(&tree, i, &number);
            (void)eo_json_length(&tree, i);
            (void)eo_json_member(&tree, i, "type");
            if (tree.nodes[i].next <= i || tree.nodes[i].next > tree.count ||
                tree.nodes[i].end > size || tree.nodes[i].begin > tree.nodes[i].end) {
                abort();
            }
        }
    }
    if (text != NULL) {
        eo_json_free(&tree);
    }
    free(text);
    return 0;
}
