// SPDX-License-Identifier: BSD-3-Clause
//
// One connection in its transmission phase, on its export's thread.
//
// Two coroutines: one receives and starts requests, one sends replies. A receive takes whatever is
// there, and everything whole in it is started in the same turn. A request whose blocks are whole
// is one op, carried by the request itself, without a coroutine. Replies gather until the turn is
// over or the last send has ended, then leave together in one send, payloads straight from where
// the device put them. The rest of a write's payload is received where the device takes it from.
//
// A connection ends when the client says so or vanishes, when it breaks the protocol, or when
// begin_close() is called; in each case what is in flight at the device is awaited first.
//
// Bounds: `limits`. Nothing is allocated per request once the buffers are warm.
#pragma once

#include <array>
#include <memory>
#include <optional>
#include <string>
#include <vector>

#include "nacre/bdev/bdev_channel.hpp"
#include "nacre/serve/nbd.hpp"
#include "nbd_buffers.hpp"
#include "nbd_guard.hpp"
#include "nbd_socket.hpp"
#include "nbd_wire.hpp"

namespace nacre::nbd {

class connection;

/// What a connection sees of its export; of the export's thread.
struct export_core {
    bdev_channel channel;
    std::uint64_t block_bytes = 0;
    bool can_seek = false;
    write_guard guard;
    intrusive_list<connection> connections;
    bool ended = false;  ///< no connection may begin any more
};

/// What the handshake hands over.
struct session {
    using may_cross_threads = void;
    int fd = -1;
    std::string client;  ///< "vol0: client 12", for log lines
    session_terms terms;
    limits bounds;
    std::vector<std::byte> received;  ///< what the client sent after its last option
};

class connection : public list_hook {
public:
    connection(export_core& of, session s) noexcept;
    connection(const connection&) = delete;
    connection& operator=(const connection&) = delete;
    ~connection();

    /// Until the connection has ended. The descriptor stays the caller's.
    [[nodiscard]] task<result<>> run();
    /// Later requests get ESHUTDOWN, and it ends when those in flight are answered.
    void begin_close() noexcept;

private:
    struct request;
    enum class progress : std::uint8_t { need_more, no_room };

    // Receiving: nbd_connection.cpp.
    [[nodiscard]] task<void> receive_requests();
    [[nodiscard]] task<result<>> send_replies();
    progress parse() noexcept;
    [[nodiscard]] bool has_room(const request_header& header) const noexcept;
    void take(const request_header& header) noexcept;
    void set_up_receive() noexcept;
    void received(std::int32_t n) noexcept;
    void end_receiving(std::uint64_t linger_ns) noexcept;
    void complain(const char* what) noexcept;
    [[nodiscard]] std::uint32_t gather_replies() noexcept;
    void consume_sent(std::size_t bytes) noexcept;
    [[nodiscard]] request* make_request(const request_header& header) noexcept;
    void release(request& r) noexcept;

    // Carrying out: nbd_requests.cpp.
    void start(request& r) noexcept;
    void start_read(request& r) noexcept;
    void start_trim(request& r) noexcept;
    void start_write_zeroes(request& r) noexcept;
    [[nodiscard]] bool prepare_write(request& r) noexcept;
    void write_received(request& r) noexcept;
    void enter_guard(request& r, bool exclusive) noexcept;
    void let_in(request& r) noexcept;
    void submit(request& r) noexcept;
    void came_back(request& r, error status) noexcept;
    void spawn(request& r, task<result<>> body) noexcept;
    [[nodiscard]] task<result<>> write_parts(request& r);
    [[nodiscard]] task<result<>> zero_parts(request& r);
    [[nodiscard]] task<result<>> zero_part(std::uint64_t from, std::uint64_t to, std::byte* block);
    [[nodiscard]] task<result<>> fill_edge(request& r, std::uint64_t block, std::byte* into);
    [[nodiscard]] task<result<>> report_status(request& r);
    void finish(request& r, wire_error code) noexcept;

    static constexpr std::size_t receive_bytes = 128U << 10;
    static constexpr std::size_t vectors_max = 256;

    export_core& export_;
    const session session_;
    scope children_;
    buffer_cache buffers_;
    write_guard& guard_;
    const std::uint64_t block_bytes_;

    // Receiving. Bytes begin_ to end_ of the buffer are not yet looked at.
    socket_io receive_;
    std::unique_ptr<std::byte[]> buffer_;
    std::size_t begin_ = 0;
    std::size_t end_ = 0;
    request* payload_of_ = nullptr;  // the write whose payload comes next
    std::size_t payload_left_ = 0;
    std::size_t skip_left_ = 0;  // payload of a write that was refused
    std::array<iovec, 2> receive_vectors_{};
    wait_point room_;
    bool closing_ = false;       // requests get ESHUTDOWN
    bool ended_ = false;         // nothing is received any more
    bool received_all_ = false;  // and no request begins any more

    // Requests, from their header to the last byte of their reply.
    unsigned in_flight_ = 0;
    std::uint64_t bytes_in_flight_ = 0;
    request* free_ = nullptr;

    // Sending.
    socket_io send_;
    request* replies_first_ = nullptr;
    request* replies_last_ = nullptr;
    std::size_t first_sent_ = 0;  // bytes of the first reply that have gone
    std::array<iovec, vectors_max> vectors_{};
    wait_point reply_ready_;
    bool broken_ = false;  // the client takes no replies any more
    struct linger_timer : timer {
        explicit linger_timer(connection& c) noexcept;
        connection& owner;
    } linger_{*this};
};

}  // namespace nacre::nbd
