// SPDX-License-Identifier: BSD-3-Clause
#include "modules/error/error.hpp"

#include <fmt/format.h>

#include <algorithm>
#include <cstring>

#include "nacre/bdev/child_io.hpp"
#include "nacre/memory/dma_buffer.hpp"

namespace nacre {
namespace {

/// SPDK's namespace of the UUIDs of parts of a bdev, of which this is one.
constexpr std::string_view uuid_name_space = "976b899e-3e1e-4d71-ab69-c2b08e9df8b8";

constexpr std::uint32_t never_failing = bit(opcode::reset) | bit(opcode::abort);
constexpr std::uint32_t corruptible = bit(opcode::read) | bit(opcode::write);
constexpr std::uint32_t without_end = UINT32_MAX;

/// What the ops of each kind are in for. Any thread.
class injections {
public:
    void set(opcode code, const error_injection& injection) {
        const std::lock_guard guard(mutex_);
        entry& e = entries_[static_cast<unsigned>(code)];
        e.what = injection;
        e.left.store(injection.num, std::memory_order_release);
    }
    /// Uses one up. `depth`: ops under way besides.
    [[nodiscard]] bool take(opcode code, std::uint64_t depth, error_injection& what) {
        entry& e = entries_[static_cast<unsigned>(code)];
        if (e.left.load(std::memory_order_relaxed) == 0) [[likely]]
            return false;
        const std::lock_guard guard(mutex_);
        const std::uint32_t left = e.left.load(std::memory_order_relaxed);
        if (left == 0 || depth < e.what.queue_depth) return false;
        if (left != without_end) e.left.store(left - 1, std::memory_order_relaxed);
        what = e.what;
        return true;
    }

private:
    struct entry {
        std::atomic<std::uint32_t> left{0};
        error_injection what;
    };
    std::mutex mutex_;
    std::array<entry, opcode_count> entries_;
};

class error_bdev;

class error_channel final : public module_channel {
public:
    error_channel(error_bdev& device, bdev_channel base) noexcept;
    ~error_channel() override;
    void resume_pending() noexcept {
        while (pending* p = pending_.front()) base_.forward(take(*p));
    }

private:
    /// An op that hangs, in its own backend_area.
    struct pending : list_hook {
        explicit pending(io_op& o) noexcept : op(o) {}
        io_op& op;
    };
    void submit(io_op& op) noexcept override;
    void request_abort(io_op& op) noexcept override;
    void removing() noexcept override { complete_pending(error::posix(ENODEV)); }
    void go_wrong(io_op& op, const error_injection& how) noexcept;
    task<void> corrupt(io_op& op, std::uint64_t offset, std::byte value);
    io_op& take(pending& p) noexcept {
        io_op& op = p.op;
        p.unlink();
        p.~pending();
        return op;
    }
    void complete_pending(error status) noexcept {
        while (pending* p = pending_.front()) take(*p).complete(status);
    }

    error_bdev& device_;
    bdev_channel handle_;
    module_channel& base_;
    intrusive_list<pending> pending_;
};

class error_bdev final : public layer_bdev {
public:
    error_bdev(bdev_attributes attributes, bdev_registry& registry, bdev_desc base)
        : layer_bdev(std::move(attributes), registry, std::move(base)) {}
    outcome<std::unique_ptr<module_channel>> make_channel() override {
        outcome<bdev_channel> base = open_base_channel();
        if (!base) return fail(std::move(base.error()));
        return std::make_unique<error_channel>(*this, std::move(*base));
    }
    json::value information() const override {
        return json::object{{"error_disk", json::object{{"base_bdev", base_name()}}}};
    }
    json::value configuration() const override {
        return json::object{{"method", "bdev_error_create"},
                            {"params", json::object{{"base_name", base_name()},
                                                    {"uuid", attributes().id.to_string()}}}};
    }
    [[nodiscard]] injections& wrongs() noexcept { return injections_; }
    /// On each thread that has a channel.
    [[nodiscard]] task<void> resume_pending();

private:
    friend class error_channel;
    void resume_here();

    injections injections_;
    std::mutex mutex_;  // guards the list
    std::vector<error_channel*> channels_;
};

// --- Channel ------------------------------------------------------------------------------------

error_channel::error_channel(error_bdev& device, bdev_channel base) noexcept
    : module_channel(device), device_(device), handle_(std::move(base)), base_(handle_.base()) {
    const std::lock_guard guard(device_.mutex_);
    device_.channels_.push_back(this);
}

error_channel::~error_channel() {
    const std::lock_guard guard(device_.mutex_);
    std::erase(device_.channels_, this);
}

void error_channel::submit(io_op& op) noexcept {
    error_injection how;
    if (op.code == opcode::abort) {
        request_abort(*op.target);
        op.complete();
    } else if (op.code == opcode::reset) {
        complete_pending(error::posix(ECANCELED));
        base_.forward(op);
    } else if (device_.wrongs().take(op.code, in_flight() - 1, how)) {
        go_wrong(op, how);
    } else {
        base_.forward(op);
    }
}

void error_channel::go_wrong(io_op& op, const error_injection& how) noexcept {
    switch (how.error_type) {
        case error_type::failure:
            op.complete(error::posix(EIO));
            return;
        case error_type::nvme_failure:
            op.complete(error::nvme(static_cast<std::uint8_t>(how.nvme_sct),
                                    static_cast<std::uint8_t>(how.nvme_sc)));
            return;
        case error_type::nomem:
            op.complete(error::posix(ENOMEM));
            return;
        case error_type::pending:
            static_assert(sizeof(pending) <= sizeof op.backend_area);
            pending_.push_back(*new (op.backend_area.data()) pending(op));
            return;
        case error_type::corrupt_data: {
            task<void> corrupting =
                corrupt(op, how.corrupt_offset, static_cast<std::byte>(how.corrupt_value));
            if (corrupting.valid())
                children().spawn(std::move(corrupting));
            else
                op.complete(error::posix(ENOMEM));
            return;
        }
    }
}

/// With metadata apart, where there are any: `data` are spoilt, or will be.
struct spoilt_io : child_io {
    spoilt_io(module_channel& base, const io_op& whole, const iov_view& data) noexcept
        : child_io(base, whole.code, whole.first, data, whole.flags) {
        op().flags |= whole.flags & io_op::flag_metadata;
        op().metadata = whole.metadata;
    }
};

task<void> error_channel::corrupt(io_op& op, std::uint64_t offset, std::byte value) {
    const std::size_t byte = offset % op.data.size();
    if (op.code == opcode::read) {
        spoilt_io read(base_, op, op.data);
        const error status = co_await read;
        if (status.ok())
            op.data.slice(byte, 1).for_each([&](std::span<std::byte> range) { range[0] ^= value; });
        op.complete(status);
        co_return;
    }
    // What is written belongs to the user, so a copy is spoilt.
    result<dma_buffer> copy = dma_buffer::allocate(byte_count(op.data.size()));
    if (!copy) {
        op.complete(error::posix(ENOMEM));
        co_return;
    }
    const std::span<std::byte> bytes = copy->writable_unchecked();
    op.data.copy_to(bytes.data());
    bytes[byte] ^= value;
    const iov_view spoilt(bytes);
    spoilt_io write(base_, op, spoilt);
    const error status = co_await write;
    op.complete(status);
}

void error_channel::request_abort(io_op& op) noexcept {
    for (pending* p = pending_.front(); p != nullptr; p = pending_.next(*p)) {
        if (&p->op != &op) continue;
        take(*p).complete(error::posix(ECANCELED));
        return;
    }
    base_.request_abort(op);
}

// --- Device -------------------------------------------------------------------------------------

void error_bdev::resume_here() {
    error_channel* mine = nullptr;
    {
        const std::lock_guard guard(mutex_);
        for (error_channel* c : channels_)
            if (&c->home() == thread::current()) mine = c;
    }
    if (mine != nullptr) mine->resume_pending();
}

task<void> error_bdev::resume_pending() {
    const std::shared_ptr<layer_bdev> self = shared_from_this();
    std::vector<thread*> threads;
    {
        const std::lock_guard guard(mutex_);
        for (error_channel* c : channels_) threads.push_back(&c->home());
    }
    const auto resume = [](across<error_bdev> d) { d->resume_here(); };
    for (thread* t : threads) co_await call_on(*t, resume, across<error_bdev>(*this));
}

uuid default_uuid(const bdev& base) {
    std::array<std::byte, uuid::size + 16> name{};
    std::ranges::copy(base.attributes().id.bytes(), name.begin());
    const std::uint64_t place[2] = {0, base.blocks().value()};  // the part that is all of it
    std::memcpy(name.data() + uuid::size, place, sizeof place);
    return uuid::from_name(*uuid::parse(uuid_name_space),
                           {reinterpret_cast<const char*>(name.data()), name.size()});
}

outcome<error_bdev*> find_error(bdev_registry& registry, const std::string& name) {
    auto* device = dynamic_cast<error_bdev*>(registry.find(name));
    if (device == nullptr) return fail(ENODEV, name + ": no error bdev of this name");
    return device;
}

std::uint32_t opcodes_of(error_io_type type) noexcept {
    constexpr std::uint32_t all = ((1U << opcode_count) - 1) & ~never_failing;
    switch (type) {
        case error_io_type::read:
            return bit(opcode::read);
        case error_io_type::write:
            return bit(opcode::write);
        case error_io_type::unmap:
            return bit(opcode::unmap);
        case error_io_type::flush:
            return bit(opcode::flush);
        case error_io_type::clear:
        case error_io_type::all:
            break;
    }
    return all;
}

}  // namespace

std::span<const json::field> error_options::fields() {
    using self = error_options;
    static constexpr json::field table[] = {
        json::required<&self::base_name>("base_name", "Name of the bdev below"),
        json::optional<&self::uuid>("uuid", "UUID of the new bdev; made from the base's if absent"),
    };
    return table;
}

std::span<const json::field> error_injection::fields() {
    using self = error_injection;
    static constexpr json::field table[] = {
        json::required<&self::name>("name", "Name of the error bdev"),
        json::required<&self::io_type>("io_type", "Which I/O goes wrong; clear: none any more"),
        json::required<&self::error_type>("error_type", "How it goes wrong"),
        json::optional<&self::nvme_sct>("nvme_sct", "Status code type of nvme_failure"),
        json::optional<&self::nvme_sc>("nvme_sc", "Status code of nvme_failure"),
        json::optional<&self::num>("num", "How many go wrong; 0: none, 4294967295: all"),
        json::optional<&self::queue_depth>("queue_depth", "Only while so many are under way"),
        json::optional<&self::corrupt_offset>("corrupt_offset", "Byte of the data to change"),
        json::optional<&self::corrupt_value>("corrupt_value", "Exclusive-or with this, 1 to 255"),
    };
    return table;
}

task<outcome<std::string>> create_error(bdev_registry& registry, error_options options) {
    outcome<bdev_desc> base = layer_bdev::open_base(registry, options.base_name, "error");
    if (!base) co_return fail(std::move(base.error()));
    bdev_attributes attributes;
    attributes.derive_from(base->device().attributes());
    attributes.passes_metadata = true;
    attributes.name = "EE_" + base->device().name();
    attributes.product_name = "Error Injection Disk";
    attributes.operations |= bit(opcode::abort);
    attributes.id = options.uuid ? *options.uuid : default_uuid(base->device());
    auto device = std::make_shared<error_bdev>(std::move(attributes), registry, std::move(*base));
    outcome<> added = co_await registry.add(device);
    if (!added) co_return fail(std::move(added.error()));
    co_return device->name();
}

task<outcome<std::string>> create_error_from_uri(bdev_registry& registry, uri address) {
    std::vector<uri::parameter> parameters;
    parameters.emplace_back("base_name", address.take("base").value_or(""));
    parameters.insert(parameters.end(), address.query().begin(), address.query().end());
    outcome<error_options> options = json::decode_text<error_options>(parameters);
    if (!options) co_return fail(std::move(options.error()));
    outcome<std::string> created = co_await create_error(registry, std::move(*options));
    co_return created;
}

task<outcome<>> delete_error(bdev_registry& registry, std::string name) {
    outcome<error_bdev*> device = find_error(registry, name);
    if (!device) co_return fail(std::move(device.error()));
    outcome<> removed = co_await registry.remove(std::move(name));
    co_return removed;
}

outcome<> inject_error(bdev_registry& registry, const error_injection& injection) {
    outcome<error_bdev*> device = find_error(registry, injection.name);
    if (!device) return fail(std::move(device.error()));
    std::uint32_t opcodes = opcodes_of(injection.io_type);
    error_injection what = injection;
    if (injection.io_type == error_io_type::clear) {
        what.num = 0;
    } else if (injection.error_type == error_type::corrupt_data) {
        if (injection.corrupt_value == 0)
            return fail(EINVAL, fmt::format("{}: corrupt_value 0 would change nothing; give 1 to "
                                            "255",
                                            injection.name));
        opcodes &= corruptible;
        if (opcodes == 0)
            return fail(EINVAL, fmt::format("{}: only reads and writes have data to corrupt",
                                            injection.name));
    } else if (injection.error_type == error_type::nvme_failure &&
               (injection.nvme_sct > 7 || injection.nvme_sc > 255)) {
        return fail(EINVAL, fmt::format("{}: NVMe status type {}, code {}: at most 7 and 255",
                                        injection.name, injection.nvme_sct, injection.nvme_sc));
    }
    for (unsigned code = 0; code < opcode_count; ++code)
        if ((opcodes >> code & 1) != 0) (*device)->wrongs().set(static_cast<opcode>(code), what);
    return {};
}

task<outcome<>> resume_error_pending(bdev_registry& registry, std::string name) {
    outcome<error_bdev*> device = find_error(registry, name);
    if (!device) co_return fail(std::move(device.error()));
    co_await (*device)->resume_pending();
    co_return outcome<>();
}

}  // namespace nacre
