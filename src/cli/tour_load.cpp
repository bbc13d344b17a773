// SPDX-License-Identifier: BSD-3-Clause
#include "tour_load.hpp"

#include <fmt/format.h>

#include <algorithm>
#include <cerrno>
#include <charconv>
#include <cstring>
#include <deque>
#include <fstream>
#include <map>

namespace nacre::cli {
namespace {

constexpr std::uint64_t sector_bytes = 512;
constexpr std::uint64_t bytes_at_once = 1 << 20;
constexpr std::uint64_t patterns = 255;  // 0 is what the area begins as

std::unexpected<failure> file_failure(const std::string& path) {
    const int problem = errno == 0 ? EIO : errno;
    return fail(problem, fmt::format("{}: {}", path, std::strerror(problem)));
}

/// "wrote 32768/32768 bytes at offset 4096": the offset of a whole write.
bool read_answer(std::string_view line, std::uint64_t& offset) {
    const std::string whole = fmt::format("wrote {0}/{0} bytes at offset ", load_area::slot_bytes);
    const std::size_t at = line.find(whole);
    if (at == std::string_view::npos) return false;
    line.remove_prefix(at + whole.size());
    return std::from_chars(line.data(), line.data() + line.size(), offset).ec == std::errc();
}

bool is_all(std::string_view bytes, char wanted) {
    return bytes.find_first_not_of(wanted) == std::string_view::npos;
}

}  // namespace

load_run::load_run(const load_area& area, std::uint64_t batches, std::uint64_t generation)
    : area_(area) {
    constexpr std::uint64_t stride = 37;  // no divisor of the number of patterns
    prng dice(generation);
    std::vector<std::uint64_t> slots(area.slots);
    for (std::uint64_t i = 0; i < area.slots; ++i) slots[i] = i;
    std::vector<std::uint64_t> times(area.slots);
    for (std::uint64_t b = 0; b < batches; ++b) {
        for (std::uint64_t i = 0; i < std::min(batch_writes, area.slots); ++i) {
            std::swap(slots[i], slots[dice.between(i, area.slots - 1)]);
            const std::uint64_t slot = slots[i];
            const std::uint64_t number =
                generation * stride * stride + slot * stride + ++times[slot];
            writes_.push_back({slot, static_cast<unsigned char>(1 + number % patterns)});
        }
    }
}

std::string load_run::script() const {
    std::string text;
    for (std::size_t i = 0; i < writes_.size(); ++i) {
        fmt::format_to(std::back_inserter(text), "aio_write -P {} {} {}\n", writes_[i].pattern,
                       area_.offset_of(writes_[i].slot), load_area::slot_bytes);
        if ((i + 1) % batch_writes == 0 || i + 1 == writes_.size()) text += "aio_flush\nflush\n";
    }
    return text;
}

outcome<> load_run::read_answers(std::string_view printed) {
    // Answers come in any order within a batch, which has each slot only once.
    std::map<std::uint64_t, std::deque<write*>> waiting;
    for (write& w : writes_) waiting[area_.offset_of(w.slot)].push_back(&w);
    while (!printed.empty()) {
        const std::size_t end = std::min(printed.find('\n'), printed.size());
        const std::string_view line = printed.substr(0, end);
        printed.remove_prefix(std::min(end + 1, printed.size()));
        std::uint64_t offset = 0;
        if (!read_answer(line, offset)) continue;
        const auto found = waiting.find(offset);
        if (found == waiting.end() || found->second.empty())
            return fail(EPROTO, fmt::format("qemu-io acknowledges what it was not told: {}", line));
        found->second.front()->acknowledged = true;
        found->second.pop_front();
        ++acknowledged_;
    }
    return {};
}

std::vector<load_run::write> load_run::in_flight() const {
    for (std::size_t first = 0; first < writes_.size(); first += batch_writes) {
        const auto begin = writes_.begin() + static_cast<std::ptrdiff_t>(first);
        const auto end = begin + static_cast<std::ptrdiff_t>(
                                     std::min<std::size_t>(batch_writes, writes_.size() - first));
        if (std::all_of(begin, end, [](const write& w) { return w.acknowledged; })) continue;
        std::vector<write> result;
        std::copy_if(begin, end, std::back_inserter(result),
                     [](const write& w) { return !w.acknowledged; });
        return result;
    }
    return {};
}

outcome<> volume_model::apply(const load_run& run) const {
    std::fstream file(path_, std::ios::in | std::ios::out | std::ios::binary);
    for (const load_run::write& w : run.writes()) {
        if (!w.acknowledged) continue;
        const std::string content(load_area::slot_bytes, static_cast<char>(w.pattern));
        file.seekp(static_cast<std::streamoff>(area_.offset_of(w.slot)));
        file.write(content.data(), static_cast<std::streamsize>(content.size()));
    }
    file.close();
    if (!file) return file_failure(path_);
    return {};
}

outcome<volume_model::comparison> volume_model::settle(const load_run& run,
                                                       const std::string& seen) const {
    comparison result;
    std::map<std::uint64_t, char> open;  // slots that may hold this pattern besides
    for (const load_run::write& w : run.in_flight()) open[w.slot] = static_cast<char>(w.pattern);
    std::map<std::uint64_t, char> happened;  // sectors, by place
    std::ifstream mine(path_, std::ios::binary);
    std::ifstream other(seen, std::ios::binary);
    if (!mine) return file_failure(path_);
    if (!other) return file_failure(seen);
    std::string a(bytes_at_once, 0);
    std::string b(bytes_at_once, 0);
    while (mine && other) {
        mine.read(a.data(), bytes_at_once);
        other.read(b.data(), bytes_at_once);
        if (other.gcount() != mine.gcount())
            return fail(EILSEQ, fmt::format("{} is not as long as {}", seen, path_));
        const auto n = static_cast<std::size_t>(mine.gcount());
        for (std::size_t i = 0; i < n; i += sector_bytes) {
            const std::uint64_t place = result.bytes + i;
            const std::string_view expected = std::string_view(a).substr(i, sector_bytes);
            const std::string_view found = std::string_view(b).substr(i, sector_bytes);
            const auto maybe = place < area_.offset
                                   ? open.end()
                                   : open.find((place - area_.offset) / load_area::slot_bytes);
            if (maybe != open.end() && is_all(found, maybe->second)) {
                ++result.in_flight_new;
                happened[place] = maybe->second;
            } else if (found != expected) {
                return fail(EILSEQ, fmt::format("{}: the sector at byte {} holds {:#04x}…, but "
                                                "what was acknowledged is {:#04x}…",
                                                seen, place, static_cast<unsigned char>(found[0]),
                                                static_cast<unsigned char>(expected[0])));
            } else if (maybe != open.end()) {
                ++result.in_flight_old;
            }
        }
        result.bytes += n;
    }
    if (outcome<> taken = take_over(happened); !taken) return fail(std::move(taken.error()));
    return result;
}

outcome<> volume_model::take_over(const std::map<std::uint64_t, char>& sectors) const {
    std::fstream file(path_, std::ios::in | std::ios::out | std::ios::binary);
    for (const auto& [place, pattern] : sectors) {
        const std::string content(sector_bytes, pattern);
        file.seekp(static_cast<std::streamoff>(place));
        file.write(content.data(), static_cast<std::streamsize>(content.size()));
    }
    file.close();
    if (!file) return file_failure(path_);
    return {};
}

}  // namespace nacre::cli
