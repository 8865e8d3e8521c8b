/* SPDX-FileCopyrightText: edgeopt contributors
 * SPDX-License-Identifier: Apache-2.0 */
/* edgeopt_rt.h for C++17: handles that close themselves, and exceptions.
 *
 *     edgeopt::session session{edgeopt::bundle{"minilm.edgeopt"}};
 *     for (const eo_result &result : session.run({{"where is the station?"}})) { ... }
 *
 * A session and a generator keep their bundle open, and a cascade its two. Each is for one thread at a
 * time, a bundle for any. */
#ifndef EDGEOPT_RT_HPP
#define EDGEOPT_RT_HPP

#include "edgeopt_rt.h"

#include <memory>
#include <stdexcept>
#include <string>
#include <string_view>
#include <utility>
#include <vector>

namespace edgeopt {

/* Thrown by everything below; `code` is one of EO_EINPUT, EO_EBUNDLE, ... */
class error : public std::runtime_error {
public:
    explicit error(const eo_failure &failure)
        : std::runtime_error(std::string(failure.where) + ": " + failure.message),
          code(failure.code), where(failure.where), message(failure.message)
    {
    }
    int code;
    std::string where;
    std::string message;
};

/* Throws if `call`, made with `failure`, did not return EO_OK. */
inline void check(int call, const eo_failure &failure)
{
    if (call != EO_OK) {
        throw error(failure);
    }
}

class bundle {
public:
    explicit bundle(const std::string &path)
    {
        eo_failure failure{};
        eo_bundle *opened = nullptr;
        check(eo_bundle_open(path.c_str(), &opened, &failure), failure);
        handle_.reset(opened, eo_bundle_close);
    }
    std::string_view name() const { return eo_bundle_name(get()); }
    std::string_view task() const { return eo_bundle_task(get()); }
    std::string_view digest() const { return eo_bundle_digest(get()); }
    /* Empty if the bundle has no such label. */
    std::string_view label(uint32_t index) const
    {
        const char *found = eo_bundle_label(get(), index);
        return found == nullptr ? std::string_view{} : std::string_view{found};
    }
    /* A dual encoder's scores of an image for some texts, by their embeddings. */
    std::vector<float> compare(const std::vector<float> &image,
                               const std::vector<std::vector<float>> &texts) const
    {
        std::vector<float> joined, scores(texts.size());
        for (const std::vector<float> &one : texts) {
            if (one.size() != image.size()) {
                throw std::invalid_argument("an embedding of another size than the image's");
            }
            joined.insert(joined.end(), one.begin(), one.end());
        }
        eo_failure failure{};
        check(eo_bundle_compare(get(), image.data(), joined.data(),
                                static_cast<uint32_t>(texts.size()),
                                static_cast<uint32_t>(image.size()), nullptr, scores.data(),
                                &failure),
              failure);
        return scores;
    }
    eo_bundle *get() const { return handle_.get(); }

private:
    std::shared_ptr<eo_bundle> handle_;
};

/* A text, and for a pair its second part: the context of a question. Points to the caller's. */
struct text {
    std::string_view first;
    std::string_view second = {};
};

/* EO_SESSION_OPTIONS, which C++ before 20 has no designated initialisers for. */
inline eo_session_options session_options()
{
    eo_session_options options{};
    options.struct_bytes = sizeof options;
    return options;
}

/* The texts as the C library takes them. */
inline std::vector<eo_text> c_texts(const std::vector<text> &texts)
{
    std::vector<eo_text> given;
    for (const text &one : texts) {
        given.push_back({one.first.data() == nullptr ? "" : one.first.data(), one.first.size(),
                         one.second.data(), one.second.size()});
    }
    return given;
}

class session {
public:
    explicit session(class bundle bundle, const eo_session_options &options = session_options())
        : bundle_(std::move(bundle))
    {
        eo_failure failure{};
        eo_session *opened = nullptr;
        check(eo_session_open(bundle_.get(), &options, &opened, &failure), failure);
        handle_.reset(opened);
    }
    /* One result for each text, in one run; they live until the next run. */
    std::vector<eo_result> run(const std::vector<text> &texts)
    {
        const std::vector<eo_text> given = c_texts(texts);
        eo_failure failure{};
        check(eo_session_run_texts(get(), given.data(), static_cast<uint32_t>(given.size()),
                                   &failure),
              failure);
        std::vector<eo_result> results;
        for (uint32_t i = 0; i < given.size(); i++) {
            results.push_back(*eo_session_result(get(), i));
        }
        return results;
    }
    const class bundle &bundle() const { return bundle_; }
    std::string_view engine() const { return eo_session_engine(get()); }
    std::string_view engine_version() const { return eo_session_engine_version(get()); }
    std::string_view precision() const { return eo_session_precision(get()); }
    eo_session *get() const { return handle_.get(); }

private:
    struct closer {
        void operator()(eo_session *session) const { eo_session_close(session); }
    };
    class bundle bundle_; /* before the session, so that it is closed after it */
    std::unique_ptr<eo_session, closer> handle_;
};

/* A small classifier that answers if it is sure, and a large one that reads the other texts. */
class cascade {
public:
    /* `path` is the cascade.json that was found for these bundles; leave the options' engine and
     * precision unset. */
    cascade(const std::string &path, bundle small, bundle large,
            const eo_session_options &options = session_options())
        : small_(std::move(small)), large_(std::move(large))
    {
        eo_failure failure{};
        eo_cascade *opened = nullptr;
        check(eo_cascade_open(path.c_str(), small_.get(), large_.get(), &options, &opened,
                              &failure),
              failure);
        handle_.reset(opened);
    }
    /* One result for each text; they live until the next run. */
    std::vector<eo_result> run(const std::vector<text> &texts)
    {
        const std::vector<eo_text> given = c_texts(texts);
        eo_failure failure{};
        check(eo_cascade_run_texts(get(), given.data(), static_cast<uint32_t>(given.size()),
                                   &failure),
              failure);
        std::vector<eo_result> results;
        for (uint32_t i = 0; i < given.size(); i++) {
            results.push_back(*eo_cascade_result(get(), i));
        }
        return results;
    }
    /* Whether the small model answered text `index` of the last run. */
    bool early(uint32_t index) const { return eo_cascade_early(get(), index) != 0; }
    std::string_view label(uint32_t index) const { return large_.label(index); }
    eo_cascade *get() const { return handle_.get(); }

private:
    struct closer {
        void operator()(eo_cascade *cascade) const { eo_cascade_close(cascade); }
    };
    bundle small_; /* before the handle, so that they are closed after it */
    bundle large_;
    std::unique_ptr<eo_cascade, closer> handle_;
};

/* EO_SAMPLING and EO_GENERATOR_OPTIONS, likewise. */
inline eo_sampling sampling()
{
    eo_sampling how{};
    how.struct_bytes = sizeof how;
    return how;
}
inline eo_generator_options generator_options()
{
    eo_generator_options options{};
    options.struct_bytes = sizeof options;
    return options;
}

/* A decoder that goes on with a prompt:
 *
 *     generator.prompt("The library is");
 *     generator.run([](std::string_view text) { std::cout << text << std::flush; return true; }); */
class generator {
public:
    explicit generator(class bundle bundle,
                       const eo_generator_options &options = generator_options())
        : bundle_(std::move(bundle))
    {
        eo_failure failure{};
        eo_generator *opened = nullptr;
        check(eo_generator_open(bundle_.get(), &options, &opened, &failure), failure);
        handle_.reset(opened);
    }
    void prompt(std::string_view text, const eo_sampling &how = sampling())
    {
        eo_failure failure{};
        check(eo_generator_prompt(get(), text.data(), text.size(), &how, &failure), failure);
    }
    void prompt(const std::vector<int32_t> &tokens, const eo_sampling &how = sampling())
    {
        eo_failure failure{};
        check(eo_generator_prompt_tokens(get(), tokens.data(), static_cast<uint32_t>(tokens.size()),
                                         &how, &failure),
              failure);
    }
    /* Samples of one channel, 16000 a second. */
    void prompt_audio(const std::vector<float> &samples, const eo_sampling &how = sampling(),
                      const std::vector<int32_t> &start = {})
    {
        eo_failure failure{};
        eo_sound sound{};
        sound.struct_bytes = static_cast<uint32_t>(sizeof sound);
        sound.rate = 16000;
        sound.samples = samples.data();
        sound.count = static_cast<uint32_t>(samples.size());
        sound.start = start.empty() ? nullptr : start.data();
        sound.start_count = static_cast<uint32_t>(start.size());
        check(eo_generator_prompt_audio(get(), &sound, &how, &failure), failure);
    }
    /* The next piece, whose text lives until the next call; `end` tells when it was the last. */
    eo_piece next()
    {
        eo_failure failure{};
        eo_piece piece{};
        check(eo_generator_next(get(), &piece, &failure), failure);
        return piece;
    }
    /* Calls `sink` with the text of each piece until the answer ends or `sink` returns false; returns
     * why it ended, EO_END_NONE if `sink` did. */
    template <typename Sink> eo_end run(Sink &&sink)
    {
        for (;;) {
            const eo_piece piece = next();
            const bool more = sink(std::string_view{piece.text, piece.bytes});
            if (!more || piece.end != EO_END_NONE) {
                return static_cast<eo_end>(piece.end);
            }
        }
    }
    /* From any thread. */
    void cancel() { eo_generator_cancel(get()); }
    void reset() { eo_generator_reset(get()); }
    /* What it has of prompt and answer, for restore(). */
    std::vector<char> save() const
    {
        eo_failure failure{};
        std::vector<char> state(eo_generator_state_bytes(get()));
        check(eo_generator_save(get(), state.data(), state.size(), &failure), failure);
        return state;
    }
    void restore(const std::vector<char> &state)
    {
        eo_failure failure{};
        check(eo_generator_restore(get(), state.data(), state.size(), &failure), failure);
    }
    std::vector<int32_t> tokens() const
    {
        uint32_t count = 0;
        const int32_t *first = eo_generator_tokens(get(), &count);
        return {first, first + count};
    }
    uint32_t context() const { return eo_generator_context(get()); }
    uint32_t reused() const { return eo_generator_reused(get()); }
    const class bundle &bundle() const { return bundle_; }
    std::string_view engine() const { return eo_generator_engine(get()); }
    std::string_view precision() const { return eo_generator_precision(get()); }
    eo_generator *get() const { return handle_.get(); }

private:
    struct closer {
        void operator()(eo_generator *generator) const { eo_generator_close(generator); }
    };
    class bundle bundle_; /* before the generator, so that it is closed after it */
    std::unique_ptr<eo_generator, closer> handle_;
};

} // namespace edgeopt

#endif
