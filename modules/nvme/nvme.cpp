// SPDX-License-Identifier: BSD-3-Clause
#include "modules/nvme/nvme.hpp"

#include <fmt/format.h>

#include <algorithm>

#include "channel.hpp"
#include "nacre/core/bytes.hpp"
#include "nacre/memory/dma_buffer.hpp"

namespace nacre {
namespace {

constexpr std::string_view mechanism = "io_uring_cmd";
constexpr std::string_view class_folder = "/sys/class/nvme-generic/";
/// The kernel maps a command's data as one request: in pages that lie apart, no more than this.
constexpr std::uint64_t transfer_bytes_max = 256 * 1024;
constexpr unsigned controllers_max = 64;  // looked for in a subsystem
/// Name space of the UUIDs that are made of a device's other identifiers.
constexpr std::string_view uuid_name_space = "9b5c3a1e-52f4-4f0a-8d2b-6f1f0f7d2c11";

/// Both files of a namespace, closed again unless they are released.
class open_files {
public:
    explicit open_files(world& w) noexcept : world_(w) {}
    open_files(const open_files&) = delete;
    open_files& operator=(const open_files&) = delete;
    ~open_files() {
        for (const int fd : {io, admin})
            if (fd >= 0) world_.close_file(fd);
    }
    [[nodiscard]] nvme_device release(std::uint32_t nsid) noexcept {
        return {&world_, std::exchange(io, -1), std::exchange(admin, -1), nsid};
    }
    int io = -1;
    int admin = -1;

private:
    world& world_;
};

class nvme_bdev final : public bdev {
public:
    nvme_bdev(bdev_attributes attributes, nvme_options options, nvme_device device,
              nvme::controller_facts controller)
        : bdev(std::move(attributes)),
          options_(std::move(options)),
          device_(device),
          controller_(std::move(controller)) {}
    ~nvme_bdev() override { close_files(); }

    outcome<std::unique_ptr<module_channel>> make_channel() override {
        outcome<std::unique_ptr<nvme::kernel_queue>> queue =
            nvme::kernel_queue::make(*device_.outside, nvme_channel::slot_count);
        if (!queue) return fail(std::move(queue.error()));
        return std::make_unique<nvme_channel>(*this, device_, channel_buffers(), std::move(*queue));
    }
    task<void> close() override {
        close_files();
        co_return;
    }
    json::value information() const override {
        return json::object{{"nvme", json::object{{"filename", options_.filename},
                                                  {"nsid", device_.nsid},
                                                  {"serial_number", controller_.serial},
                                                  {"model_number", controller_.model},
                                                  {"firmware_revision", controller_.firmware}}}};
    }
    json::value configuration() const override {
        return json::object{{"method", "bdev_xnvme_create"},
                            {"params", json::object{{"name", name()},
                                                    {"filename", options_.filename},
                                                    {"io_mechanism", options_.io_mechanism},
                                                    {"conserve_cpu", options_.conserve_cpu}}}};
    }

private:
    void close_files() noexcept {
        for (int* fd : {&device_.io_fd, &device_.admin_fd})
            if (*fd >= 0) device_.outside->close_file(std::exchange(*fd, -1));
    }
    nvme_options options_;
    nvme_device device_;
    nvme::controller_facts controller_;
};

// --- Finding and opening ------------------------------------------------------------------------

std::unexpected<failure> not_a_namespace(const nvme_options& o) {
    return fail(ENOTTY, fmt::format("{}: {} is no character device of an NVMe namespace; give one "
                                    "of /dev/ngXnY (ls /dev/ng*), or make a bdev over a file or "
                                    "block device by bdev_uring_create",
                                    o.name, o.filename));
}

/// By sysfs: the namespace's controller, or one of its subsystem's.
outcome<std::string> find_controller(world& w, const nvme_options& o) {
    const std::string device = o.filename.substr(o.filename.rfind('/') + 1);
    const std::string parent = fmt::format("{}{}/device", class_folder, device);
    constexpr std::string_view key = "DEVNAME=";
    outcome<std::string> events = w.read_text(parent + "/uevent", 4096);
    if (!events) return not_a_namespace(o);
    if (const auto at = events->find(key); at != std::string::npos) {
        const auto begin = at + key.size();
        return "/dev/" + events->substr(begin, events->find('\n', begin) - begin);
    }
    for (unsigned i = 0; i < controllers_max; ++i)
        if (w.file_exists(fmt::format("{}/nvme{}", parent, i)))
            return fmt::format("/dev/nvme{}", i);
    return fail(ENODEV, fmt::format("{}: {} has no controller at the moment; see nvme list-subsys",
                                    o.name, o.filename));
}

outcome<int> open_one(world& w, const nvme_options& o, const std::string& path) {
    outcome<int> fd = w.open_file(path, {.write = true});
    if (fd) return fd;
    const error why = fd.error().code;
    const char* next = why.is(EACCES) || why.is(EPERM)
                           ? "; start the daemon as root, or give its user access to it"
                       : why.is(ENOENT) ? "; see ls /dev/ng*, and load the driver (modprobe nvme)"
                                        : "";
    return fail(failure(why, fmt::format("{}: {}{}", o.name, fd.error().message, next)));
}

outcome<std::uint32_t> open_both(world& w, const nvme_options& o, open_files& files) {
    outcome<int> io = open_one(w, o, o.filename);
    if (!io) return fail(std::move(io.error()));
    files.io = *io;
    outcome<std::uint32_t> nsid = w.nvme_namespace_of(*io);
    if (!nsid) return not_a_namespace(o);
    outcome<std::string> controller = find_controller(w, o);
    if (!controller) return fail(std::move(controller.error()));
    outcome<int> admin = open_one(w, o, *controller);
    if (!admin) return fail(std::move(admin.error()));
    files.admin = *admin;
    outcome<> locked = w.lock_file(*io, true);
    if (!locked)
        return fail(
            failure(locked.error().code, fmt::format("{}: {} is in use ({}); stop that user first",
                                                     o.name, o.filename, locked.error().message)));
    return nsid;
}

// --- Asking what it is --------------------------------------------------------------------------

failure refused(const nvme_options& o, const char* what, error why) {
    const char* next = ": it cannot be used";
    if (why.is(EACCES) || why.is(EPERM))
        next = "; start the daemon as root, or with the capability CAP_SYS_ADMIN";
    else if (why.is(EOPNOTSUPP) || why.is(ENOTTY) || why.is(EINVAL))
        next = "; commands by io_uring take Linux 5.19 or later, and CONFIG_IO_URING";
    return failure(
        why, fmt::format("{}: {} refuses {}: {}{}", o.name, o.filename, what, describe(why), next));
}

/// The facts of a namespace, one question after the other.
class inspection {
public:
    inspection(nvme::kernel_queue& queue, const open_files& files, std::uint32_t nsid,
               const nvme_options& options)
        : queue_(queue), files_(files), nsid_(nsid), options_(options) {}

    [[nodiscard]] task<outcome<>> run();

    nvme::controller_facts controller;
    nvme::namespace_facts name_space;
    nvme::namespace_identity identity;
    nvme::zoned_facts zoned;
    std::uint64_t append_bytes_max = 0;
    zone_descriptor first_zone;

private:
    [[nodiscard]] task<outcome<>> identify(nvme::identify_what what, std::uint32_t nsid,
                                           nvme::command_set set = nvme::command_set::nvm);
    [[nodiscard]] task<outcome<>> ask_about_zones();
    [[nodiscard]] nvme::identify_page page() const noexcept {
        return nvme::identify_page(page_.bytes().data(), nvme::identify_bytes);
    }
    nvme::kernel_queue& queue_;
    const open_files& files_;
    std::uint32_t nsid_;
    const nvme_options& options_;
    dma_buffer page_;
};

task<outcome<>> inspection::identify(nvme::identify_what what, std::uint32_t nsid,
                                     nvme::command_set set) {
    const nvme_command command = nvme::identify(what, nsid, set);
    const nvme::kernel_data data{.data = page_.writable_unchecked().data(),
                                 .data_bytes = nvme::identify_bytes};
    result<nvme_completion> done =
        co_await queue_.execute(files_.admin, opcode::nvme_admin, command, data);
    if (!done) co_return fail(refused(options_, "Identify", done.error()));
    co_return outcome<>();
}

task<outcome<>> inspection::run() {
    using what = nvme::identify_what;
    result<dma_buffer> page_made = dma_buffer::allocate(byte_count(nvme::identify_bytes));
    if (!page_made) co_return fail(failure(page_made.error()));
    page_ = std::move(*page_made);
    outcome<> asked = co_await identify(what::controller, 0);
    if (!asked) co_return asked;
    controller = nvme::parse_controller(page());
    asked = co_await identify(what::name_space, nsid_);
    if (!asked) co_return asked;
    name_space = nvme::parse_namespace(page());
    // A controller before version 1.3 has no such list.
    asked = co_await identify(what::descriptors, nsid_);
    if (asked) identity = nvme::parse_identity(page());
    if (identity.set != nvme::command_set::zoned) co_return outcome<>();
    asked = co_await ask_about_zones();
    co_return asked;
}

task<outcome<>> inspection::ask_about_zones() {
    using what = nvme::identify_what;
    constexpr nvme::command_set set = nvme::command_set::zoned;
    outcome<> asked = co_await identify(what::name_space_of_set, nsid_, set);
    if (!asked) co_return asked;
    zoned = nvme::parse_zoned_namespace(page(), name_space.format);
    asked = co_await identify(what::controller_of_set, 0, set);
    if (!asked) co_return asked;
    append_bytes_max = nvme::parse_append_bytes_max(page());
    // All zones of a bdev have one capacity: the first one's.
    constexpr std::size_t bytes = nvme::zone_report_head_bytes + nvme::zone_descriptor_bytes;
    const nvme_command report = nvme::report_zones(nsid_, 0, bytes);
    const nvme::kernel_data data{.data = page_.writable_unchecked().data(), .data_bytes = bytes};
    result<nvme_completion> done =
        co_await queue_.execute(files_.io, opcode::nvme_io, report, data);
    if (!done) co_return fail(refused(options_, "Report Zones", done.error()));
    const std::span into(&first_zone, 1);
    if (nvme::parse_zone_report(page().first<bytes>(), into) != 1)
        co_return fail(EIO, options_.name + ": " + options_.filename + " reports no zone");
    co_return outcome<>();
}

outcome<> check(const nvme_options& o, const inspection& found) {
    const nvme::namespace_facts& n = found.name_space;
    if (n.block_size == 0 || n.blocks == 0)
        return fail(EINVAL, fmt::format("{}: {} has {} blocks of no known size; format it (nvme "
                                        "format --lbaf=…)",
                                        o.name, o.filename, n.blocks));
    if (n.protection != 0 || (n.metadata_size != 0 && n.metadata_interleaved))
        return fail(ENOTSUP, fmt::format("{}: {} is formatted with {}; format it without (nvme "
                                         "format --pi=0 --ms=0)",
                                         o.name, o.filename,
                                         n.protection != 0 ? "protection information"
                                                           : "metadata among the data"));
    if (found.identity.set == nvme::command_set::zoned &&
        (found.zoned.zone_size == 0 || n.blocks % found.zoned.zone_size != 0))
        return fail(EINVAL, fmt::format("{}: {} has {} blocks in zones of {}", o.name, o.filename,
                                        n.blocks, found.zoned.zone_size));
    return {};
}

uuid identify_by(const inspection& found, std::uint32_t nsid) {
    if (found.identity.id) return *found.identity.id;
    const nvme::namespace_facts& n = found.name_space;
    if (!all_zero(n.guid)) return uuid(n.guid);
    const result<uuid> space = uuid::parse(uuid_name_space);
    NACRE_ASSERT(space.has_value());
    if (!all_zero(n.extended_id)) return uuid::from_name(*space, text_of(n.extended_id));
    return uuid::from_name(
        *space, fmt::format("{}:{}:{}", found.controller.model, found.controller.serial, nsid));
}

bdev_attributes attributes_of(const nvme_options& o, const inspection& found, std::uint32_t nsid) {
    const nvme::namespace_facts& n = found.name_space;
    const nvme::controller_facts& c = found.controller;
    bdev_attributes a;
    a.name = o.name;
    a.id = identify_by(found, nsid);
    a.product_name = "xNVMe bdev";
    a.block_size = byte_count(n.block_size);
    a.blocks = block_count(n.blocks);
    a.buffer_alignment = 4;  // what PRP entries can say
    a.transfer_bytes_max = transfer_bytes_max;
    if (c.transfer_bytes_max != 0)
        a.transfer_bytes_max = std::min(a.transfer_bytes_max, c.transfer_bytes_max);
    a.metadata_size = n.metadata_size;
    a.write_cache = c.has_write_cache;
    a.operations = bit(opcode::read) | bit(opcode::write) | bit(opcode::flush) | raw_opcodes;
    // Compare compares metadata as well, and what is compared by op brings none.
    if (c.compares && n.metadata_size == 0) a.operations |= bit(opcode::compare);
    if (found.identity.set != nvme::command_set::zoned) {
        if (c.deallocates) a.operations |= bit(opcode::unmap);
        if (c.writes_zeroes) a.operations |= bit(opcode::write_zeroes);
        return a;
    }
    a.operations |= bit(opcode::zone_append) | bit(opcode::zone_manage) | bit(opcode::zone_report);
    a.zoned.zone_size = block_count(found.zoned.zone_size);
    a.zoned.zone_capacity = found.first_zone.capacity;
    a.zoned.open_zones_max = found.zoned.open_zones_max;
    a.zoned.active_zones_max = found.zoned.active_zones_max;
    const std::uint64_t append = found.append_bytes_max == 0
                                     ? a.transfer_bytes_max
                                     : std::min(found.append_bytes_max, a.transfer_bytes_max);
    a.zoned.append_blocks_max = static_cast<std::uint32_t>(append / n.block_size);
    return a;
}

outcome<> check_options(bdev_registry& registry, const nvme_options& o) {
    if (o.name.empty() || o.filename.empty())
        return fail(EINVAL, "an NVMe bdev needs a name and a filename");
    if (registry.find(o.name) != nullptr)
        return fail(EEXIST, o.name + ": a bdev of this name exists");
    if (o.io_mechanism == mechanism) return {};
    return fail(EINVAL, fmt::format("{}: io_mechanism \"{}\": only \"{}\" sends NVMe commands; use "
                                    "bdev_uring_create or bdev_aio_create for I/O by the kernel's "
                                    "block layer",
                                    o.name, o.io_mechanism, mechanism));
}

}  // namespace

std::span<const json::field> nvme_options::fields() {
    using self = nvme_options;
    static constexpr json::field table[] = {
        json::required<&self::name>("name", "Name of the new bdev"),
        json::required<&self::filename>("filename",
                                        "A namespace's character device, such as /dev/ng0n1"),
        json::required<&self::io_mechanism>("io_mechanism", "io_uring_cmd"),
        json::optional<&self::conserve_cpu>("conserve_cpu",
                                            "For SPDK's clients: CPU time is saved either way"),
    };
    return table;
}

task<outcome<std::string>> create_nvme(bdev_registry& registry, nvme_options options) {
    outcome<> checked = check_options(registry, options);
    if (!checked) co_return fail(std::move(checked.error()));
    world& w = registry.home_world();
    open_files files(w);
    outcome<std::uint32_t> nsid = open_both(w, options, files);
    if (!nsid) co_return fail(std::move(nsid.error()));
    outcome<std::unique_ptr<nvme::kernel_queue>> queue = nvme::kernel_queue::make(w, 8);
    if (!queue) co_return fail(std::move(queue.error()));
    inspection found(**queue, files, *nsid, options);
    outcome<> done = co_await found.run();
    if (done) done = check(options, found);
    if (!done) co_return fail(std::move(done.error()));
    bdev_attributes attributes = attributes_of(options, found, *nsid);
    auto device = std::make_shared<nvme_bdev>(std::move(attributes), std::move(options),
                                              files.release(*nsid), std::move(found.controller));
    outcome<> added = co_await registry.add(device);
    if (!added) co_return fail(std::move(added.error()));
    co_return device->name();
}

task<outcome<std::string>> create_nvme_from_uri(bdev_registry& registry, uri address) {
    std::vector<uri::parameter> parameters;
    parameters.emplace_back("filename", address.path());
    parameters.emplace_back("io_mechanism", mechanism);
    if (!address.find("name"))
        parameters.emplace_back("name", address.path().substr(address.path().rfind('/') + 1));
    parameters.insert(parameters.end(), address.query().begin(), address.query().end());
    outcome<nvme_options> options = json::decode_text<nvme_options>(parameters);
    if (!options) co_return fail(std::move(options.error()));
    outcome<std::string> created = co_await create_nvme(registry, std::move(*options));
    co_return created;
}

task<outcome<>> delete_nvme(bdev_registry& registry, std::string name) {
    if (dynamic_cast<nvme_bdev*>(registry.find(name)) == nullptr)
        co_return fail(ENODEV, name + ": no NVMe bdev of this name");
    outcome<> removed = co_await registry.remove(std::move(name));
    co_return removed;
}

}  // namespace nacre
