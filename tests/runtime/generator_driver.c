/* SPDX-FileCopyrightText: edgeopt contributors
 * SPDX-License-Identifier: Apache-2.0 */
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
    sampling.temperature = 1.0F;
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
        sampling.top_k = i % 3 == 0 ? 0 : 10;
        sampling.top_p = i % 2 == 0 ? 0 : 0.9F;
        if ((hears ? eo_generator_prompt_audio(generator, &sound, &sampling, &failure)
                   : eo_generator_prompt(generator, words, 1 + i * 10, &sampling, &failure)) !=
            EO_OK) {
            return printf("%d %s: %s\n", (int)failure.code, failure.where, failure.message), 0;
        }
        do {
            if (eo_generator_next(generator, &piece, &failure) != EO_OK) {
                return printf("%d %s: %s\n", (int)failure.code, failure.where, failure.message), 0;
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
