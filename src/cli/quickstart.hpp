// SPDX-License-Identifier: BSD-3-Clause
//
// `nacre serve --quickstart`: a folder that holds a working volume.
//
//     leg0.img, leg1.img    the two copies: sparse files of 1 GiB, and 1 MiB for what raid1 keeps
//     config.json           the configuration, as save_config writes it
//     nbd.sock, rpc.sock    while it runs
//
// The first start writes config.json with the two file bdevs and their UUIDs, makes the mirror and
// its export, and saves the configuration again. Each step finds what an interrupted start left.
// Later starts load config.json, and the mirror assembles from what is on the legs. A folder that
// was moved is found by where its first leg is said to be, and the paths are changed.
//
// A mirror is made only while config.json has no export: later, legs without one are an error, not
// something to write over.
#pragma once

#include <string>

#include "nacre/app/app.hpp"

namespace nacre::cli {

class quickstart {
public:
    static constexpr const char* volume = "vol0";

    /// `folder` is absolute.
    quickstart(world& w, std::string folder) : world_(w), folder_(std::move(folder)) {}

    /// Before the app is made: the folder and its configuration, into `options`.
    [[nodiscard]] outcome<> prepare(app_options& options);
    /// A start hook.
    [[nodiscard]] task<outcome<>> bring_up(app& application);

    [[nodiscard]] bool made_now() const noexcept { return first_; }
    [[nodiscard]] std::string path(std::string_view name) const;

private:
    [[nodiscard]] outcome<> write_first_configuration();
    [[nodiscard]] outcome<> read_configuration(app_options& options);
    [[nodiscard]] task<outcome<>> make_mirror(app& application);
    [[nodiscard]] task<outcome<>> make_export(app& application);

    world& world_;
    std::string folder_;
    bool first_ = false;    // the mirror has not been made and exported yet
    bool unsaved_ = false;  // config.json says something else
};

}  // namespace nacre::cli
