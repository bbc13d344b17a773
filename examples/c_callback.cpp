// SPDX-License-Identifier: BSD-3-Clause
//
// A C library that calls back, made awaitable. The library here is the C library's own resolver,
// getaddrinfo_a(3): it takes a request, returns, and calls a function on a thread of its own when
// the answer is there. The request lives in the coroutine's frame; nothing else is needed.
//
//     example_c_callback [HOST…]      (an address needs no network: 127.0.0.1 by default)
#include <netdb.h>
#include <signal.h>

#include <cstdio>
#include <string>
#include <vector>

#include "nacre/runtime/callback.hpp"
#include "nacre/runtime/runtime.hpp"

namespace {

using namespace nacre;

// What the library calls, on its thread: hands the answer to the thread that waits.
void answered(sigval context) {
    callback_token<>::from(context.sival_ptr).complete_from_any_thread();
}

// The address in digits, or what getaddrinfo says. EAI codes are the resolver's affair.
task<std::string> resolve(std::string host) {
    gaicb request{};
    request.ar_name = host.c_str();
    gaicb* list[] = {&request};
    sigevent how{};
    how.sigev_notify = SIGEV_THREAD;
    how.sigev_notify_function = &answered;
    const auto submit = [&](callback_token<>& token) -> int {
        how.sigev_value.sival_ptr = token.context();
        // 0: the callback will come. Anything else: it will not, and this is why.
        return getaddrinfo_a(GAI_NOWAIT, list, 1, &how) == 0 ? 0 : EAGAIN;
    };
    result<> done = co_await from_callback<>(submit);
    if (!done) co_return describe(done.error());
    if (const int code = gai_error(&request); code != 0) co_return gai_strerror(code);
    char digits[NI_MAXHOST];
    getnameinfo(request.ar_result->ai_addr, request.ar_result->ai_addrlen, digits, sizeof digits,
                nullptr, 0, NI_NUMERICHOST);
    freeaddrinfo(request.ar_result);
    co_return digits;
}

task<int> run(const std::vector<std::string>* hosts) {
    bool loopback_found = false;
    for (const std::string& host : *hosts) {
        std::string address = co_await resolve(host);
        std::printf("%s: %s\n", host.c_str(), address.c_str());
        loopback_found |= address == "127.0.0.1";
    }
    co_return loopback_found || hosts->size() > 1 ? 0 : 1;
}

}  // namespace

int main(int argc, char** argv) {
    const std::vector<std::string> hosts = argc > 1
                                               ? std::vector<std::string>(argv + 1, argv + argc)
                                               : std::vector<std::string>{"127.0.0.1"};
    outcome<std::unique_ptr<runtime>> host = runtime::make(real_world());
    if (!host) {
        std::fprintf(stderr, "%s\n", host.error().message.c_str());
        return 1;
    }
    return (*host)->block_on(&run, &hosts);
}
