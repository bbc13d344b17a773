// SPDX-License-Identifier: BSD-3-Clause
//
// custom_bdev: a block device as a class with a function for each operation that it has.
//
//     struct ram_options { std::string name; …; static std::span<const json::field> fields(); };
//
//     class ram_disk final : public custom_bdev<ram_disk, ram_options> {
//     public:
//         static constexpr custom_kind kind{"ram", "A RAM disk"};
//         explicit ram_disk(ram_options o) : custom_bdev(std::move(o), attributes_of(o)) {}
//         result<> read(io_op& op);                      // done when it returns
//         task<result<>> write(io_op& op);               // a coroutine: done when it ends
//         void flush(io_op& op) noexcept;                // it sees to op.complete() itself
//     };
//
// What a function returns says how the op completes, each in its own way: at once, by a coroutine
// (the block layer completes the op, exactly once, with what it returns), or by the function's
// hand, which also may forward the op at full speed. The operations are the opcodes' names: read,
// write, flush, unmap, write_zeroes, compare, compare_and_write, copy, seek_data, seek_hole, reset,
// zone_append, zone_manage, zone_report, nvme_admin, nvme_io; and zcopy, which returns nothing and
// calls op.lend() with memory of the device. What is not written is not supported; a layer
// (custom_layer) forwards flush, reset and unmap then. The block layer has checked an op against
// the attributes before it comes.
//
// ENOMEM from any of them means "later": the op comes again. A coroutine is asked to stop when its
// op is aborted; what it awaits then ends early.
//
// Data of its own on each thread is a type `channel` in the class; the functions then take
// (io_op&, channel&). It is made by open_channel() if the class has that, as channel(device) if it
// can be, else as channel(). If it has poll(), it is polled: it then has arm() and disarm(), or a
// poll_period_ns, so that it lets the core sleep (poller.hpp); without either it does not build.
//
// Thread: the functions run on the op's thread. Cost: bench/budgets.tsv.
#pragma once

#include <concepts>
#include <memory>
#include <new>
#include <optional>

#include "nacre/bdev/bdev_channel.hpp"
#include "nacre/bdev/bdev_kind.hpp"
#include "nacre/bdev/layer_bdev.hpp"
#include "nacre/memory/reserved_buffers.hpp"
#include "nacre/runtime/poller.hpp"

namespace nacre {

struct custom_kind {
    const char* name;
    const char* help;
    /// Its RPC methods; null: bdev_<name>_create, bdev_<name>_delete.
    const char* create_method = nullptr;
    const char* delete_method = nullptr;
};

// --- Which operations a class has ---------------------------------------------------------------

namespace custom {

// NACRE_CUSTOM_OPERATION(name): the function of this name, called with what it takes.
#define NACRE_CUSTOM_OPERATION(name)                                                         \
    struct name {                                                                            \
        static constexpr opcode code = opcode::name;                                         \
        static auto call(auto& device, io_op& op, auto& c) -> decltype(device.name(op, c)) { \
            return device.name(op, c);                                                       \
        }                                                                                    \
        static auto call(auto& device, io_op& op, auto&) -> decltype(device.name(op)) {      \
            return device.name(op);                                                          \
        }                                                                                    \
    };
NACRE_CUSTOM_OPERATION(read)
NACRE_CUSTOM_OPERATION(write)
NACRE_CUSTOM_OPERATION(flush)
NACRE_CUSTOM_OPERATION(unmap)
NACRE_CUSTOM_OPERATION(write_zeroes)
NACRE_CUSTOM_OPERATION(compare)
NACRE_CUSTOM_OPERATION(compare_and_write)
NACRE_CUSTOM_OPERATION(copy)
NACRE_CUSTOM_OPERATION(seek_data)
NACRE_CUSTOM_OPERATION(seek_hole)
NACRE_CUSTOM_OPERATION(reset)
NACRE_CUSTOM_OPERATION(zone_append)
NACRE_CUSTOM_OPERATION(zone_manage)
NACRE_CUSTOM_OPERATION(zone_report)
NACRE_CUSTOM_OPERATION(nvme_admin)
NACRE_CUSTOM_OPERATION(nvme_io)
NACRE_CUSTOM_OPERATION(zcopy)
#undef NACRE_CUSTOM_OPERATION

struct no_channel {};
template <typename Device>
struct channel_of {
    using type = no_channel;
};
template <typename Device>
    requires requires { typename Device::channel; }
struct channel_of<Device> {
    using type = typename Device::channel;
};
template <typename Device>
using channel_type = typename channel_of<Device>::type;

template <typename Operation, typename Device>
concept written_in =
    requires(Device& d, io_op& op, channel_type<Device>& c) { Operation::call(d, op, c); };
template <typename Operation, typename Device>
using returned_by = decltype(Operation::call(std::declval<Device&>(), std::declval<io_op&>(),
                                             std::declval<channel_type<Device>&>()));
template <typename Operation, typename Device>
concept coroutine_in =
    written_in<Operation, Device> && std::same_as<returned_by<Operation, Device>, task<result<>>>;

template <typename Device, typename... Operations>
constexpr std::uint32_t bits_of() noexcept {
    std::uint32_t bits = 0;
    ((bits |= written_in<Operations, Device> ? bit(Operations::code) : 0), ...);
    return bits;
}
template <typename Device, typename... Operations>
constexpr std::uint32_t coroutine_bits_of() noexcept {
    std::uint32_t bits = 0;
    ((bits |= coroutine_in<Operations, Device> ? bit(Operations::code) : 0), ...);
    return bits;
}
/// Calls f.template operator()<Operation>() for the one with this code.
template <typename F>
void visit(opcode code, F f) noexcept {
    switch (code) {
        case opcode::read:
            return f.template operator()<read>();
        case opcode::write:
            return f.template operator()<write>();
        case opcode::flush:
            return f.template operator()<flush>();
        case opcode::unmap:
            return f.template operator()<unmap>();
        case opcode::write_zeroes:
            return f.template operator()<write_zeroes>();
        case opcode::compare:
            return f.template operator()<compare>();
        case opcode::compare_and_write:
            return f.template operator()<compare_and_write>();
        case opcode::copy:
            return f.template operator()<copy>();
        case opcode::seek_data:
            return f.template operator()<seek_data>();
        case opcode::seek_hole:
            return f.template operator()<seek_hole>();
        case opcode::reset:
            return f.template operator()<reset>();
        case opcode::zone_append:
            return f.template operator()<zone_append>();
        case opcode::zone_manage:
            return f.template operator()<zone_manage>();
        case opcode::zone_report:
            return f.template operator()<zone_report>();
        case opcode::nvme_admin:
            return f.template operator()<nvme_admin>();
        case opcode::nvme_io:
            return f.template operator()<nvme_io>();
        case opcode::zcopy:
            return f.template operator()<zcopy>();
        case opcode::abort:
            break;  // no op of a device
    }
}
template <typename Device>
inline constexpr std::uint32_t operations_of =
    bits_of<Device, read, write, flush, unmap, write_zeroes, compare, compare_and_write, copy,
            seek_data, seek_hole, reset, zone_append, zone_manage, zone_report, nvme_admin, nvme_io,
            zcopy>();
template <typename Device>
inline constexpr std::uint32_t coroutines_of =
    coroutine_bits_of<Device, read, write, flush, unmap, write_zeroes, compare, compare_and_write,
                      copy, seek_data, seek_hole, reset, zone_append, zone_manage, zone_report,
                      nvme_admin, nvme_io>();

/// Completes `op` with what the coroutine returns; until then abort_coroutine asks it to stop.
void complete_by(io_op& op, task<result<>> work) noexcept;
/// Of an op that was given to complete_by last.
void abort_coroutine(io_op& op) noexcept;
[[nodiscard]] json::value creation(const custom_kind& kind, json::object options);
[[nodiscard]] task<outcome<std::string>> add(bdev_registry& registry,
                                             outcome<std::shared_ptr<bdev>> made);
[[nodiscard]] task<outcome<std::string>> add_later(bdev_registry& registry,
                                                   task<outcome<std::shared_ptr<bdev>>> making);
[[nodiscard]] task<outcome<std::string>> refuse(failure why);

}  // namespace custom

// What a class can do, for whoever asks at compile time.
template <typename D>
concept readable_device = custom::written_in<custom::read, D>;
template <typename D>
concept writable_device = custom::written_in<custom::write, D>;
template <typename D>
concept flushable_device = custom::written_in<custom::flush, D>;
template <typename D>
concept unmappable_device = custom::written_in<custom::unmap, D>;
template <typename D>
concept copyable_device = custom::written_in<custom::copy, D>;
template <typename D>
concept resettable_device = custom::written_in<custom::reset, D>;
/// All three or none: half a zoned device does not build.
template <typename D>
concept zoned_device =
    custom::written_in<custom::zone_append, D> && custom::written_in<custom::zone_manage, D> &&
    custom::written_in<custom::zone_report, D>;

// --- An op's own data ---------------------------------------------------------------------------

/// Data of the module that carries `op` out, in the op: no allocation. Not for an op that is
/// forwarded, or completed by a coroutine or a remote_op, which need the place themselves.
template <typename T, typename... Args>
T& make_context(io_op& op, Args&&... args) noexcept {
    static_assert(sizeof(T) <= sizeof op.backend_area && alignof(T) <= 16);
    static_assert(std::is_trivially_destructible_v<T>, "nobody destroys it");
    return *::new (op.backend_area.data()) T{std::forward<Args>(args)...};
}
template <typename T>
[[nodiscard]] T& context_of(io_op& op) noexcept {
    return *std::launder(reinterpret_cast<T*>(op.backend_area.data()));
}

// --- The channel --------------------------------------------------------------------------------

template <typename Device>
class custom_channel final : public module_channel {
    using data_type = custom::channel_type<Device>;
    static constexpr bool is_layer = std::derived_from<Device, layer_bdev>;
    static constexpr bool is_polled = requires(data_type& d) { d.poll(); };
    static constexpr bool polled_periodically = requires { data_type::poll_period_ns; };
    static constexpr std::uint32_t zone_operations =
        bit(opcode::zone_append) | bit(opcode::zone_manage) | bit(opcode::zone_report);
    static_assert((custom::operations_of<Device> & (bit(opcode::read) | bit(opcode::write))) != 0 ||
                      is_layer,
                  "a device has read() or write(), as result<>, task<result<>> or void");
    static_assert(!custom::coroutine_in<custom::zcopy, Device>,
                  "zcopy() lends memory by op.lend(); who borrowed it completes the op");
    static_assert(zoned_device<Device> || (custom::operations_of<Device> & zone_operations) == 0,
                  "a zoned device has zone_append(), zone_manage() and zone_report()");
    static_assert(!is_polled || polled_periodically || sleepable<data_type>,
                  "what polls lets the core sleep: by arm() and disarm(), or a poll_period_ns");

public:
    custom_channel(Device& device, data_type data)
        : module_channel(device), device_(device), data_(std::move(data)) {
        if constexpr (is_polled && polled_periodically)
            poller_.emplace(device.name(), data_, data_type::poll_period_ns);
        else if constexpr (is_polled)
            poller_.emplace(device.name(), data_);
    }

private:
    void submit(io_op& op) noexcept override {
        if (op.code == opcode::read) [[likely]]
            return carry_out<custom::read>(op);
        if (op.code == opcode::write) [[likely]]
            return carry_out<custom::write>(op);
        custom::visit(op.code, [&]<typename Operation>() { carry_out<Operation>(op); });
    }
    template <typename Operation>
    void carry_out(io_op& op) noexcept {
        if constexpr (custom::coroutine_in<Operation, Device>) {
            custom::complete_by(op, Operation::call(device_, op, data_));
        } else if constexpr (custom::written_in<Operation, Device>) {
            if constexpr (std::is_void_v<custom::returned_by<Operation, Device>>) {
                Operation::call(device_, op, data_);
            } else {
                const result<> done = Operation::call(device_, op, data_);
                op.complete(done ? error() : done.error());
            }
        } else if constexpr (is_layer) {
            data_.base.base().forward(op);
        } else {
            op.complete(error::posix(ENOTSUP));  // the attributes were changed to say otherwise
        }
    }
    void request_abort(io_op& op) noexcept override {
        if ((custom::coroutines_of<Device> & bit(op.code)) != 0) {
            custom::abort_coroutine(op);
            return;
        }
        if constexpr (requires { device_.abort(op, data_); })
            device_.abort(op, data_);
        else if constexpr (is_layer)
            data_.base.base().request_abort(op);
    }

    Device& device_;
    data_type data_;
    std::optional<poller> poller_;
};

/// The attributes of a device that has a size and nothing else to say.
struct bdev_size {
    std::uint64_t bytes;
    std::uint32_t block_size = 4096;
    operator bdev_attributes() const;
};

// --- The device ---------------------------------------------------------------------------------

template <typename Self, json::described Options, typename Base = bdev>
class custom_bdev : public Base {
public:
    using options_type = Options;
    [[nodiscard]] const Options& options() const noexcept { return options_; }

    outcome<std::unique_ptr<module_channel>> make_channel() final {
        using data_type = custom::channel_type<Self>;
        auto& self = static_cast<Self&>(*this);
        if constexpr (requires { self.open_channel(); }) {
            outcome<data_type> data = self.open_channel();
            if (!data) return fail(std::move(data.error()));
            return std::make_unique<custom_channel<Self>>(self, std::move(*data));
        } else if constexpr (std::constructible_from<data_type, Self&>) {
            return std::make_unique<custom_channel<Self>>(self, data_type(self));
        } else {
            return std::make_unique<custom_channel<Self>>(self, data_type());
        }
    }
    /// {"<kind>": {options}}
    json::value information() const override {
        json::object about;
        about.append(Self::kind.name, json::value(json::encode(options_)));
        return about;
    }
    /// The method that creates it, with its options and the UUID that was generated if they have
    /// one.
    json::value configuration() const override {
        Options as_it_is = options_;
        if constexpr (requires { as_it_is.uuid; }) as_it_is.uuid = this->attributes().id;
        return custom::creation(Self::kind, json::encode(as_it_is));
    }

protected:
    /// `rest` is what Base wants after the attributes. The attributes' name is the option's;
    /// operations are those of Self.
    template <typename... Rest>
    explicit custom_bdev(Options options, bdev_attributes attributes, Rest&&... rest)
        : Base(completed(options, std::move(attributes)), std::forward<Rest>(rest)...),
          options_(std::move(options)) {}

private:
    static bdev_attributes completed(const Options& o, bdev_attributes a) {
        a.name = o.name;
        if (a.product_name.empty()) a.product_name = Self::kind.help;
        if constexpr (requires { o.uuid; })
            if (o.uuid) a.id = *o.uuid;
        // What a layer's attributes have is forwarded; another's come from its base, if anything.
        if constexpr (!std::derived_from<Base, layer_bdev>) a.operations = 0;
        a.operations |= custom::operations_of<Self>;
        if (custom::coroutines_of<Self> != 0) a.operations |= bit(opcode::abort);
        return a;
    }
    Options options_;
};

// --- A device over another ----------------------------------------------------------------------

/// What a layer is made from: its base, open and claimed.
struct layer_base {
    bdev_registry& registry;
    bdev_desc descriptor;
};

/// A channel's data of a layer that has no more.
struct layer_channel {
    bdev_channel base;
    reserved_buffers buffers;
};

/// Over the bdev that the option `base_bdev` names. Geometry and limits are the base's; operations
/// those of Self, and of those that carry no data and are not written, the base's. Self's channel
/// has a member `base`, or is layer_channel.
template <typename Self, json::described Options>
class custom_layer : public custom_bdev<Self, Options, layer_bdev> {
public:
    static constexpr std::uint32_t forwarded =
        bit(opcode::flush) | bit(opcode::reset) | bit(opcode::unmap) | bit(opcode::abort);
    using channel = layer_channel;

    [[nodiscard]] outcome<layer_channel> open_channel() {
        outcome<bdev_channel> base = this->open_base_channel();
        if (!base) return fail(std::move(base.error()));
        return layer_channel{std::move(*base), this->channel_buffers()};
    }
    [[nodiscard]] static outcome<std::shared_ptr<bdev>> make(bdev_registry& registry,
                                                             Options options) {
        outcome<bdev_desc> base =
            layer_bdev::open_base(registry, options.base_bdev, Self::kind.name);
        if (!base) return fail(std::move(base.error()));
        return std::make_shared<Self>(std::move(options), layer_base{registry, std::move(*base)});
    }

protected:
    explicit custom_layer(Options options, layer_base base)
        : custom_bdev<Self, Options, layer_bdev>(std::move(options), derived(base), base.registry,
                                                 std::move(base.descriptor)) {}

private:
    static bdev_attributes derived(const layer_base& base) {
        const bdev_attributes& below = base.descriptor.device().attributes();
        bdev_attributes a;
        a.derive_from(below);
        a.operations = below.operations & Self::forwarded;
        return a;
    }
};

// --- The kind -----------------------------------------------------------------------------------

namespace custom {

template <typename Device>
task<outcome<std::string>> create(bdev_registry& registry, const json::value& params) {
    using options_type = typename Device::options_type;
    outcome<options_type> options = json::decode<options_type>(params);
    if (!options) return refuse(std::move(options.error()));
    if constexpr (requires { Device::make(registry, std::move(*options)); }) {
        if constexpr (std::same_as<decltype(Device::make(registry, std::move(*options))),
                                   task<outcome<std::shared_ptr<bdev>>>>)
            return add_later(registry, Device::make(registry, std::move(*options)));
        else
            return add(registry, Device::make(registry, std::move(*options)));
    } else {
        return add(registry, std::make_shared<Device>(std::move(*options)));
    }
}

}  // namespace custom

/// Of a class derived from custom_bdev. Its static make(registry, options), if it has one, makes
/// the device, at once (outcome<std::shared_ptr<bdev>>) or as a coroutine (a task of that); its
/// static examine(registry, bdev), a coroutine too, is shown every bdev that appears.
template <typename Device>
[[nodiscard]] constexpr bdev_kind kind_of() noexcept {
    using options_type = typename Device::options_type;
    bdev_kind kind{};
    kind.name = Device::kind.name;
    kind.help = Device::kind.help;
    kind.create_method = Device::kind.create_method;
    kind.delete_method = Device::kind.delete_method;
    kind.fields = &options_type::fields;
    kind.schema = &json::schema<options_type>;
    kind.document = &json::document<options_type>;
    kind.normalize = &json::normalize<options_type>;
    kind.create = &custom::create<Device>;
    kind.owns = [](const bdev& d) { return dynamic_cast<const Device*>(&d) != nullptr; };
    if constexpr (requires(bdev_registry& r, bdev& d) { Device::examine(r, d); })
        kind.examine = [](bdev_registry& r, bdev& d) { return Device::examine(r, d); };
    return kind;
}

}  // namespace nacre
