// SPDX-License-Identifier: BSD-3-Clause
//
// The options of `nacre blob`. A file of its own, because the shell parses each line with them.
#include <CLI/CLI.hpp>
#include <algorithm>

#include "blob_commands.hpp"
#include "whole_number.hpp"

namespace nacre::cli {
namespace {

constexpr std::string_view readers[] = {"list", "info",      "tree",      "export",
                                        "dump", "xattr get", "xattr list"};

class builder {
public:
    builder(blob_request& r, bool in_shell) : r_(r), in_shell_(in_shell) {}

    /// `prints`: it has --json.
    CLI::App& add(CLI::App& to, const std::string& group, const std::string& name,
                  const std::string& what, bool prints = false) {
        CLI::App& command = *to.add_subcommand(name, what);
        const std::string full = group.empty() ? name : group + " " + name;
        command.callback([&r = r_, full] { r.command = full; });
        if (!in_shell_) {
            command
                .add_option("BDEV", r_.bdev,
                            "URI of the bdev that the store is on, or the name of one of --config")
                ->required()
                ->type_name("URI|NAME");
            command
                .add_option("-c,--config", r_.config_file,
                            "Configuration whose bdevs are made, as save_config writes it")
                ->type_name("FILE");
            command
                .add_option("--with", r_.others,
                            "URI of a further bdev, which an external snapshot names")
                ->type_name("URI");
        }
        if (prints) command.add_flag("--json", r_.print_json, "Print the result as JSON");
        return command;
    }
    void blob(CLI::App& command, const std::string& what = "Its id, name or UUID",
              bool required = true) {
        CLI::Option* option = command.add_option("BLOB", r_.blob, what);
        if (required) option->required();
    }
    void one_blob(CLI::App& to, const char* name, const char* what) {
        blob(add(to, "", name, what));
    }
    void name(CLI::App& command, const std::string& what) {
        command.add_option("NAME", r_.name, what)->required();
    }
    void size(CLI::App& command) {
        CLI::Option* size =
            command.add_option("--size", r_.size, "Bytes, such as 1GiB; whole clusters are taken");
        command.add_option("--clusters", r_.clusters, "Size in clusters")
            ->check(whole_number())
            ->excludes(size);
    }
    void new_attributes(CLI::App& command) {
        command.add_option("--name", r_.name, "Attribute \"name\", by which commands find it");
        command.add_option("--xattr", r_.xattrs, "Attribute NAME=VALUE; can be given repeatedly")
            ->type_name("NAME=VALUE");
    }

    void queries(CLI::App& to) {
        add(to, "", "list", "List the blobs", true);
        blob(add(to, "", "info", "Say what the store is, or one of its blobs", true),
             "Its id, name or UUID; absent: the store", false);
        add(to, "", "tree", "Draw which blobs read through which snapshots", true);
        add(to, "", "dump", "Print the metadata as text");
    }
    void changes(CLI::App& to) {
        CLI::App& create = add(to, "", "create", "Create a blob and print its id");
        size(create);
        create.add_flag("--thin", r_.thin, "Clusters are allocated when they are first written");
        new_attributes(create);
        CLI::App& resize = add(to, "", "resize", "Change the size of a blob");
        blob(resize);
        size(resize);
        one_blob(to, "delete", "Delete a blob; what it held is lost");
        for (const auto& [name, what] :
             {std::pair("snapshot", "Make a read-only copy of a blob and print its id"),
              std::pair("clone", "Make a writable copy of a snapshot and print its id")}) {
            CLI::App& command = add(to, "", name, what);
            blob(command);
            new_attributes(command);
        }
        one_blob(to, "inflate", "Copy what a blob reads through its snapshots into it");
    }
    void transfers(CLI::App& to) {
        CLI::App& import =
            add(to, "", "import",
                "Copy a file into a blob; zeros are not stored. One that is not there is made");
        import.add_option("FILE", r_.file, "-: standard input")->required();
        blob(import, "Its id, name or UUID; or the name of a new one");
        CLI::App& exported = add(to, "", "export", "Copy a blob into a file; zeros become holes");
        blob(exported);
        exported.add_option("FILE", r_.file, "-: standard output")->required();
    }
    void attributes(CLI::App& to) {
        CLI::App& xattr = *to.add_subcommand("xattr", "Attributes of a blob");
        xattr.require_subcommand(1);
        CLI::App& get = add(xattr, "xattr", "get", "Print the value of one");
        blob(get);
        name(get, "Of the attribute");
        CLI::App& set = add(xattr, "xattr", "set", "Set one");
        blob(set);
        name(set, "Of the attribute");
        set.add_option("VALUE", r_.value, "Text; name and value have 4063 bytes together")
            ->required();
        CLI::App& remove = add(xattr, "xattr", "rm", "Remove one");
        blob(remove);
        name(remove, "Of the attribute");
        blob(add(xattr, "xattr", "list", "Print all, with their values", true));
    }
    void whole_store(CLI::App& to) {
        CLI::App& init = add(to, "", "init", "Make an empty store; what the bdev held is LOST");
        init.add_option("--cluster-size", r_.cluster_size, "Bytes, a multiple of 4KiB")
            ->capture_default_str();
        init.add_option("--metadata-pages", r_.metadata_pages,
                        "Each blob needs two; 0: one for each cluster")
            ->check(whole_number());
        init.add_option("--type", r_.type, "At most 16 bytes, such as LVOLSTORE");
        CLI::App& check =
            add(to, "", "check", "Check the store, and say what is wrong, in which blob", true);
        check.footer(
            "The exit status is 0 for a clean store and 1 for any other. Without --repair nothing\n"
            "is written.");
        CLI::Option* const repair = check.add_flag(
            "--repair", r_.repair,
            "Rebuild masks, finish or undo what a crash left half-way, empty stray pages");
        check
            .add_flag("--remove-damaged", r_.remove_damaged,
                      "Remove blobs that cannot be opened; what they held is LOST")
            ->needs(repair);
        CLI::App& shell = add(to, "", "shell", "Load the store and take commands, one a line");
        shell.add_flag("--read-only", r_.read_only, "Write nothing");
    }

private:
    blob_request& r_;
    bool in_shell_;
};

}  // namespace

bool only_reads(std::string_view command) noexcept {
    return std::ranges::find(readers, command) != std::end(readers);
}

void add_blob_commands(CLI::App& to, blob_request& request, bool in_shell) {
    builder b(request, in_shell);
    b.queries(to);
    b.changes(to);
    b.transfers(to);
    b.attributes(to);
    if (!in_shell) b.whole_store(to);
    to.require_subcommand(1);
}

}  // namespace nacre::cli
