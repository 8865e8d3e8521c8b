/* SPDX-FileCopyrightText: edgeopt contributors
 * SPDX-License-Identifier: Apache-2.0 */
/* sampler TEMPERATURE TOP_K TOP_P MIN_P PENALTY SEED DRAWS COUNT: reads COUNT float32 logits and as many
 * bytes, 1 for a token that was seen; writes the tokens that are chosen of them, DRAWS times. */
#include "generate/sampler.h"

#include <stdio.h>
#include <stdlib.h>

int main(int argc, char **argv)
{
    struct eo_failure failure = {0};
    struct eo_sampler sampler = {0};
    float *logits;
    unsigned char *seen;
    uint32_t draws;

    if (argc != 9) {
        return 2;
    }
    sampler.how = (struct eo_sampling)EO_SAMPLING;
    sampler.how.temperature = strtof(argv[1], NULL);
    sampler.how.top_k = (uint32_t)strtoul(argv[2], NULL, 10);
    sampler.how.top_p = strtof(argv[3], NULL);
    sampler.how.min_p = strtof(argv[4], NULL);
    sampler.how.repetition_penalty = strtof(argv[5], NULL);
    sampler.state = strtoull(argv[6], NULL, 10);
    draws = (uint32_t)strtoul(argv[7], NULL, 10);
    sampler.count = (uint32_t)strtoul(argv[8], NULL, 10);
    sampler.candidates = malloc(sampler.count * sizeof *sampler.candidates);
    sampler.seen = calloc(sampler.count / 8 + 1, 1);
    logits = malloc(sampler.count * sizeof *logits);
    seen = malloc(sampler.count);
    if (eo_sampler_check(&sampler.how, &failure) != EO_OK) {
        printf("%s: %s\n", failure.where, failure.message);
        draws = 0;
    } else if (fread(logits, sizeof *logits, sampler.count, stdin) != sampler.count ||
               fread(seen, 1, sampler.count, stdin) != sampler.count) {
        return 2;
    }
    for (uint32_t i = 0; draws > 0 && i < sampler.count; i++) {
        if (seen[i] != 0) {
            eo_sampler_saw(&sampler, (int32_t)i);
        }
    }
    for (uint32_t i = 0; i < draws; i++) {
        int32_t id = -1;
        if (eo_sampler_next(&sampler, logits, &id, &failure) != EO_OK) {
            printf("%s: %s\n", failure.where, failure.message);
            break;
        }
        printf("%d\n", (int)id);
    }
    free(sampler.candidates);
    free(sampler.seen);
    free(logits);
    free(seen);
    return 0;
}
