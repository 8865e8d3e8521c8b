/* SPDX-FileCopyrightText: edgeopt contributors
 * SPDX-License-Identifier: Apache-2.0 */
static char state[1 << 22];

/* Saves what there is, and has it back; a state that is cut short or changed at any place is refused. */
static int save_and_restore(eo_generator *generator, uint32_t seed)
{
    size_t bytes = eo_generator_state_bytes(generator);
    eo_failure failure;

    if (bytes > sizeof state ||
        eo_generator_save(generator, state, bytes, &failure) != EO_OK ||
        eo_generator_save(generator, state, bytes - 1, &failure) != EO_EINPUT ||
        eo_generator_restore(generator, state, bytes - 1, &failure) != EO_EINPUT ||
        eo_generator_restore(generator, state, seed, &failure) != EO_EINPUT) {
        return 1;
    }
    for (size_t at = seed; at < bytes; at += bytes / 7 + 13) {
        state[at] ^= 1;
        if (eo_generator_restore(generator, state, bytes, &failure) != EO_EINPUT) {
            return 1;
        }
        state[at] ^= 1;
    }
    if (seed % 4 == 1) {
        eo_generator_reset(generator);
    }
    return eo_generator_restore(generator, state, bytes, &failure) != EO_OK;
}

int main(int argc, char **argv)
{
    eo_session_options session = EO_SESSION_OPTIONS;
    eo_generator_options options = EO_GENERATOR_OPTIONS;
    eo_sampling sampling = EO_SAMPLING;
    const char *stops[] = {"\n", "zzz"};
    eo_failure failure;
    eo_bundle *bundle;
    eo_generator *generator;
    eo_piece piece;
    static float samples[32000];
    eo_sound sound = EO_SOUND;
    int before, hears;

    session.libraries = argv[2];
    session.threads = 1;
    options.beams = 3;
    options.session = &session;
    if (argc != 3 || eo_bundle_open(argv[1], &bundle, &failure) != EO_OK) {
        return printf("%d %s: %s\n", (int)failure.code, failure.where, failure.message), 0;
    }
    if (eo_generator_open(bundle, &options, &generator, &failure) != EO_OK) {
        printf("%d %s: %s\n", (int)failure.code, failure.where, failure.message);
        eo_bundle_close(bundle);
        return 0;
    }
    hears = strcmp(eo_bundle_task(bundle), "automatic-speech-recognition") == 0;
    sound.samples = samples;
    sound.rate = 16000;
    before = allocations;
    sampling.no_repeat_ngram_size = 4;
    sampling.repetition_penalty = 1.1F;
    sampling.stops = stops;
    sampling.stop_count = 2;
    for (uint32_t i = 0; i < 12; i++) {
        char words[300];
        memset(words, 'a', sizeof words);
        for (size_t j = 0; j < sizeof words; j += 2 + i % 5) {
            words[j] = ' ';
        }
        sound.count = 1 + i * 2900;
        samples[i * 2900] = 0.5F;
        sampling.seed = i;
        sampling.temperature = i % 3 == 2 ? 0.0F : 1.0F;
        sampling.num_beams = i % 3 == 2 ? 3 : 1;
        sampling.top_k = i % 3 == 0 ? 0 : 10;
        sampling.top_p = i % 2 == 0 ? 0 : 0.9F;
        if ((hears ? eo_generator_prompt_audio(generator, &sound, &sampling, &failure)
                   : eo_generator_prompt(generator, words, 1 + i * 10, &sampling, &failure)) !=
            EO_OK) {
            return printf("%d %s: %s\n", (int)failure.code, failure.where, failure.message), 0;
        }
        if (!hears && save_and_restore(generator, i) != 0) {
            return printf("a state of %u is not as it was\n", (unsigned)i), 0;
        }
        do {
            if (eo_generator_next(generator, &piece, &failure) != EO_OK) {
                return printf("%d %s: %s\n", (int)failure.code, failure.where, failure.message), 0;
            }
            if (piece.token == 7 && !hears && save_and_restore(generator, i) != 0) {
                return printf("a state of %u is not as it was\n", (unsigned)i), 0;
            }
        } while (piece.end == EO_END_NONE);
        if (i % 4 == 3) {
            eo_generator_reset(generator);
        }
    }
    printf("%d %d\n", before, allocations - before);
    eo_generator_close(generator);
    eo_bundle_close(bundle);
    return 0;
}
