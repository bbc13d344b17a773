// SPDX-License-Identifier: BSD-3-Clause
//
// Methods on NVMe devices: bdevs over those that the kernel drives, and commands as they are to any
// bdev that takes them.
#include <fmt/format.h>

#include "modules/nvme/nvme.hpp"
#include "nacre/core/bytes.hpp"
#include "nacre/memory/dma_buffer.hpp"
#include "tables.hpp"

namespace nacre::rpc {

namespace {

task<reply> xnvme_create(context& here, nvme_options options) {
    outcome<std::string> made = co_await create_nvme(here.bdevs(), std::move(options));
    // SPDK has one code for all that goes wrong here.
    if (!made) co_return refuse(internal_error, std::move(made.error().message));
    co_return to_reply(made);
}
task<reply> xnvme_delete(context& here, name_params params) {
    outcome<> deleted = co_await delete_nvme(here.bdevs(), std::move(params.name));
    co_return to_reply(deleted);
}

// --- bdev_nvme_send_cmd -------------------------------------------------------------------------

constexpr std::size_t data_bytes_max = std::size_t{16} << 20;

enum class command_type : std::uint8_t { admin, io };
[[nodiscard]] constexpr auto json_names(command_type) {
    using name = json::enum_name<command_type>;
    return std::array{name{"admin", command_type::admin}, name{"io", command_type::io}};
}
enum class direction : std::uint8_t { from_controller, to_controller };
[[nodiscard]] constexpr auto json_names(direction) {
    using name = json::enum_name<direction>;
    return std::array{name{"c2h", direction::from_controller},
                      name{"h2c", direction::to_controller}};
}

struct command_params {
    std::string name;
    command_type cmd_type = command_type::admin;
    direction data_direction = direction::from_controller;
    std::string cmdbuf;
    std::optional<std::string> data;
    std::optional<std::string> metadata;
    std::uint32_t data_len = 0;
    std::uint32_t metadata_len = 0;
    std::uint32_t timeout_ms = 0;

    static std::span<const json::field> fields() {
        using self = command_params;
        static constexpr json::field table[] = {
            json::required<&self::name>("name", "Name of a bdev that takes NVMe commands"),
            json::required<&self::cmd_type>("cmd_type", "Which queue it is for"),
            json::required<&self::data_direction>("data_direction",
                                                  "To the host (c2h) or the controller (h2c)"),
            json::required<&self::cmdbuf>("cmdbuf", "The 64 bytes of the command, base64 of URLs"),
            json::optional<&self::data>("data", "What goes to the controller, likewise"),
            json::optional<&self::metadata>("metadata", "Metadata beside it, likewise"),
            json::optional<&self::data_len>("data_len", "Bytes that come from the controller"),
            json::optional<&self::metadata_len>("metadata_len", "Bytes of metadata likewise"),
            json::optional<&self::timeout_ms>("timeout_ms", "0: the device's own"),
        };
        return table;
    }
};

std::unexpected<request_error> invalid(std::string_view what) {
    return refuse(invalid_params, fmt::format("Invalid argument: {}", what));
}

/// Memory of `length` bytes, or with what `text` holds; empty for neither.
std::expected<dma_buffer, request_error> memory_of(const std::optional<std::string>& text,
                                                   std::uint32_t length, const char* name) {
    std::vector<std::byte> bytes;
    if (text) {
        result<std::vector<std::byte>> decoded = from_base64url(*text);
        if (!decoded) return invalid(fmt::format("{} is no base64 of URLs", name));
        bytes = std::move(*decoded);
        if (length != 0 && length != bytes.size())
            return invalid(fmt::format("{} has {} bytes, and {}_len says {}", name, bytes.size(),
                                       name, length));
    }
    const std::size_t size = text ? bytes.size() : length;
    if (size > data_bytes_max)
        return invalid(
            fmt::format("{} of {} bytes; no more than {} go by RPC", name, size, data_bytes_max));
    if (size == 0) return dma_buffer();
    result<dma_buffer> made = dma_buffer::allocate(byte_count(size));
    if (!made) return refuse(internal_error, describe(made.error()));
    std::ranges::copy(bytes, made->writable_unchecked().begin());
    return std::move(*made);
}

json::value answer_of(const command_params& params, const nvme_completion& completion,
                      const dma_buffer& data, const dma_buffer& metadata) {
    json::object answer{{"cpl", to_base64url(object_bytes(completion))}};
    if (params.data_direction == direction::from_controller) {
        if (!data.empty()) answer.append("data", to_base64url(data.bytes()));
        if (!metadata.empty()) answer.append("metadata", to_base64url(metadata.bytes()));
    }
    // SPDK's answer ends here; what failed says what as well.
    if (completion.status().failed()) answer.append("status", describe(completion.status()));
    return answer;
}

std::string next_step(error why) {
    if (why.is(ENOTSUP)) return "; only NVMe devices, and passthru over them, take commands";
    if (why.is(EACCES) || why.is(EPERM))
        return "; the kernel leaves it to root: start the daemon so";
    return "";
}

task<reply> send_command(context& here, command_params params) {
    result<std::vector<std::byte>> encoded = from_base64url(params.cmdbuf);
    nvme_command command;
    if (!encoded || encoded->size() != sizeof command)
        co_return invalid("cmdbuf is not 64 bytes in base64 of URLs");
    std::memcpy(&command, encoded->data(), sizeof command);
    auto data = memory_of(params.data, params.data_len, "data");
    if (!data) co_return std::unexpected(std::move(data.error()));
    auto metadata = memory_of(params.metadata, params.metadata_len, "metadata");
    if (!metadata) co_return std::unexpected(std::move(metadata.error()));
    if (here.bdevs().find(params.name) == nullptr)
        co_return invalid(params.name + ": no bdev of this name");

    const bool admin = params.cmd_type == command_type::admin;
    const bool reads = only_reads(command, admin ? opcode::nvme_admin : opcode::nvme_io);
    outcome<bdev_desc> desc = here.bdevs().open(params.name, reads ? access::read : access::write);
    if (!desc) co_return refuse(internal_error, std::move(desc.error().message));
    outcome<bdev_channel> channel = desc->open_channel();
    if (!channel) co_return refuse(internal_error, std::move(channel.error().message));
    result<nvme_completion> completion = nvme_completion();
    const iov_view body(data->writable_unchecked());
    if (admin)
        completion = co_await channel->nvme_admin(command, body, params.timeout_ms);
    else
        completion = co_await channel->nvme_io(command, body, metadata->writable_unchecked(),
                                               params.timeout_ms);
    if (!completion)
        co_return refuse(internal_error,
                         fmt::format("{}: NVMe command {:02x}h: {}{}", params.name, command.opcode,
                                     describe(completion.error()), next_step(completion.error())));
    co_return answer_of(params, *completion, *data, *metadata);
}

}  // namespace

std::span<const method> bdev_nvme_methods() noexcept {
    constexpr state runtime = state::runtime;
    static constexpr method table[] = {
        declare<&send_command>("bdev_nvme_send_cmd", runtime,
                               "Sends an NVMe command as it is, and answers with the completion"),
        declare<&xnvme_delete>("bdev_xnvme_delete", runtime, "Deletes a bdev over an NVMe device"),
        declare<&xnvme_create>("bdev_xnvme_create", runtime,
                               "Makes a bdev over a namespace of an NVMe device of the kernel's",
                               &bdev_of_that_name),
    };
    return table;
}

}  // namespace nacre::rpc
