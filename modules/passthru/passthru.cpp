// SPDX-License-Identifier: BSD-3-Clause
#include "modules/passthru/passthru.hpp"

#include <fmt/format.h>

#include "nacre/core/log.hpp"

// Everything but the functions declared in the header is this file's own business.
namespace nacre {
namespace {

/// SPDK's namespace of the UUIDs that it gives to passthru bdevs.
constexpr std::string_view uuid_name_space = "7e25812e-c8c0-4d3f-8599-16d790555b85";

// --- 1. The channel: the I/O path ---------------------------------------------------------------
//
// There is one channel for each thread that uses the bdev, so a channel needs neither locks nor
// atomics. The block layer has checked an op before it comes here: it lies within the bdev, it is
// of an opcode that the attributes name, and its buffers have the alignment that they ask for.

class passthru_channel final : public module_channel {
public:
    /// `base` is the same thread's channel of the bdev below. It is closed with this one.
    passthru_channel(bdev& device, bdev_channel base, bool watch)
        : module_channel(device), handle_(std::move(base)), base_(handle_.base()), watch_(watch) {}

private:
    /// Called for each op, on the channel's thread. It must not wait and must not resume anybody.
    /// Three things can be done with an op: complete it (`op.complete()`), forward it, or start a
    /// coroutine that does more (`children().spawn(…)`, with ops of its own: see child_io.hpp).
    void submit(io_op& op) noexcept override {
        // Here a layer changes what the op asks for: `op.first` if the base has other addresses,
        // `op.data` if the bytes are others.
        if (watch_) op.push_layer<&came_back>(this);
        base_.forward(op);
    }

    /// The op is on its way back up, with its status set. Only layers that have something to do
    /// then push a hook; one that changed `op.first` changes it back here.
    static hook_verdict came_back(io_op& op, void* context) noexcept {
        // What is rare and takes long is a hook of its own, which runs next: so this one is a jump
        // to whoever comes after it, without a stack.
        if (op.status.failed()) [[unlikely]]
            op.push_layer<&failed>(context);
        return hook_verdict::done;  // or `resubmitted`, after it has forwarded the op once more
    }
    static hook_verdict failed(io_op& op, void* context) noexcept {
        static_cast<passthru_channel*>(context)->note_failure(op);
        return hook_verdict::done;
    }

    /// Whoever waits for the op would rather not: the bdev below knows how to give it up.
    void request_abort(io_op& op) noexcept override { base_.request_abort(op); }

    void note_failure(const io_op& op) noexcept {
        ++failures_;
        log::debug(log::flags::bdev_passthru, [&] {
            return fmt::format("{}: {} of {} blocks at {}: {} ({} failed on this thread)",
                               device().name(), name_of(op.code), op.blocks.value(),
                               op.first.value(), describe(op.status), failures_);
        });
    }

    bdev_channel handle_;
    module_channel& base_;  // what handle_ stands for, without a look-up
    const bool watch_;
    std::uint64_t failures_ = 0;
};

// --- 2. The bdev: attributes, channels, and what the control path asks --------------------------
//
// Deriving from layer_bdev makes it a good neighbour: the base is claimed, so that nobody writes it
// behind the layer's back, and its removal and resizing are passed on. A bdev without a base
// derives from `bdev` itself (modules/null).

class passthru_bdev final : public layer_bdev {
public:
    passthru_bdev(bdev_attributes attributes, bdev_registry& registry, bdev_desc base,
                  bool watch_completions)
        : layer_bdev(std::move(attributes), registry, std::move(base)),
          watch_completions_(watch_completions) {}

    /// Called on each thread that opens the bdev first, there.
    outcome<std::unique_ptr<module_channel>> make_channel() override {
        outcome<bdev_channel> base = open_base_channel();
        if (!base) return fail(std::move(base.error()));
        return std::make_unique<passthru_channel>(*this, std::move(*base), watch_completions_);
    }

    /// `driver_specific` of bdev_get_bdevs: whatever an operator may want to know.
    json::value information() const override {
        return json::object{
            {"passthru", json::object{{"name", name()}, {"base_bdev_name", base_name()}}}};
    }

    /// The call that would make it again, for save_config. What was generated once (here the UUID)
    /// belongs in it, so that a restart changes nothing.
    json::value configuration() const override {
        json::object params{{"base_bdev_name", base_name()},
                            {"name", name()},
                            {"uuid", attributes().id.to_string()}};
        if (watch_completions_) params.append("watch_completions", true);
        return json::object{{"method", "bdev_passthru_create"}, {"params", std::move(params)}};
    }

private:
    const bool watch_completions_;
};

}  // namespace

// --- 3. Making and deleting ---------------------------------------------------------------------
//
// The functions below are called on the registry's thread, by an RPC method (src/rpc) or by way of
// the table in modules/modules.def. Their errors are sentences: object, cause, next step.

std::span<const json::field> passthru_options::fields() {
    using self = passthru_options;
    static constexpr json::field table[] = {
        json::required<&self::name>("name", "Name of the new bdev"),
        json::required<&self::base_bdev_name>("base_bdev_name", "Name of the bdev below"),
        json::optional<&self::uuid>("uuid", "UUID of the new bdev; made from the base's if absent"),
        json::optional<&self::watch_completions>("watch_completions",
                                                 "Log failed I/O (log flag bdev_passthru)"),
    };
    return table;
}

task<outcome<std::string>> create_passthru(bdev_registry& registry, passthru_options options) {
    outcome<bdev_desc> base = layer_bdev::open_base(registry, options.base_bdev_name, "passthru");
    if (!base) co_return fail(std::move(base.error()));
    bdev_attributes attributes;
    // Geometry, limits and supported operations of the base; a layer that lacks some of them, or
    // adds some, says so here.
    attributes.derive_from(base->device().attributes());
    attributes.passes_metadata = true;
    // The addresses are the base's, so raw NVMe commands mean the same here.
    attributes.operations |= base->device().attributes().operations & raw_opcodes;
    attributes.name = options.name;
    attributes.product_name = "passthru";
    attributes.id =
        options.uuid ? *options.uuid : layer_bdev::derived_uuid(uuid_name_space, base->device());
    auto device = std::make_shared<passthru_bdev>(std::move(attributes), registry, std::move(*base),
                                                  options.watch_completions);
    outcome<> added = co_await registry.add(device);
    if (!added) co_return fail(std::move(added.error()));
    co_return device->name();
}

task<outcome<std::string>> create_passthru_from_uri(bdev_registry& registry, uri address) {
    std::vector<uri::parameter> parameters;
    parameters.emplace_back("name", std::string(address.name()));
    parameters.emplace_back("base_bdev_name", address.take("base").value_or(""));
    parameters.insert(parameters.end(), address.query().begin(), address.query().end());
    outcome<passthru_options> options = json::decode_text<passthru_options>(parameters);
    if (!options) co_return fail(std::move(options.error()));
    outcome<std::string> created = co_await create_passthru(registry, std::move(*options));
    co_return created;
}

task<outcome<>> delete_passthru(bdev_registry& registry, std::string name) {
    if (dynamic_cast<passthru_bdev*>(registry.find(name)) == nullptr)
        co_return fail(ENODEV, name + ": no passthru bdev of this name");
    outcome<> removed = co_await registry.remove(std::move(name));
    co_return removed;
}

}  // namespace nacre
