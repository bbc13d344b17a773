// SPDX-License-Identifier: BSD-3-Clause
//
// The tour's step on RocksDB: Debian's own db_bench, ldb and sst_dump, into which
// libnacre_rocksdb.so is preloaded, keep two databases in one blobfs on rocks.img. One is filled
// and read; the other is filled with a synced log, and its program killed. What must then be there
// is what db_bench said it had written: fillseq writes the keys 0, 1, 2 …, each once the one before
// it is on the disk; ldb lists them.
#include <fmt/format.h>
#include <poll.h>

#include <charconv>
#include <csignal>
#include <filesystem>
#include <fstream>
#include <iterator>

#include "tour.hpp"
#include "tour_text.hpp"

namespace nacre::cli {
namespace {

namespace fs = std::filesystem;

constexpr std::uint64_t keys = 100'000;
/// It is killed after so many synced writes, or after this time if the disk is slow.
constexpr std::uint64_t synced_enough = 2000;
constexpr std::uint64_t synced_least = 20;
constexpr seconds filling_enough{2};
constexpr seconds filling_limit{60};
constexpr const char* library = "libnacre_rocksdb.so";
constexpr const char* folders[] = {".", "../lib", NACRE_LIBRARIES_FROM_PROGRAM};

/// Beside the program, or where it is installed; empty: neither.
std::string find_library(const std::string& program) {
    std::error_code ignored;
    const fs::path here = fs::path(program).parent_path();
    for (const char* folder : folders) {
        const fs::path candidate = (here / folder / library).lexically_normal();
        if (fs::exists(candidate, ignored)) return candidate.string();
    }
    return "";
}

std::string contents_of(const std::string& path) {
    std::ifstream file(path);
    return {std::istreambuf_iterator<char>(file), {}};
}

/// The number that ends where `end` begins.
std::uint64_t number_before(std::string_view text, std::size_t end) {
    std::size_t from = end;
    while (from > 0 && text[from - 1] >= '0' && text[from - 1] <= '9') --from;
    std::uint64_t n = 0;
    std::from_chars(text.data() + from, text.data() + end, n);
    return n;
}

/// What db_bench says of one benchmark.
struct benched {
    std::uint64_t per_second = 0;
    std::uint64_t found = 0;  ///< of a benchmark that looks for keys
};

outcome<benched> read_result(std::string_view printed, std::string_view benchmark) {
    const std::size_t at = printed.find(fmt::format("{:<12} :", benchmark));
    if (at == std::string_view::npos)
        return fail(EPROTO, fmt::format("db_bench printed nothing of {}", benchmark));
    const std::string_view line = printed.substr(at, printed.find('\n', at) - at);
    benched b;
    const auto number = [&](std::string_view before) {
        const std::size_t end = line.find(before);
        return end == std::string_view::npos ? 0 : number_before(line, end);
    };
    b.per_second = number(" ops/sec");
    b.found = number(" of ");
    return b;
}

/// How many operations db_bench has reported so far: "(100,2300) ops and …".
std::uint64_t reported(std::string_view errors) {
    const std::size_t end = errors.rfind(") ops and");
    return end == std::string_view::npos ? 0 : number_before(errors, end);
}

std::size_t count_of(std::string_view text, std::string_view what) {
    std::size_t n = 0;
    for (std::size_t at = text.find(what); at != std::string_view::npos;
         at = text.find(what, at + what.size()))
        ++n;
    return n;
}

/// The first of 0 to `count` that is not where it should be among the keys that ldb lists in order;
/// `count`: none. db_bench's keys are numbers of eight bytes, and eight characters '0'.
std::uint64_t first_missing(std::string_view listed, std::uint64_t count) {
    for (std::uint64_t n = 0; n < count; ++n) {
        const std::string line = fmt::format("0x{:016X}3030303030303030\n", n);
        if (!listed.starts_with(line)) return n;
        listed.remove_prefix(line.size());
    }
    return count;
}

}  // namespace

/// A tool of RocksDB's with the library, as a command.
std::vector<std::string> tour::rocksdb_tool(const char* tool,
                                            std::vector<std::string> options) const {
    std::vector<std::string> command{
        "env", "LD_PRELOAD=" + find_library(options_.program), tool,
        fmt::format("--fs_uri=nacre://file://{}?size=512MiB&mkfs=auto", file("rocks.img"))};
    command.insert(command.end(), options.begin(), options.end());
    return command;
}

outcome<> tour::fill_rocksdb(tour_findings& f) {
    doing("db_bench fills and reads");
    outcome<process_result> filled = run_process(rocksdb_tool(
        "db_bench", {"--db=/filled", fmt::format("--num={}", keys), "--write_buffer_size=4194304",
                     "--benchmarks=filluniquerandom,compact,readrandom"}));
    if (!filled) return fail(std::move(filled.error()));
    outcome<benched> fill = read_result(filled->output, "filluniquerandom");
    if (!fill) return fail(std::move(fill.error()));
    outcome<benched> read = read_result(filled->output, "readrandom");
    if (!read) return fail(std::move(read.error()));
    if (read->found != keys)
        return fail(
            EIO, fmt::format("db_bench found {} of the {} keys that it wrote", read->found, keys));
    f.did = fmt::format("db_bench filled a database with {} keys and read them", with_commas(keys));
    f.measured = fmt::format("{} writes/s, {} reads/s", with_commas(fill->per_second),
                             with_commas(read->per_second));
    f.figures = {{"keys", keys},
                 {"writes_per_second", fill->per_second},
                 {"reads_per_second", read->per_second}};
    return {};
}

/// How many synced writes db_bench had reported when it was killed.
outcome<std::uint64_t> tour::kill_rocksdb() {
    doing("db_bench fills with a synced log");
    constexpr int pause_ms = 3;
    process_options options;
    options.errors = file("rocks.log");
    std::error_code ignored;
    fs::remove(options.errors, ignored);
    outcome<child_process> filling = child_process::start(
        rocksdb_tool("db_bench", {"--db=/synced", "--sync=1", "--num=10000000",
                                  "--stats_interval=10", "--benchmarks=fillseq"}),
        options);
    if (!filling) return fail(std::move(filling.error()));
    const stopwatch since;
    std::uint64_t written = 0;
    while (written < synced_enough &&
           !(written >= synced_least && since.elapsed() > filling_enough.count())) {
        if (filling->ended() || since.elapsed() > filling_limit.count()) {
            const std::string said = contents_of(options.errors);
            const bool ended = filling->ended();
            return fail(
                ended ? ECHILD : ETIMEDOUT,
                fmt::format("db_bench {} after {} synced writes: {}",
                            ended ? "ended" : "was too slow", written,
                            said.substr(said.size() - std::min<std::size_t>(said.size(), 400))));
        }
        if (interruption::happened()) return fail(EINTR, "interrupted");
        ::poll(nullptr, 0, pause_ms);
        written = reported(contents_of(options.errors));
    }
    doing("SIGKILL");
    filling->send_signal(SIGKILL);
    outcome<process_result> killed = filling->wait(filling_limit);
    if (!killed) return fail(std::move(killed.error()));
    if (killed->status != 128 + SIGKILL)
        return fail(ECHILD, fmt::format("db_bench ended with status {} before it was killed",
                                        killed->status));
    return reported(contents_of(options.errors));
}

/// Both databases after the crash: every key, every checksum, and the blobstore below them.
outcome<> tour::check_rocksdb(std::uint64_t written, tour_findings& f) {
    doing("db_bench recovers");
    outcome<process_result> again = run_process(
        rocksdb_tool("db_bench", {"--db=/synced", "--use_existing_db=1",
                                  fmt::format("--num={}", written), "--benchmarks=readrandom"}));
    if (!again) return fail(std::move(again.error()));
    outcome<benched> read = read_result(again->output, "readrandom");
    if (!read) return fail(std::move(read.error()));
    if (read->found != written)
        return fail(EIO, fmt::format("readrandom found {} of {} keys whose writes were synced "
                                     "before SIGKILL",
                                     read->found, written));
    doing("ldb scan");
    outcome<process_result> scanned =
        run_process(rocksdb_tool("ldb", {"--db=/synced", "scan", "--hex", "--no_value",
                                         fmt::format("--max_keys={}", written)}));
    if (!scanned) return fail(std::move(scanned.error()));
    if (const std::uint64_t n = first_missing(scanned->output, written); n != written)
        return fail(EIO, fmt::format("ldb does not list key {} of {} whose writes were synced "
                                     "before SIGKILL",
                                     n, written));
    std::size_t tables = 0;
    for (const char* database : {"/filled", "/synced"}) {
        doing("sst_dump --command=verify");
        outcome<process_result> verified = run_process(
            rocksdb_tool("sst_dump", {fmt::format("--file={}", database), "--command=verify"}));
        if (!verified) return fail(std::move(verified.error()));
        const std::size_t ok = count_of(verified->output, "The file is ok");
        if (ok == 0 || ok != count_of(verified->output, "Process /"))
            return fail(EIO, fmt::format("{}: sst_dump finds a damaged table: {}", database,
                                         verified->output));
        tables += ok;
    }
    doing("nacre blob check");
    outcome<process_result> store =
        run_process({options_.program, "blob", "check", "file://" + file("rocks.img")});
    if (!store) return fail(std::move(store.error()));
    f.did += fmt::format("; SIGKILL after {} synced writes to another, which recovered",
                         with_commas(written));
    f.verified = fmt::format(
        "ldb: all {} synced keys are there; sst_dump: every checksum of {} tables; nacre blob "
        "check: the store below is clean",
        with_commas(written), tables);
    f.measured += fmt::format("; open, recovered and read {:.2f} s after exec", again->elapsed);
    f.figures.append("synced_writes", written);
    f.figures.append("tables_verified", static_cast<std::uint64_t>(tables));
    f.figures.append("recovered_seconds", rounded(again->elapsed));
    return {};
}

outcome<tour_findings> tour::rocksdb() {
    tour_findings f;
    if (find_program("db_bench").empty() || find_program("ldb").empty() ||
        find_program("sst_dump").empty()) {
        f.skipped = "db_bench is not installed: sudo apt-get install -y rocksdb-tools";
        return f;
    }
    if (find_library(options_.program).empty()) {
        f.skipped =
            fmt::format("{} is not there: it is built where librocksdb-dev is installed", library);
        return f;
    }
    if (outcome<> filled = fill_rocksdb(f); !filled) return fail(std::move(filled.error()));
    outcome<std::uint64_t> written = kill_rocksdb();
    if (!written) return fail(std::move(written.error()));
    if (outcome<> good = check_rocksdb(*written, f); !good) return fail(std::move(good.error()));
    return f;
}

}  // namespace nacre::cli
