// SPDX-License-Identifier: BSD-3-Clause
#include "modules/file/file.hpp"

#include <fmt/format.h>

#include <algorithm>

#include "file_channel.hpp"
#include "nacre/core/log.hpp"
#include "nacre/core/parse.hpp"
#include "nacre/runtime/sleep.hpp"

namespace nacre {
namespace {

constexpr std::uint32_t reading_operations = bit(opcode::read) | bit(opcode::seek_data) |
                                             bit(opcode::seek_hole) | bit(opcode::flush) |
                                             bit(opcode::reset) | bit(opcode::abort);
constexpr std::uint32_t writing_operations =
    bit(opcode::write) | bit(opcode::unmap) | bit(opcode::write_zeroes);
constexpr std::uint32_t block_size_usual = 4096;
constexpr std::uint32_t block_size_least = 512;

/// An open file, closed again unless it is released.
class open_descriptor {
public:
    explicit open_descriptor(world& w) noexcept : world_(w) {}
    open_descriptor(const open_descriptor&) = delete;
    open_descriptor& operator=(const open_descriptor&) = delete;
    ~open_descriptor() { close(); }
    void close() noexcept {
        if (fd_ >= 0) world_.close_file(std::exchange(fd_, -1));
    }
    void hold(int fd) noexcept { fd_ = fd; }
    [[nodiscard]] int get() const noexcept { return fd_; }
    [[nodiscard]] int release() noexcept { return std::exchange(fd_, -1); }

private:
    world& world_;
    int fd_ = -1;
};

class file_bdev final : public bdev {
public:
    file_bdev(bdev_attributes attributes, file_options options, file_kind kind, int fd, world& w,
              std::uint32_t offset_alignment)
        : bdev(std::move(attributes)), options_(std::move(options)), kind_(kind) {
        file_.path = options_.filename;
        file_.fd = fd;
        file_.outside = &w;
        file_.offset_alignment = offset_alignment;
    }
    ~file_bdev() override {
        if (file_.fd >= 0) file_.outside->close_file(file_.fd);
    }

    outcome<std::unique_ptr<module_channel>> make_channel() override {
        return std::make_unique<file_channel>(*this, file_);
    }
    bool prepare_direct_reads() override { return true; }
    bool read_directly(lba first, std::span<std::byte> into) noexcept override;
    bool prepare_direct_writes() override { return !options_.readonly; }
    result<> write_directly(lba first, std::span<const std::byte> from) noexcept override;
    task<void> close() override {
        file_.outside->close_file(std::exchange(file_.fd, -1));
        co_return;
    }
    json::value information() const override;
    json::value configuration() const override;

    [[nodiscard]] const file_options& options() const noexcept { return options_; }
    [[nodiscard]] file_kind kind() const noexcept { return kind_; }
    [[nodiscard]] file_state& file() noexcept { return file_; }

private:
    file_options options_;
    file_kind kind_;
    file_state file_;
};

bool file_bdev::read_directly(lba first, std::span<std::byte> into) noexcept {
    std::uint64_t offset = first.value() * block_size().value();
    while (!into.empty()) {
        const result<std::size_t> n = file_.outside->read_file(file_.fd, offset, into);
        // A part that ends within a block is no use to direct I/O.
        if (!n || *n == 0 || *n % file_.offset_alignment != 0) return false;
        offset += *n;
        into = into.subspan(*n);
    }
    return true;
}

result<> file_bdev::write_directly(lba first, std::span<const std::byte> from) noexcept {
    const std::size_t all = from.size();
    std::uint64_t offset = first.value() * block_size().value();
    while (!from.empty()) {
        const result<std::size_t> n = file_.outside->write_file_durably(file_.fd, offset, from);
        if (!n && from.size() != all) return fail(EIO);  // in part
        if (!n && n.error().is(EOPNOTSUPP)) return fail(EAGAIN);
        if (!n) return fail(n.error());
        if (*n == 0 || *n % file_.offset_alignment != 0) return fail(EIO);
        offset += *n;
        from = from.subspan(*n);
    }
    return {};
}

json::value file_bdev::information() const {
    if (kind_ == file_kind::uring)
        return json::object{{"uring", json::object{{"filename", options_.filename}}}};
    return json::object{{"aio", json::object{{"filename", options_.filename},
                                             {"block_size_override", options_.block_size != 0},
                                             {"readonly", options_.readonly},
                                             {"fallocate", options_.fallocate},
                                             {"nowait", options_.nowait}}}};
}

json::value file_bdev::configuration() const {
    const bdev_attributes& a = attributes();
    if (kind_ == file_kind::uring)
        return json::object{{"method", "bdev_uring_create"},
                            {"params", json::object{{"name", a.name},
                                                    {"block_size", a.block_size.value()},
                                                    {"filename", options_.filename},
                                                    {"uuid", a.id.to_string()}}}};
    json::object params{{"name", a.name}};
    // What was detected once must not come out otherwise when the file has grown.
    params.append("block_size", a.block_size.value());
    params.append("filename", options_.filename);
    params.append("readonly", options_.readonly);
    params.append("fallocate", options_.fallocate);
    params.append("uuid", a.id.to_string());
    if (options_.nowait) params.append("nowait", true);
    if (options_.size) {
        params.append("size", size().value());
        params.append("must_exist", true);
    }
    if (options_.preallocate) params.append("preallocate", true);
    return json::object{{"method", "bdev_aio_create"}, {"params", std::move(params)}};
}

// --- Opening ------------------------------------------------------------------------------------

/// The bdev of this registry that has the file already, for the error's sentence.
std::string user_of(bdev_registry& registry, const std::string& filename) {
    std::string who = "another process or bdev";
    registry.for_each([&](bdev& d) {
        const auto* other = dynamic_cast<file_bdev*>(&d);
        if (other != nullptr && other->options().filename == filename)
            who = fmt::format("bdev {}", d.name());
    });
    return who;
}

bool is_used_here(bdev_registry& registry, const std::string& filename) {
    bool used = false;
    registry.for_each([&](bdev& d) {
        const auto* other = dynamic_cast<file_bdev*>(&d);
        used |= other != nullptr && other->options().filename == filename;
    });
    return used;
}

/// `made` tells whether it has made the file.
outcome<> open_locked(bdev_registry& registry, const file_options& o, bool direct,
                      open_descriptor& file, bool& made) {
    world& w = registry.home_world();
    const bool there = w.file_exists(o.filename);
    if (o.must_exist && !there)
        return fail(ENOENT, fmt::format("{}: {} is missing, and the configuration remembers it; "
                                        "restore it, or delete this bdev from the configuration "
                                        "(--ignore-config-errors starts without it)",
                                        o.name, o.filename));
    const bool make = o.size.has_value() && !o.readonly && !there;
    outcome<int> fd = w.open_file(
        o.filename, {.write = !o.readonly, .create = make, .exclusive = make, .direct = direct});
    if (!fd) {
        std::string next;
        if (fd.error().code.is(ENOENT)) next = "; give size= to have it made";
        if (fd.error().code.is(EACCES) || fd.error().code.is(EROFS))
            next = o.readonly ? "; check its permissions"
                              : "; check its permissions, or open it "
                                "with readonly";
        return fail(
            failure(fd.error().code, fmt::format("{}: {}{}", o.name, fd.error().message, next)));
    }
    file.hold(*fd);
    outcome<> locked = w.lock_file(*fd, !o.readonly);
    if (!locked)
        return fail(
            failure(locked.error().code,
                    fmt::format("{}: {} is in use by {} ({}); stop that user first{}", o.name,
                                o.filename, user_of(registry, o.filename), locked.error().message,
                                o.readonly ? ", which writes it" : "")));
    // An empty file is what a crash leaves that came between the two.
    const outcome<file_info> info = w.inspect_file(*fd);
    const bool empty = info && info->size_bytes == 0 && !info->block_device;
    if (!make && !(empty && o.size && !o.readonly && !o.must_exist)) return {};
    made |= make;
    outcome<> sized = w.resize_file(*fd, *o.size);
    if (sized) return {};
    return fail(failure(sized.error().code,
                        fmt::format("{}: {}: {}", o.name, o.filename, sized.error().message)));
}

outcome<std::uint32_t> choose_block_size(const file_options& o, const file_info& info) {
    const std::uint32_t least = std::max(info.offset_alignment, block_size_least);
    if (o.block_size == 0) {
        if (info.block_device || info.size_bytes % block_size_usual != 0) return least;
        return std::max(least, block_size_usual);
    }
    const bool power = (o.block_size & (o.block_size - 1)) == 0;
    if (o.block_size < block_size_least || !power)
        return fail(EINVAL, fmt::format("{}: block size {} must be a power of two from {} on",
                                        o.name, o.block_size, block_size_least));
    return o.block_size;
}

outcome<> check_size(const file_options& o, const file_info& info, std::uint32_t block_size) {
    if (o.size && info.size_bytes < *o.size)
        return fail(EINVAL,
                    fmt::format("{}: {} is truncated: it has {} bytes and should have {}; restore "
                                "it, or leave size out to take what is there",
                                o.name, o.filename, info.size_bytes, *o.size));
    if (info.size_bytes < block_size)
        return fail(EINVAL,
                    fmt::format("{}: {} has {} bytes, less than one block of {}; give it a "
                                "size (truncate -s 1G {})",
                                o.name, o.filename, info.size_bytes, block_size, o.filename));
    if (info.size_bytes % block_size != 0)
        return fail(EINVAL,
                    fmt::format("{}: {} has {} bytes, no multiple of the block size {}; give a "
                                "smaller block_size or another size to the file",
                                o.name, o.filename, info.size_bytes, block_size));
    return {};
}

struct opened_file {
    file_info info;
    std::uint32_t block_size = 0;
};

outcome<opened_file> open_and_inspect(bdev_registry& registry, const file_options& o,
                                      open_descriptor& file, bool& made) {
    world& w = registry.home_world();
    for (const bool direct : {true, false}) {
        outcome<> ready = open_locked(registry, o, direct, file, made);
        if (!ready) return fail(std::move(ready.error()));
        outcome<file_info> info = w.inspect_file(file.get());
        if (!info)
            return fail(failure(info.error().code, fmt::format("{}: {}: {}", o.name, o.filename,
                                                               info.error().message)));
        outcome<std::uint32_t> block_size = choose_block_size(o, *info);
        if (!block_size) return fail(std::move(block_size.error()));
        // A file of smaller blocks than direct I/O takes still works through the page cache.
        const bool too_small = *block_size < info->offset_alignment;
        const bool odd_end = o.block_size == 0 && info->size_bytes % *block_size != 0 &&
                             info->size_bytes % block_size_least == 0;
        if (direct && info->direct && (too_small || odd_end)) {
            log::notice("file", fmt::format("{}: {} is used through the page cache, because direct "
                                            "I/O needs blocks of {} bytes",
                                            o.name, o.filename, info->offset_alignment));
            file.close();
            continue;
        }
        outcome<> sized = check_size(o, *info, *block_size);
        if (!sized) return fail(std::move(sized.error()));
        if (o.preallocate && !o.readonly && !info->block_device) {
            outcome<> allocated = w.allocate_file(file.get(), info->size_bytes);
            if (!allocated)
                return fail(failure(allocated.error().code,
                                    fmt::format("{}: {}: {}; free some space, or leave preallocate "
                                                "out",
                                                o.name, o.filename, allocated.error().message)));
        }
        return opened_file{*info, *block_size};
    }
    return fail(EINVAL, fmt::format("{}: {}: no way to open it", o.name, o.filename));
}

/// A process that was killed lets go of its files only when the kernel is done with what it had in
/// flight, some time after it is gone. Its successor waits for that, and so never meets a write of
/// its predecessor's. Not for a bdev of this registry, which goes on using the file.
task<outcome<opened_file>> open_when_free(bdev_registry& registry, const file_options& o,
                                          open_descriptor& file, bool& made) {
    constexpr std::uint64_t wait_ns_max = 2'000'000'000;
    constexpr std::uint64_t pause_ns = 2'000'000;
    outcome<opened_file> opened = open_and_inspect(registry, o, file, made);
    for (std::uint64_t waited = 0; waited < wait_ns_max; waited += pause_ns) {
        if (opened || !opened.error().code.is(EBUSY) || is_used_here(registry, o.filename)) break;
        file.close();
        result<> slept = co_await sleep_for(pause_ns);
        if (!slept) break;
        opened = open_and_inspect(registry, o, file, made);
    }
    co_return opened;
}

outcome<> check_options(bdev_registry& registry, const file_options& o) {
    if (o.name.empty() || o.filename.empty())
        return fail(EINVAL, "a file bdev needs a name and a filename");
    if (bdev* taken = registry.find(o.name); taken != nullptr)
        return fail(EEXIST, fmt::format("{}: a bdev of this name exists", o.name));
    if (o.size && (*o.size == 0 || *o.size % block_size_least != 0))
        return fail(EINVAL, fmt::format("{}: size {} is no multiple of {}", o.name, *o.size,
                                        block_size_least));
    return {};
}

task<outcome<std::string>> create(bdev_registry& registry, file_options options, file_kind kind) {
    outcome<> checked = check_options(registry, options);
    if (!checked) co_return fail(std::move(checked.error()));
    world& w = registry.home_world();
    open_descriptor file(w);
    bool made = false;
    outcome<opened_file> opened = co_await open_when_free(registry, options, file, made);
    if (!opened) {
        if (made) w.remove_file(options.filename);
        co_return fail(std::move(opened.error()));
    }
    const std::string filename = options.filename;
    bdev_attributes a;
    a.name = options.name;
    if (options.uuid) a.id = *options.uuid;
    a.product_name = kind == file_kind::uring ? "URING bdev" : "AIO disk";
    a.block_size = byte_count(opened->block_size);
    a.blocks = block_count(opened->info.size_bytes / opened->block_size);
    a.buffer_alignment = opened->info.memory_alignment;
    a.write_cache = !options.readonly;
    if (opened->info.numa_id >= 0) a.numa_id = opened->info.numa_id;
    a.operations = reading_operations;
    if (!options.readonly) a.operations |= writing_operations;
    auto device = std::make_shared<file_bdev>(std::move(a), std::move(options), kind,
                                              file.release(), w, opened->info.offset_alignment);
    outcome<> added = co_await registry.add(device);
    if (!added) {
        if (made) w.remove_file(filename);
        co_return fail(std::move(added.error()));
    }
    co_return device->name();
}

outcome<file_bdev*> find_file(bdev_registry& registry, const std::string& name, file_kind kind) {
    auto* device = dynamic_cast<file_bdev*>(registry.find(name));
    if (device == nullptr || (kind != file_kind::any && device->kind() != kind))
        return fail(ENODEV, name + (kind == file_kind::uring ? ": no uring bdev of this name"
                                    : kind == file_kind::aio ? ": no aio bdev of this name"
                                                             : ": no file bdev of this name"));
    return device;
}

}  // namespace

std::span<const json::field> file_options::fields() {
    using self = file_options;
    static constexpr json::field table[] = {
        json::required<&self::name>("name", "Name of the new bdev"),
        json::required<&self::filename>("filename", "Path of the file or block device"),
        json::automatic<&self::block_size>("block_size", "Bytes in a block; 0: detected"),
        json::optional<&self::readonly>("readonly", "Refuse to change it"),
        json::optional<&self::fallocate>("fallocate", "Taken, and always so: unmap deallocates"),
        json::optional<&self::uuid>("uuid", "UUID of the new bdev; generated if absent"),
        json::optional<&self::nowait>("nowait", "Taken without effect"),
        json::optional<&self::size>("size", "Bytes; made if absent, refused if it is shorter"),
        json::automatic<&self::must_exist>("must_exist",
                                           "Do not make the file, although size is "
                                           "given; saved configurations say so"),
        json::optional<&self::preallocate>("preallocate", "Allocate all of its space first"),
    };
    return table;
}

std::span<const json::field> file_uring_options::fields() {
    using self = file_uring_options;
    static constexpr json::field table[] = {
        json::required<&self::filename>("filename", "Path of the file or block device"),
        json::required<&self::name>("name", "Name of the new bdev"),
        json::automatic<&self::block_size>("block_size", "Bytes in a block; 0: detected"),
        json::optional<&self::uuid>("uuid", "UUID of the new bdev; generated if absent"),
    };
    return table;
}

task<outcome<std::string>> create_file(bdev_registry& registry, file_options options) {
    outcome<std::string> created = co_await create(registry, std::move(options), file_kind::aio);
    co_return created;
}

task<outcome<std::string>> create_file(bdev_registry& registry, file_uring_options options) {
    file_options o;
    o.name = std::move(options.name);
    o.filename = std::move(options.filename);
    o.block_size = options.block_size;
    o.uuid = options.uuid;
    outcome<std::string> created = co_await create(registry, std::move(o), file_kind::uring);
    co_return created;
}

task<outcome<std::string>> create_file_from_uri(bdev_registry& registry, uri address) {
    std::vector<uri::parameter> parameters;
    parameters.emplace_back("filename", address.path());
    if (!address.find("name"))
        parameters.emplace_back("name", address.path().substr(address.path().rfind('/') + 1));
    parameters.insert(parameters.end(), address.query().begin(), address.query().end());
    outcome<file_options> options = json::decode_text<file_options>(parameters);
    if (!options) co_return fail(std::move(options.error()));
    outcome<std::string> created = co_await create_file(registry, std::move(*options));
    co_return created;
}

task<outcome<>> delete_file(bdev_registry& registry, std::string name, file_kind kind) {
    outcome<file_bdev*> device = find_file(registry, name, kind);
    if (!device) co_return fail(std::move(device.error()));
    outcome<> removed = co_await registry.remove(std::move(name));
    co_return removed;
}

task<outcome<>> rescan_file(bdev_registry& registry, std::string name, file_kind kind) {
    outcome<file_bdev*> found = find_file(registry, name, kind);
    if (!found) co_return fail(std::move(found.error()));
    file_bdev& device = **found;
    const std::string& path = device.options().filename;
    outcome<file_info> info = registry.home_world().inspect_file(device.file().fd);
    if (!info)
        co_return fail(failure(info.error().code,
                               fmt::format("{}: {}: {}", name, path, info.error().message)));
    const std::uint64_t blocks = info->size_bytes / device.block_size().value();
    if (blocks == 0)
        co_return fail(EINVAL, fmt::format("{}: {} has shrunk to {} bytes, less than one block",
                                           name, path, info->size_bytes));
    if (info->size_bytes % device.block_size().value() != 0)
        log::notice("file",
                    fmt::format("{}: the last {} bytes of {} are no whole block and stay "
                                "unused",
                                name, info->size_bytes % device.block_size().value(), path));
    if (blocks != device.blocks().value()) co_await device.resized(block_count(blocks));
    co_return outcome<>();
}

task<outcome<>> resize_file(bdev_registry& registry, std::string name, byte_count size) {
    outcome<file_bdev*> found = find_file(registry, name, file_kind::any);
    if (!found) co_return fail(std::move(found.error()));
    file_bdev& device = **found;
    const file_options& o = device.options();
    if (size.value() == 0 || size.value() % device.block_size().value() != 0)
        co_return fail(EINVAL, fmt::format("{}: {} bytes are no multiple of the block size {}",
                                           name, size.value(), device.block_size().value()));
    if (o.readonly) co_return fail(EROFS, fmt::format("{}: is read-only", name));
    // Users know of a smaller size before it is there, and of a larger one after.
    const block_count blocks(size.value() / device.block_size().value());
    if (blocks < device.blocks()) co_await device.resized(blocks);
    outcome<> resized = registry.home_world().resize_file(device.file().fd, size.value());
    if (!resized)
        co_return fail(failure(resized.error().code, fmt::format("{}: {}: {}", name, o.filename,
                                                                 resized.error().message)));
    outcome<> rescanned = co_await rescan_file(registry, std::move(name));
    co_return rescanned;
}

}  // namespace nacre
