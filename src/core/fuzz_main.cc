// SPDX-License-Identifier: BSD-3-Clause
//
// Runs a fuzz target where libFuzzer is not at hand (g++, or clang without AddressSanitizer): every
// file of the given corpus as it is, then `-runs=N` inputs made from them by pseudo-random changes.
// The inputs follow from `-seed=S` alone, so a failure repeats; the input that brought the process
// down is left in the file `crash-input`. Other options that libFuzzer knows are accepted, without
// effect. It sees no coverage: it guards what the fuzzer has found, it does not search well.
//
// Named .cc so that it is no part of the room: each fuzz target links it by itself.

#include <fcntl.h>
#include <unistd.h>

#include <algorithm>
#include <chrono>
#include <csignal>
#include <cstdint>
#include <cstdio>
#include <cstdlib>
#include <cstring>
#include <filesystem>
#include <fstream>
#include <iterator>
#include <string>
#include <string_view>
#include <vector>

extern "C" int LLVMFuzzerTestOneInput(const std::uint8_t* data, std::size_t size);

namespace {

using bytes = std::vector<std::uint8_t>;

constexpr std::size_t input_bytes_max = 16384;
constexpr unsigned changes_max = 8;

struct options {
    std::uint64_t runs = 10000;
    std::uint64_t seed = 1;
    std::uint64_t seconds_max = 0;  // 0: no limit
    std::vector<std::string> paths;
};

// What is being run right now, for the signal handler.
const std::uint8_t* current_data = nullptr;
std::size_t current_size = 0;

extern "C" void save_input(int signal_number) {
    int fd = ::open("crash-input", O_CREAT | O_TRUNC | O_WRONLY | O_CLOEXEC, 0644);
    if (fd >= 0) {
        [[maybe_unused]] ssize_t written = ::write(fd, current_data, current_size);
        ::close(fd);
    }
    constexpr std::string_view message = "the input that failed is in the file crash-input\n";
    [[maybe_unused]] ssize_t said = ::write(STDERR_FILENO, message.data(), message.size());
    std::signal(signal_number, SIG_DFL);
    std::raise(signal_number);
}

void run(const bytes& input) {
    // A copy of exactly this size, so that a checker sees a read past its end.
    bytes exact(input);
    exact.shrink_to_fit();
    current_data = exact.data();
    current_size = exact.size();
    LLVMFuzzerTestOneInput(exact.data(), exact.size());
}

class splitmix64 {
public:
    explicit splitmix64(std::uint64_t seed) : state_(seed) {}
    std::uint64_t next() {
        std::uint64_t z = (state_ += 0x9e3779b97f4a7c15ull);
        z = (z ^ (z >> 30)) * 0xbf58476d1ce4e5b9ull;
        z = (z ^ (z >> 27)) * 0x94d049bb133111ebull;
        return z ^ (z >> 31);
    }
    std::size_t below(std::size_t bound) { return bound == 0 ? 0 : next() % bound; }

private:
    std::uint64_t state_;
};

void overwrite(splitmix64& random, bytes& input) {
    if (!input.empty())
        input[random.below(input.size())] = static_cast<std::uint8_t>(random.next());
}

void flip_bit(splitmix64& random, bytes& input) {
    if (input.empty()) return;
    auto bit = static_cast<std::uint8_t>(1u << random.below(8));
    input[random.below(input.size())] ^= bit;
}

void insert(splitmix64& random, bytes& input) {
    std::size_t count = 1 + random.below(16);
    if (input.size() + count > input_bytes_max) return;
    auto where = input.begin() + static_cast<std::ptrdiff_t>(random.below(input.size() + 1));
    input.insert(where, count, static_cast<std::uint8_t>(random.next()));
}

void erase(splitmix64& random, bytes& input) {
    if (input.empty()) return;
    std::size_t from = random.below(input.size());
    std::size_t count = std::min(1 + random.below(32), input.size() - from);
    auto first = input.begin() + static_cast<std::ptrdiff_t>(from);
    input.erase(first, first + static_cast<std::ptrdiff_t>(count));
}

// A value that sits on an edge, of 1, 2, 4 or 8 bytes in either byte order.
void plant_number(splitmix64& random, bytes& input) {
    constexpr std::uint64_t edges[] = {0,          1,          0x7f,       0x80,
                                       0xff,       0x7fff,     0xffff,     0x7fffffff,
                                       0x80000000, 0xffffffff, ~0ull >> 1, ~0ull};
    std::uint64_t value = edges[random.below(std::size(edges))];
    std::size_t width = std::size_t{1} << random.below(4);
    if (input.size() < width) return;
    if (random.below(2) != 0) value = __builtin_bswap64(value) >> (64 - 8 * width);
    std::memcpy(input.data() + random.below(input.size() - width + 1), &value, width);
}

void splice(splitmix64& random, bytes& input, const bytes& other) {
    std::size_t keep = random.below(input.size() + 1);
    std::size_t from = random.below(other.size() + 1);
    std::size_t count = std::min(other.size() - from, input_bytes_max - keep);
    input.resize(keep);
    auto first = other.begin() + static_cast<std::ptrdiff_t>(from);
    input.insert(input.end(), first, first + static_cast<std::ptrdiff_t>(count));
}

bytes change(splitmix64& random, const std::vector<bytes>& corpus) {
    bytes input = corpus[random.below(corpus.size())];
    if (input.size() > input_bytes_max) input.resize(input_bytes_max);
    std::size_t changes = 1 + random.below(changes_max);
    for (std::size_t i = 0; i < changes; ++i) {
        switch (random.below(6)) {
            case 0:
                overwrite(random, input);
                break;
            case 1:
                flip_bit(random, input);
                break;
            case 2:
                insert(random, input);
                break;
            case 3:
                erase(random, input);
                break;
            case 4:
                plant_number(random, input);
                break;
            default:
                splice(random, input, corpus[random.below(corpus.size())]);
                break;
        }
    }
    return input;
}

// "-name=123", or false if the argument is another.
bool read_number(std::string_view argument, std::string_view name, std::uint64_t& value) {
    if (!argument.starts_with(name)) return false;
    value = std::strtoull(argument.data() + name.size(), nullptr, 10);
    return true;
}

options read_arguments(int argc, char** argv) {
    options chosen;
    for (int i = 1; i < argc; ++i) {
        std::string_view argument = argv[i];
        if (read_number(argument, "-runs=", chosen.runs) ||
            read_number(argument, "-seed=", chosen.seed) ||
            read_number(argument, "-max_total_time=", chosen.seconds_max) ||
            argument.starts_with("-"))
            continue;
        chosen.paths.emplace_back(argument);
    }
    return chosen;
}

void read_file(const std::filesystem::path& path, std::vector<bytes>& corpus) {
    std::ifstream file(path, std::ios::binary);
    corpus.emplace_back(std::istreambuf_iterator<char>(file), std::istreambuf_iterator<char>());
}

// In the order of their names, so that a seed means the same everywhere.
std::vector<bytes> read_corpus(const std::vector<std::string>& paths) {
    std::vector<std::filesystem::path> files;
    for (const std::string& path : paths) {
        if (!std::filesystem::is_directory(path)) {
            files.emplace_back(path);
            continue;
        }
        for (const auto& entry : std::filesystem::directory_iterator(path))
            if (entry.is_regular_file()) files.push_back(entry.path());
    }
    std::ranges::sort(files);
    std::vector<bytes> corpus;
    for (const std::filesystem::path& file : files) read_file(file, corpus);
    return corpus;
}

}  // namespace

int main(int argc, char** argv) {
    options chosen = read_arguments(argc, argv);
    for (int number : {SIGABRT, SIGSEGV, SIGBUS, SIGILL, SIGFPE}) std::signal(number, save_input);

    std::vector<bytes> corpus = read_corpus(chosen.paths);
    for (const bytes& input : corpus) run(input);
    std::printf("%zu files replayed\n", corpus.size());
    if (corpus.empty()) corpus.emplace_back();

    splitmix64 random(chosen.seed);
    auto start = std::chrono::steady_clock::now();
    std::uint64_t done = 0;
    for (; done < chosen.runs; ++done) {
        run(change(random, corpus));
        auto spent = std::chrono::steady_clock::now() - start;
        if (chosen.seconds_max != 0 && spent >= std::chrono::seconds(chosen.seconds_max)) break;
    }
    std::printf("%llu changed inputs run, seed %llu\n", static_cast<unsigned long long>(done),
                static_cast<unsigned long long>(chosen.seed));
    return 0;
}
