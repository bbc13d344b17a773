// SPDX-License-Identifier: BSD-3-Clause
//
// tour::load: qemu-io at work on the load area of a volume.
#pragma once

#include <fstream>
#include <string>
#include <string_view>

#include "tour.hpp"

namespace nacre::cli {

/// qemu-io at work on the load area.
class tour::load {
public:
    static constexpr seconds limit{100};
    /// Before what is to happen under load happens.
    static constexpr std::uint64_t writes_first = 200;

    /// On the load area of the volume that is exported so, and whose bdev is so called.
    static outcome<load> start(tour& t, std::uint64_t batches, std::string_view exported,
                               std::string bdev) {
        load l(load_run(t.area_, batches, ++t.generation_), t.file("load.answers"),
               std::move(bdev));
        process_options options;
        options.input = t.file("load.script");
        options.output = l.answers;
        std::ofstream(options.input) << l.run.script();
        outcome<json::value> before = t.daemon_.call("bdev_get_iostat", l.of_volume);
        if (!before) return fail(std::move(before.error()));
        l.writes_before = writes_of(*before);
        outcome<child_process> child = child_process::start(
            {"qemu-io", "-f", "raw", "--cache=none", t.uri(exported)}, options);
        if (!child) return fail(std::move(child.error()));
        l.child.emplace(std::move(*child));
        return l;
    }
    /// Until the volume has been given so many of its writes; how many they are.
    outcome<std::uint64_t> wait_for(tour& t, std::uint64_t writes) {
        outcome<json::value> seen = t.daemon_.call_until(
            "bdev_get_iostat", of_volume,
            [&](const json::value& v) {
                return writes_of(v) >= writes_before + writes || child->ended();
            },
            limit);
        if (!seen) return fail(std::move(seen.error()));
        return writes_of(*seen) - writes_before;
    }

    load_run run;
    std::string answers;  // file
    std::optional<child_process> child{};
    std::uint64_t writes_before = 0;

private:
    load(load_run r, std::string file, std::string bdev)
        : run(std::move(r)),
          answers(std::move(file)),
          of_volume{{"names", json::array{std::move(bdev)}}} {}
    static std::uint64_t writes_of(const json::value& iostat) {
        return iostat["bdevs"][0]["num_write_ops"].as_uint64().value_or(0);
    }
    json::object of_volume;
};

}  // namespace nacre::cli
