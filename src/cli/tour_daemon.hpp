// SPDX-License-Identifier: BSD-3-Clause
//
// The `nacre serve` that the tour drives: started from the same binary, spoken to by RPC.
#pragma once

#include <cstdint>
#include <functional>
#include <optional>
#include <string>

#include "nacre/core/json.hpp"
#include "process.hpp"

namespace nacre::cli {

class tour_daemon {
public:
    /// `folder` has the daemon's sockets, configuration and log.
    tour_daemon(std::string program, std::string folder)
        : program_(std::move(program)), folder_(std::move(folder)) {}

    /// Returns when it is ready: seconds since the exec.
    [[nodiscard]] outcome<double> start();
    [[nodiscard]] bool running() const noexcept { return child_.has_value(); }
    /// SIGKILL; nobody is asked.
    [[nodiscard]] outcome<> kill();
    /// SIGTERM; seconds until it has ended. EBADMSG if it did not end in good order.
    [[nodiscard]] outcome<double> stop();

    /// The result; a refusal becomes a failure that names the method.
    [[nodiscard]] outcome<json::value> call(const std::string& method, json::object params = {});
    /// Asks again and again until `done` says so of the result. ETIMEDOUT.
    [[nodiscard]] outcome<json::value> call_until(
        const std::string& method, const json::object& params,
        const std::function<bool(const json::value&)>& done, seconds time_limit);

    [[nodiscard]] std::string log_file() const { return folder_ + "/serve.log"; }
    [[nodiscard]] std::string config_file() const { return folder_ + "/config.json"; }
    [[nodiscard]] std::string nbd_socket() const { return folder_ + "/nbd.sock"; }
    /// Resident memory now, bytes; 0 if nobody knows.
    [[nodiscard]] std::uint64_t resident_bytes() const;

private:
    std::string program_;
    std::string folder_;
    std::string rpc_socket_;
    std::optional<child_process> child_;
};

}  // namespace nacre::cli
