// SPDX-FileCopyrightText: edgeopt contributors
// SPDX-License-Identifier: Apache-2.0
// Runs a bundle of any text task on the lines of stdin: TEXT, or QUESTION <tab> CONTEXT.
#include <edgeopt_rt.hpp>

#include <algorithm>
#include <iostream>
#include <string>

static void print(const edgeopt::bundle &bundle, std::string_view read, const eo_result &result)
{
    for (uint32_t i = 0; i < std::min(result.vector_count, 8U); i++) {
        std::cout << (i == 0 ? "  " : " ") << result.vector[i];
    }
    for (uint32_t i = 0; i < result.item_count; i++) {
        const eo_item &item = result.items[i];
        std::cout << "  " << item.score << ' ' << bundle.label(item.label);
        if (item.end > 0) {
            std::cout << " \"" << read.substr(item.begin, item.end - item.begin) << '"';
        }
    }
    std::cout << '\n';
}

int main(int argc, char **argv)
try {
    if (argc != 2) {
        std::cerr << "usage: classify BUNDLE < TEXTS\n";
        return 2;
    }
    edgeopt::session session{edgeopt::bundle{argv[1]}};
    std::cerr << session.bundle().name() << " on " << session.engine() << ' '
              << session.engine_version() << ", " << session.precision() << '\n';
    for (std::string line; std::getline(std::cin, line);) {
        const std::string_view whole{line};
        const size_t tab = whole.find('\t');
        edgeopt::text text{whole.substr(0, tab)};
        if (tab != std::string_view::npos) {
            text.second = whole.substr(tab + 1);
        }
        const std::string_view read = text.second.data() != nullptr ? text.second : text.first;
        print(session.bundle(), read, session.run({text}).front());
    }
    return 0;
} catch (const edgeopt::error &failure) {
    std::cerr << "classify: " << failure.what() << " (code " << failure.code << ")\n";
    return 1;
}
