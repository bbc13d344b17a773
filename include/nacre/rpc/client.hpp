// SPDX-License-Identifier: BSD-3-Clause
//
// Calling an RPC server.
//
//     outcome<reply> r = rpc::call_once(real_world(), "/run/nacre.sock", "bdev_get_bdevs", {});
//
// `client` is for coroutines, one call at a time; `call_once` is for a program that does nothing
// else, and blocks. The outer outcome says whether there was an answer, the inner reply is it.
#pragma once

#include <cstdint>
#include <memory>
#include <span>
#include <string>

#include "nacre/core/json_scan.hpp"
#include "nacre/rpc/method.hpp"
#include "nacre/world/world.hpp"

namespace nacre::rpc {

struct client_options {
    /// SPDK's client's default. UINT64_MAX: none.
    std::uint64_t timeout_ns = 60'000'000'000;
    /// Of one answer.
    std::size_t answer_bytes_max = 64 * 1024 * 1024;
    /// Sent by rpc_authenticate before the first call; empty: not.
    std::string token = {};
};

class client {
public:
    explicit client(world& w, client_options options = {});
    /// Closes.
    ~client();
    client(const client&) = delete;
    client& operator=(const client&) = delete;

    /// To a unix socket's path, or to 127.0.0.1:5260.
    [[nodiscard]] outcome<> connect(const std::string& path);
    void close() noexcept;
    /// `params` null: none are sent. ETIMEDOUT, ECONNRESET when the server went away first.
    [[nodiscard]] task<outcome<reply>> call(std::string method, json::value params = {});

private:
    [[nodiscard]] task<result<json::value>> exchange(std::string text, std::uint64_t id);
    world& world_;
    client_options options_;
    std::string path_;
    int fd_ = -1;
    bool authenticated_ = false;
    std::uint64_t next_id_ = 1;
    std::unique_ptr<char[]> input_;  // what the framer still looks at between two calls
    std::unique_ptr<json::framer> framer_;
};

/// Connects, calls, closes. For spdk_kill_instance a connection that ends counts as success.
[[nodiscard]] outcome<reply> call_once(world& w, const std::string& path, std::string method,
                                       json::value params, client_options options = {});

/// Parameters as people type them: `name=Malloc0 num_blocks=1024 base_bdevs=a,b`, or one JSON
/// object. Of a method that `known` has, each is read as its type (sizes may have units); of others
/// as JSON where it is JSON, else as a string. No arguments: null.
[[nodiscard]] outcome<json::value> params_from_arguments(const method_table& known,
                                                         std::string_view method,
                                                         std::span<const std::string> arguments);
/// name=value of a method of which there is only what rpc_get_schema says, or null.
[[nodiscard]] outcome<json::value> params_from_arguments(const json::value& method_schema,
                                                         std::span<const std::string> arguments);

}  // namespace nacre::rpc
