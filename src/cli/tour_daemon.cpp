// SPDX-License-Identifier: BSD-3-Clause
#include "tour_daemon.hpp"

#include <fmt/format.h>
#include <poll.h>
#include <unistd.h>

#include <csignal>
#include <fstream>

#include "nacre/rpc/client.hpp"

namespace nacre::cli {
namespace {

constexpr seconds start_limit{30};
constexpr seconds stop_limit{30};
constexpr std::uint64_t answer_limit_ns = 30'000'000'000;

}  // namespace

outcome<double> tour_daemon::start() {
    const stopwatch since;
    process_options options;
    options.errors = log_file();
    outcome<child_process> child =
        child_process::start({program_, "serve", "--data", folder_, "--json"}, options);
    if (!child) return fail(std::move(child.error()));
    outcome<std::string> line = child->read_line(start_limit);
    const double ready = since.elapsed();
    if (!line)
        return fail(failure(line.error().code,
                            fmt::format("{}; its log is {}", line.error().message, log_file())));
    outcome<json::value> said = json::parse(*line);
    const auto socket = said ? (*said)["socket"].as_string() : std::nullopt;
    if (!socket || socket->empty())
        return fail(EPROTO, fmt::format("serve --json named no RPC socket: {}", *line));
    rpc_socket_ = *socket;
    child_ = std::move(*child);
    return ready;
}

outcome<> tour_daemon::kill() {
    child_->send_signal(SIGKILL);
    outcome<process_result> ended = child_->wait(stop_limit);
    child_.reset();
    if (!ended) return fail(std::move(ended.error()));
    return {};
}

outcome<double> tour_daemon::stop() {
    const stopwatch since;
    child_->send_signal(SIGTERM);
    outcome<process_result> ended = child_->wait(stop_limit);
    const double took = since.elapsed();
    child_.reset();
    if (!ended) return fail(std::move(ended.error()));
    if (ended->status != 0)
        return fail(EBADMSG, fmt::format("the daemon ended with status {}; its log is {}",
                                         ended->status, log_file()));
    return took;
}

outcome<json::value> tour_daemon::call(const std::string& method, json::object params) {
    outcome<rpc::reply> answered =
        rpc::call_once(real_world(), rpc_socket_, method,
                       params.empty() ? json::value() : json::value(std::move(params)),
                       {.timeout_ns = answer_limit_ns});
    if (!answered) return fail(std::move(answered.error()));
    if (!*answered)
        return fail(EREMOTEIO, fmt::format("{}: {}", method, answered->error().message));
    return std::move(**answered);
}

outcome<json::value> tour_daemon::call_until(const std::string& method, const json::object& params,
                                             const std::function<bool(const json::value&)>& done,
                                             seconds time_limit) {
    constexpr int pause_ms = 3;
    const stopwatch since;
    while (true) {
        outcome<json::value> answer = call(method, params);
        if (!answer || done(*answer)) return answer;
        if (interruption::happened()) return fail(EINTR, "interrupted");
        if (since.elapsed() > time_limit.count())
            return fail(ETIMEDOUT, fmt::format("waited {:.0f} s in vain; {} answers {}",
                                               time_limit.count(), method, answer->dump()));
        ::poll(nullptr, 0, pause_ms);
    }
}

std::uint64_t tour_daemon::resident_bytes() const {
    std::ifstream file(fmt::format("/proc/{}/statm", child_ ? child_->id() : 0));
    std::uint64_t all = 0;
    std::uint64_t resident = 0;
    file >> all >> resident;
    return resident * static_cast<std::uint64_t>(::sysconf(_SC_PAGESIZE));
}

}  // namespace nacre::cli
