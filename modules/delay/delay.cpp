// SPDX-License-Identifier: BSD-3-Clause
#include "modules/delay/delay.hpp"

#include <fmt/format.h>

#include "nacre/core/random.hpp"

namespace nacre {
namespace {

/// SPDK's namespace of the UUIDs that it gives to delay bdevs.
constexpr std::string_view uuid_name_space = "4009b574-6430-4f1b-bc40-ace811091027";

constexpr std::uint64_t latency_us_max = std::uint64_t{3600} * 1'000'000;
constexpr double p99_share = 0.01;
constexpr std::uint32_t reading_opcodes = bit(opcode::read) | bit(opcode::compare) |
                                          bit(opcode::seek_data) | bit(opcode::seek_hole) |
                                          bit(opcode::zone_report);

/// Microseconds, by delay_latency; changed on the home thread, read on all.
using latencies = std::array<std::atomic<std::uint64_t>, 4>;

class delay_channel final : public module_channel {
public:
    delay_channel(bdev& device, bdev_channel base, const latencies& l, std::uint64_t seed) noexcept
        : module_channel(device),
          handle_(std::move(base)),
          base_(handle_.base()),
          latencies_(l),
          dice_(seed) {}

private:
    /// In the op's backend_area, which is the base's from the moment it goes down.
    struct waiting : timer {
        waiting(delay_channel& c, io_op& o) noexcept
            : timer([](timer& t) noexcept {
                  auto& self = static_cast<waiting&>(t);
                  const thread_guard guard(self.channel.home());
                  self.channel.let_go(self);
              }),
              channel(c),
              op(o) {}
        delay_channel& channel;
        io_op& op;
        struct hook : list_hook {
            explicit hook(waiting& w) noexcept : of(w) {}
            waiting& of;
        } in_list{*this};
    };

    void submit(io_op& op) noexcept override;
    void request_abort(io_op& op) noexcept override;
    void removing() noexcept override { complete_all(error::posix(ENODEV)); }
    [[nodiscard]] std::uint64_t draw_ns(opcode code) noexcept;
    io_op& take(waiting& w) noexcept;
    void let_go(waiting& w) noexcept { base_.forward(take(w)); }
    void complete_all(error status) noexcept {
        while (waiting::hook* h = waiting_.front()) take(h->of).complete(status);
    }

    bdev_channel handle_;
    module_channel& base_;
    const latencies& latencies_;
    prng dice_;
    intrusive_list<waiting::hook> waiting_;
};

void delay_channel::submit(io_op& op) noexcept {
    static_assert(sizeof(waiting) <= sizeof op.backend_area);
    if (op.code == opcode::abort) {
        request_abort(*op.target);
        op.complete();
        return;
    }
    if (op.code == opcode::reset) {
        complete_all(error::posix(ECANCELED));
        base_.forward(op);
        return;
    }
    const std::uint64_t ns = draw_ns(op.code);
    if (ns == 0) {
        base_.forward(op);
        return;
    }
    waiting& w = *new (op.backend_area.data()) waiting(*this, op);
    waiting_.push_back(w.in_list);
    home().host().timers().arm(w, now_ns() + ns);
}

std::uint64_t delay_channel::draw_ns(opcode code) noexcept {
    const bool reads = (reading_opcodes & bit(code)) != 0;
    const bool slow = dice_.chance(p99_share);
    const delay_latency which = reads
                                    ? (slow ? delay_latency::p99_read : delay_latency::avg_read)
                                    : (slow ? delay_latency::p99_write : delay_latency::avg_write);
    return latencies_[static_cast<unsigned>(which)].load(std::memory_order_relaxed) * 1000;
}

io_op& delay_channel::take(waiting& w) noexcept {
    io_op& op = w.op;
    w.in_list.unlink();
    w.~waiting();
    return op;
}

void delay_channel::request_abort(io_op& op) noexcept {
    for (waiting::hook* h = waiting_.front(); h != nullptr; h = waiting_.next(*h)) {
        if (&h->of.op != &op) continue;
        take(h->of).complete(error::posix(ECANCELED));
        return;
    }
    base_.request_abort(op);
}

class delay_bdev final : public layer_bdev {
public:
    delay_bdev(bdev_attributes attributes, bdev_registry& registry, bdev_desc base,
               const delay_options& o)
        : layer_bdev(std::move(attributes), registry, std::move(base)),
          world_(registry.home_world()),
          latencies_us_{o.avg_read_latency, o.p99_read_latency, o.avg_write_latency,
                        o.p99_write_latency} {}

    outcome<std::unique_ptr<module_channel>> make_channel() override {
        outcome<bdev_channel> base = open_base_channel();
        if (!base) return fail(std::move(base.error()));
        std::uint64_t seed = 0;
        world_.fill_random(std::as_writable_bytes(std::span(&seed, 1)));
        return std::make_unique<delay_channel>(*this, std::move(*base), latencies_us_, seed);
    }
    json::value information() const override {
        json::object facts{{"name", name()},
                           {"base_bdev_name", base_name()},
                           {"uuid", attributes().id.to_string()}};
        append_latencies(facts);
        return json::object{{"delay", std::move(facts)}};
    }
    json::value configuration() const override {
        json::object params{{"name", name()}, {"base_bdev_name", base_name()}};
        append_latencies(params);
        params.append("uuid", attributes().id.to_string());
        return json::object{{"method", "bdev_delay_create"}, {"params", std::move(params)}};
    }
    [[nodiscard]] std::uint64_t latency_us(delay_latency which) const noexcept {
        return latencies_us_[static_cast<unsigned>(which)].load(std::memory_order_relaxed);
    }
    void set_latency_us(delay_latency which, std::uint64_t us) noexcept {
        latencies_us_[static_cast<unsigned>(which)].store(us, std::memory_order_relaxed);
    }

private:
    void append_latencies(json::object& to) const {
        for (const auto& n : json_names(delay_latency()))
            to.append(std::string(n.text) + "_latency", latency_us(n.value));
    }
    world& world_;
    latencies latencies_us_;
};

outcome<> check_latencies(const std::string& name, std::uint64_t average_us, std::uint64_t p99_us,
                          const char* of) {
    if (average_us > p99_us)
        return fail(EINVAL, fmt::format("{}: the average {} latency, {} us, exceeds the p99 "
                                        "latency, {} us",
                                        name, of, average_us, p99_us));
    if (p99_us > latency_us_max)
        return fail(EINVAL, fmt::format("{}: a {} latency of {} us is more than an hour", name, of,
                                        p99_us));
    return {};
}

}  // namespace

std::span<const json::field> delay_options::fields() {
    using self = delay_options;
    static constexpr json::field table[] = {
        json::required<&self::name>("name", "Name of the new bdev"),
        json::required<&self::base_bdev_name>("base_bdev_name", "Name of the bdev below"),
        json::required<&self::avg_read_latency>("avg_read_latency", "Microseconds"),
        json::required<&self::p99_read_latency>("p99_read_latency", "Microseconds"),
        json::required<&self::avg_write_latency>("avg_write_latency", "Microseconds"),
        json::required<&self::p99_write_latency>("p99_write_latency", "Microseconds"),
        json::optional<&self::uuid>("uuid", "UUID of the new bdev; made from the base's if absent"),
    };
    return table;
}

std::span<const json::field> delay_update::fields() {
    using self = delay_update;
    static constexpr json::field table[] = {
        json::required<&self::delay_bdev_name>("delay_bdev_name", "Name of the delay bdev"),
        json::required<&self::latency_type>("latency_type", "Which of its latencies"),
        json::required<&self::latency_us>("latency_us", "The new one, in microseconds"),
    };
    return table;
}

task<outcome<std::string>> create_delay(bdev_registry& registry, delay_options options) {
    outcome<> checked =
        check_latencies(options.name, options.avg_read_latency, options.p99_read_latency, "read");
    if (checked)
        checked = check_latencies(options.name, options.avg_write_latency,
                                  options.p99_write_latency, "write");
    if (!checked) co_return fail(std::move(checked.error()));
    outcome<bdev_desc> base = layer_bdev::open_base(registry, options.base_bdev_name, "delay");
    if (!base) co_return fail(std::move(base.error()));
    bdev_attributes attributes;
    attributes.derive_from(base->device().attributes());
    attributes.passes_metadata = true;
    attributes.name = options.name;
    attributes.product_name = "delay";
    attributes.operations |= bit(opcode::abort);
    attributes.id =
        options.uuid ? *options.uuid : layer_bdev::derived_uuid(uuid_name_space, base->device());
    auto device =
        std::make_shared<delay_bdev>(std::move(attributes), registry, std::move(*base), options);
    outcome<> added = co_await registry.add(device);
    if (!added) co_return fail(std::move(added.error()));
    co_return device->name();
}

task<outcome<std::string>> create_delay_from_uri(bdev_registry& registry, uri address) {
    std::vector<uri::parameter> parameters;
    parameters.emplace_back("name", std::string(address.name()));
    parameters.emplace_back("base_bdev_name", address.take("base").value_or(""));
    for (const std::string kind : {"read", "write"}) {
        const std::string average = address.take("avg_" + kind + "_latency").value_or("0");
        parameters.emplace_back("p99_" + kind + "_latency",
                                address.take("p99_" + kind + "_latency").value_or(average));
        parameters.emplace_back("avg_" + kind + "_latency", average);
    }
    parameters.insert(parameters.end(), address.query().begin(), address.query().end());
    outcome<delay_options> options = json::decode_text<delay_options>(parameters);
    if (!options) co_return fail(std::move(options.error()));
    outcome<std::string> created = co_await create_delay(registry, std::move(*options));
    co_return created;
}

task<outcome<>> delete_delay(bdev_registry& registry, std::string name) {
    if (dynamic_cast<delay_bdev*>(registry.find(name)) == nullptr)
        co_return fail(ENODEV, name + ": no delay bdev of this name");
    outcome<> removed = co_await registry.remove(std::move(name));
    co_return removed;
}

outcome<> update_delay(bdev_registry& registry, const delay_update& update) {
    auto* device = dynamic_cast<delay_bdev*>(registry.find(update.delay_bdev_name));
    if (device == nullptr)
        return fail(ENODEV, update.delay_bdev_name + ": no delay bdev of this name");
    const auto wanted = [&](delay_latency which) {
        return which == update.latency_type ? update.latency_us : device->latency_us(which);
    };
    const bool read = update.latency_type == delay_latency::avg_read ||
                      update.latency_type == delay_latency::p99_read;
    outcome<> checked = read ? check_latencies(device->name(), wanted(delay_latency::avg_read),
                                               wanted(delay_latency::p99_read), "read")
                             : check_latencies(device->name(), wanted(delay_latency::avg_write),
                                               wanted(delay_latency::p99_write), "write");
    if (checked) device->set_latency_us(update.latency_type, update.latency_us);
    return checked;
}

}  // namespace nacre
