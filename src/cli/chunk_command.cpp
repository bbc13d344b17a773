// SPDX-License-Identifier: BSD-3-Clause
//
// `nacre chunk`: parses the command line here, and has nacre-chunk.so, which links RocksDB, carry
// it out.
#include <fmt/format.h>

#include <CLI/CLI.hpp>
#include <memory>

#include "commands.hpp"
#include "nacre/core/parse.hpp"
#include "nacre/world/plugin.hpp"
#include "plugins/chunk/api.hpp"

namespace nacre::cli {
namespace {

struct chunk_arguments {
    std::string command, address, path = "/chunk", name, file, prefix;
    std::string offset = "0", length, size = "0", rate = "0";
    std::string rw = "randwrite", object_size = "16MiB", io_size = "4KiB", runtime = "5s";
    unsigned threads = 4;
    unsigned objects = 4;
    std::uint64_t seed = 1;
    bool print_json = false;
    bool keep = false;
};

outcome<const chunks::tool_api*> load_tool() {
    constexpr plugin_file file{.name = "nacre-chunk.so",
                               .needs = "RocksDB is in Debian's package librocksdb7.8",
                               .built_with = "librocksdb-dev"};
    const outcome<void*> function = open_plugin(file, chunks::tool_symbol);
    if (!function) return fail(function.error());
    const chunks::tool_api* const api = reinterpret_cast<chunks::tool_function>(*function)();
    if (api->version != chunks::tool_version || api->request_bytes != sizeof(chunks::tool_request))
        return fail(ELIBACC,
                    "nacre-chunk.so: is of another version of nacre; build and install "
                    "both together");
    return api;
}

/// The status of wrong usage is 2.
int wrong_usage(const std::string& option, const std::string& why) {
    (void)report_failure(option + " " + why);
    return 2;
}

int run_chunk(const chunk_arguments& a) {
    chunks::tool_request r;
    r.command = a.command.c_str();
    r.address = a.address.c_str();
    r.path = a.path.c_str();
    r.name = a.name.c_str();
    r.file = a.file.c_str();
    r.prefix = a.prefix.c_str();
    r.print_json = a.print_json;
    r.rw = a.rw.c_str();
    r.threads = a.threads;
    r.objects = a.objects;
    r.seed = a.seed;
    r.keep = a.keep;
    const struct {
        const char* option;
        const std::string& text;
        std::uint64_t& to;
    } sizes[] = {{"--offset", a.offset, r.offset},
                 {"--length", a.length, r.length},
                 {"SIZE", a.size, r.size},
                 {"--rate", a.rate, r.rate},
                 {"--object-size", a.object_size, r.object_bytes},
                 {"--io-size", a.io_size, r.io_bytes}};
    for (const auto& s : sizes) {
        if (s.text.empty()) continue;  // its default
        const outcome<std::uint64_t> n = parse_size(s.text);
        if (!n) return wrong_usage(s.option, n.error().message);
        s.to = *n;
    }
    const auto runtime = parse_duration(a.runtime);
    if (!runtime) return wrong_usage("--runtime", runtime.error().message);
    r.runtime_ns = static_cast<std::uint64_t>(runtime->count());
    const outcome<const chunks::tool_api*> api = load_tool();
    if (!api) return report_failure(api.error().message);
    return (*api)->run(r);
}

class builder {
public:
    builder(CLI::App& to, chunk_arguments& a) : to_(to), a_(a) {}
    CLI::App& add(const std::string& name, const std::string& what, bool with_object) {
        CLI::App& command = *to_.add_subcommand(name, what);
        command.callback([&a = a_, name] { a.command = name; });
        command
            .add_option("ADDRESS", a_.address,
                        "Where the store is: a bdev's URI, such as file:///data/disk.img, or a "
                        "configuration's bdev, such as /etc/nacre.json?bdev=lvs0/db")
            ->required();
        if (with_object) command.add_option("NAME", a_.name, "The object")->required();
        command.add_option("--path", a_.path, "The store's directory in the file system")
            ->capture_default_str();
        return command;
    }
    void json(CLI::App& command) {
        command.add_flag("--json", a_.print_json, "Print the result as JSON");
    }

private:
    CLI::App& to_;
    chunk_arguments& a_;
};

void add_object_commands(builder& b, chunk_arguments& a) {
    CLI::App& create = b.add("create", "Make an object, of zeros", true);
    create.add_option("--size", a.size, "Bytes, such as 1MiB")->capture_default_str();
    CLI::App& put = b.add("put",
                          "Copy a file in as an object, which is replaced if it is there; "
                          "durable in pieces of 16 MiB",
                          true);
    put.add_option("FILE", a.file, "What; - or nothing: standard input");
    CLI::App& get = b.add("get", "Copy an object out", true);
    get.add_option("FILE", a.file, "Where to; - or nothing: standard output");
    CLI::App& write =
        b.add("write", "Write a part of an object; up to 16 MiB all or nothing", true);
    write.add_option("FILE", a.file, "What; - or nothing: standard input");
    write.add_option("--offset", a.offset, "Byte of the object")->capture_default_str();
    CLI::App& read = b.add("read", "Read a part of an object", true);
    read.add_option("FILE", a.file, "Where to; - or nothing: standard output");
    read.add_option("--offset", a.offset, "Byte of the object")->capture_default_str();
    read.add_option("--length", a.length, "Bytes; default: to the end");
    CLI::App& resize = b.add("resize", "Cut an object, or add zeros", true);
    resize.add_option("SIZE", a.size, "Bytes, such as 1MiB")->required();
    CLI::App& stat = b.add("stat", "Show all that is known of an object", true);
    b.json(stat);
    b.add("rm", "Remove an object; its space is free then", true);
}

void add_store_commands(builder& b, chunk_arguments& a) {
    CLI::App& ls = b.add("ls", "List objects, in the order of their names", false);
    ls.add_option("--prefix", a.prefix, "Those whose names begin so");
    b.json(ls);
    CLI::App& info =
        b.add("info", "Show how many objects there are, and how full the store is", false);
    b.json(info);
    CLI::App& scrub = b.add("scrub",
                            "Read all pages and verify their checksums; exit status 1 if "
                            "one is wrong",
                            false);
    scrub.add_option("--rate", a.rate, "Bytes a second at most, such as 50MiB; 0: any")
        ->capture_default_str();
    b.json(scrub);
    CLI::App& check = b.add("check",
                            "Hold the records against each other, and account for all "
                            "space; reads no data. Exit status 1 if something is wrong",
                            false);
    b.json(check);
    CLI::App& perf = b.add("perf",
                           "Load the store with calls of many threads on objects of its "
                           "own, perf/0 and so on",
                           false);
    perf.add_option("--rw", a.rw, "What they do")
        ->check(CLI::IsMember({"read", "write", "randread", "randwrite"}))
        ->capture_default_str();
    perf.add_option("--threads", a.threads, "How many")->capture_default_str();
    perf.add_option("--objects", a.objects, "How many; calls on one wait for each other")
        ->capture_default_str();
    perf.add_option("--object-size", a.object_size, "Bytes of each")->capture_default_str();
    perf.add_option("--io-size", a.io_size, "Bytes of a call")->capture_default_str();
    perf.add_option("--runtime", a.runtime, "How long")->capture_default_str();
    perf.add_option("--seed", a.seed, "Of the places and the data")->capture_default_str();
    perf.add_flag("--keep", a.keep, "Leave the objects there");
    b.json(perf);
}

}  // namespace

void add_chunk(CLI::App& program, action& chosen) {
    auto a = std::make_shared<chunk_arguments>();
    CLI::App& command = *program.add_subcommand(
        "chunk", "Keep objects in a chunk store: put, get, write, scrub, check, load");
    command.footer(
        "Examples:\n"
        "  nacre chunk put 'file:///tmp/c.img?size=1GiB&mkfs=auto' users /etc/passwd\n"
        "  nacre chunk ls file:///tmp/c.img\n"
        "  nacre chunk read file:///tmp/c.img users --offset 100 --length 20\n"
        "  nacre chunk perf file:///tmp/c.img --rw randwrite --threads 8 --objects 8\n"
        "mkfs=auto formats a device whose first MiB is zeros, and nothing else. get, read, stat, "
        "ls,\n"
        "info and check write nothing. A page whose checksum is wrong is never printed.");
    builder b(command, *a);
    add_object_commands(b, *a);
    add_store_commands(b, *a);
    command.require_subcommand(1);
    command.callback([a, &chosen] { chosen = [a] { return run_chunk(*a); }; });
}

}  // namespace nacre::cli
