// SPDX-License-Identifier: BSD-3-Clause
#include "modules/crypto/crypto.hpp"

#include <fmt/format.h>

#include <algorithm>

#include "modules/crypto/channel.hpp"
#include "nacre/bdev/layer_bdev.hpp"
#include "nacre/core/log.hpp"

namespace nacre {
namespace {

/// SPDK's namespace of the UUIDs that it gives to crypto bdevs.
constexpr std::string_view uuid_name_space = "078e3cf7-f4b4-4545-b2c3-d40045a64ae2";

/// Of its base's, what a crypto bdev can carry out. Holes are not told of: they read as what the
/// cipher makes of zeros.
constexpr std::uint32_t passed_opcodes = bit(opcode::read) | bit(opcode::write) |
                                         bit(opcode::flush) | bit(opcode::unmap) |
                                         bit(opcode::reset) | bit(opcode::abort);
constexpr std::uint64_t key_file_bytes_max = 4096;

class crypto_bdev final : public layer_bdev {
public:
    crypto_bdev(bdev_attributes attributes, bdev_registry& registry, bdev_desc base,
                std::string key_name, std::shared_ptr<const crypto::key> key)
        : layer_bdev(std::move(attributes), registry, std::move(base)),
          key_name_(std::move(key_name)),
          key_(std::move(key)) {}

    outcome<std::unique_ptr<module_channel>> make_channel() override {
        outcome<bdev_channel> base = open_base_channel();
        if (!base) return fail(std::move(base.error()));
        outcome<crypto::xts_cipher> cipher = crypto::xts_cipher::make(*key_);
        if (!cipher)
            return fail(cipher.error().code.to_errno(), name() + ": " + cipher.error().message);
        reserved_buffers buffers = channel_buffers();
        if (result<> reserved = buffers.reserve(); !reserved)
            return fail(ENOMEM, name() +
                                    ": no memory for the buffers of its writes; raise the "
                                    "limit (--mem-size) if there is one");
        return std::make_unique<crypto::crypto_channel>(*this, std::move(*base), std::move(*cipher),
                                                        std::move(buffers));
    }
    json::value information() const override {
        return json::object{{"crypto", json::object{{"base_bdev_name", base_name()},
                                                    {"name", name()},
                                                    {"key_name", key_name_}}}};
    }
    json::value configuration() const override {
        return json::object{{"method", "bdev_crypto_create"},
                            {"params", json::object{{"base_bdev_name", base_name()},
                                                    {"name", name()},
                                                    {"key_name", key_name_}}}};
    }

private:
    const std::string key_name_;
    const std::shared_ptr<const crypto::key> key_;
};

/// A name as it may be shown: who mistakes the parameter may have given the key itself.
std::string shown(std::string_view name) {
    const bool hexadecimal = name.find_first_not_of("0123456789abcdefABCDEF") == name.npos;
    if (name.size() >= 32 && hexadecimal)
        return fmt::format("(of {} hexadecimal digits, not shown: it may be a key)", name.size());
    return fmt::format("\"{}\"", name);
}

std::unexpected<failure> no_such_key(std::string_view name) {
    return fail(ENOKEY, fmt::format("key {}: there is none of this name; accel_crypto_key_create "
                                    "or accel_crypto_key_load makes it",
                                    shown(name)));
}

outcome<> check_base(const std::string& name, const bdev& base) {
    if (base.attributes().is_zoned())
        return fail(EINVAL, fmt::format("{}: {} is zoned, and a block that is appended has no "
                                        "address before it is written, so it cannot be encrypted",
                                        name, base.name()));
    if (base.attributes().metadata_size != 0)
        return fail(EINVAL, fmt::format("{}: {} has metadata with each block, which would not be "
                                        "encrypted; use a bdev without",
                                        name, base.name()));
    return {};
}

}  // namespace

std::span<const json::field> crypto_key_options::fields() {
    using self = crypto_key_options;
    static constexpr json::field table[] = {
        json::required<&self::cipher>("cipher", "AES_XTS"),
        json::required<&self::key>("key", "First half of the key, in hexadecimal"),
        json::optional<&self::key2>("key2", "Second half, of the same length; AES_XTS needs it"),
        json::optional<&self::tweak_mode>("tweak_mode", "SIMPLE_LBA"),
        json::required<&self::name>("name", "Name of the key"),
    };
    return table;
}

std::span<const json::field> crypto_key_file::fields() {
    using self = crypto_key_file;
    static constexpr json::field table[] = {
        json::required<&self::name>("name", "Name of the key"),
        json::required<&self::file>("file",
                                    "File or descriptor (/dev/fd/3) of the server's machine with "
                                    "both halves in hexadecimal"),
    };
    return table;
}

std::span<const json::field> crypto_options::fields() {
    using self = crypto_options;
    static constexpr json::field table[] = {
        json::required<&self::base_bdev_name>("base_bdev_name", "Name of the bdev below"),
        json::required<&self::name>("name", "Name of the new bdev"),
        json::optional<&self::crypto_pmd>("crypto_pmd", "Obsolete, ignored"),
        json::optional<&self::key>("key", "Obsolete: first half of a key of its own"),
        json::optional<&self::cipher>("cipher", "Obsolete: AES_XTS, with \"key\""),
        json::optional<&self::key2>("key2", "Obsolete: second half of a key of its own"),
        json::optional<&self::key_name>("key_name", "Name of the key"),
    };
    return table;
}

// --- Keys ----------------------------------------------------------------------------------------

std::vector<crypto_module::key_slot>::iterator crypto_module::find_key(
    std::string_view name) noexcept {
    return std::ranges::find(keys_, name, &key_slot::name);
}

outcome<> crypto_module::key_may_be_made(std::string_view name) {
    if (name.empty()) return fail(EINVAL, "key: its name is empty");
    const auto known = find_key(name);
    if (known == keys_.end() || known->material == nullptr) return {};
    return fail(EEXIST, fmt::format("key {}: there is one of this name already; "
                                    "accel_crypto_key_destroy first",
                                    shown(name)));
}

task<outcome<>> crypto_module::create_key(crypto_key_options options) {
    outcome<> free = key_may_be_made(options.name);
    if (!free) co_return free;
    if (options.cipher != crypto_cipher::aes_xts)
        co_return fail(EINVAL, fmt::format("key \"{}\": the only cipher is AES_XTS", options.name));
    if (options.tweak_mode != crypto_tweak_mode::simple_lba)
        co_return fail(EINVAL,
                       fmt::format("key \"{}\": the only tweak mode is SIMPLE_LBA", options.name));
    if (!options.key2)
        co_return fail(
            EINVAL, fmt::format("key \"{}\": AES_XTS takes a second half, \"key2\"", options.name));
    outcome<std::shared_ptr<const crypto::key>> made =
        crypto::key::parse(options.name, options.key.view(), options.key2->view());
    if (!made) co_return fail(std::move(made.error()));
    key_slot slot{options.name, std::move(*made), std::string()};
    co_await add_key(std::move(slot));
    co_return outcome<>();
}

task<outcome<>> crypto_module::load_key(crypto_key_file from) {
    outcome<> free = key_may_be_made(from.name);
    if (!free) co_return free;
    outcome<std::string> text = registry_.home_world().read_text(from.file, key_file_bytes_max);
    if (!text)
        co_return fail(failure(text.error().code,
                               fmt::format("key \"{}\": {}", from.name, text.error().message)));
    const secret_text secret(std::move(*text));
    outcome<std::shared_ptr<const crypto::key>> made =
        crypto::key::parse_file(from.name, secret.view());
    if (!made) co_return fail(EINVAL, fmt::format("{} ({})", made.error().message, from.file));
    key_slot slot{from.name, std::move(*made), from.file};
    co_await add_key(std::move(slot));
    co_return outcome<>();
}

outcome<> crypto_module::expect_key(std::string name) {
    if (name.empty()) return fail(EINVAL, "key: its name is empty");
    if (find_key(name) != keys_.end()) return {};
    keys_.push_back({std::move(name), nullptr, std::string()});
    return {};
}

task<void> crypto_module::add_key(key_slot slot) {
    const std::string name = slot.name;
    const auto known = find_key(name);
    if (known == keys_.end())
        keys_.push_back(std::move(slot));
    else
        *known = std::move(slot);
    std::vector<entry> waiting;
    std::ranges::copy_if(entries_, std::back_inserter(waiting),
                         [&](const entry& e) { return e.key == name; });
    for (const entry& e : waiting) co_await try_to_assemble(e);
}

outcome<> crypto_module::destroy_key(std::string_view name) {
    const auto known = find_key(name);
    if (known == keys_.end()) return no_such_key(name);
    const auto user = std::ranges::find(entries_, name, &entry::key);
    if (user != entries_.end())
        return fail(EBUSY, fmt::format("key \"{}\": {} uses it; bdev_crypto_delete that first",
                                       name, user->name));
    keys_.erase(known);
    return {};
}

outcome<json::array> crypto_module::describe_keys(std::optional<std::string> name) const {
    json::array list;
    for (const key_slot& k : keys_) {
        if (name && k.name != *name) continue;
        json::object described{
            {"name", k.name}, {"cipher", "AES_XTS"}, {"tweak_mode", "SIMPLE_LBA"}};
        if (!k.file.empty()) described.append("file", k.file);
        if (k.material == nullptr) described.append("expected", true);
        list.emplace_back(std::move(described));
    }
    if (name && list.empty()) return no_such_key(*name);
    return list;
}

json::array crypto_module::key_configuration() const {
    json::array calls;
    for (const key_slot& k : keys_) {
        json::object params{{"name", k.name}};
        if (!k.file.empty()) params.append("file", k.file);
        calls.emplace_back(json::object{
            {"method", k.file.empty() ? "accel_crypto_key_expect" : "accel_crypto_key_load"},
            {"params", std::move(params)}});
    }
    return calls;
}

// --- Bdevs ---------------------------------------------------------------------------------------

json::value crypto_module::entry::configuration() const {
    return json::object{
        {"method", "bdev_crypto_create"},
        {"params", json::object{{"base_bdev_name", base}, {"name", name}, {"key_name", key}}}};
}

json::array crypto_module::waiting_configuration() const {
    json::array calls;
    for (const entry& e : entries_)
        if (dynamic_cast<crypto_bdev*>(registry_.find(e.name)) == nullptr)
            calls.push_back(e.configuration());
    return calls;
}

std::vector<crypto_module::entry>::iterator crypto_module::find(std::string_view name) noexcept {
    return std::ranges::find(entries_, name, &entry::name);
}

outcome<> crypto_module::name_is_free(const std::string& name) {
    if (find(name) == entries_.end()) return {};
    return fail(EEXIST, name + ": there is a crypto bdev of this name already");
}

void crypto_module::forget(std::string_view name) {
    const auto known = find(name);
    if (known == entries_.end()) return;
    const entry gone = std::move(*known);
    entries_.erase(known);
    if (!gone.owns_key) return;
    const outcome<> destroyed = destroy_key(gone.key);
    (void)destroyed;  // somebody else uses it by now
}

/// The name of the key that the options name, or hold in SPDK's older form.
task<outcome<std::string>> crypto_module::key_for(crypto_options& options, bool& owns_key) {
    if (options.key_name) {
        if (find_key(*options.key_name) == keys_.end()) co_return no_such_key(*options.key_name);
        co_return *options.key_name;
    }
    const std::string cipher = options.cipher.value_or("AES_CBC");
    const std::string name = options.name + "_" + cipher;
    if (find_key(name) != keys_.end()) co_return name;
    if (cipher != "AES_XTS")
        co_return fail(EKEYREJECTED, options.name + ": the only cipher is AES_XTS");
    if (!options.key)
        co_return fail(EKEYREJECTED, options.name + ": name its key with \"key_name\"");
    crypto_key_options made;
    made.name = name;
    made.key = std::move(*options.key);
    made.key2 = std::move(options.key2);
    outcome<> created = co_await create_key(std::move(made));
    if (!created) co_return fail(EKEYREJECTED, std::move(created.error().message));
    owns_key = true;
    co_return name;
}

task<outcome<std::string>> crypto_module::create(crypto_options options) {
    outcome<> free = name_is_free(options.name);
    if (!free) co_return fail(std::move(free.error()));
    if (options.crypto_pmd)
        log::notice("crypto", options.name + ": crypto_pmd is obsolete and ignored");
    bool owns_key = false;
    outcome<std::string> key = co_await key_for(options, owns_key);
    if (!key) co_return fail(std::move(key.error()));
    entry added{options.name, options.base_bdev_name, std::move(*key), owns_key};
    outcome<std::string> made = co_await add(std::move(added), true);
    co_return made;
}

task<outcome<std::string>> crypto_module::add(entry added, bool may_wait) {
    const std::string name = added.name;
    outcome<> free = name_is_free(name);
    if (!free) co_return fail(std::move(free.error()));
    const bool has_base = registry_.find(added.base) != nullptr;
    const auto key = find_key(added.key);
    NACRE_ASSERT(key != keys_.end());
    const bool has_key = key->material != nullptr;
    entries_.push_back(added);
    if (has_base && has_key) {
        outcome<> made = co_await assemble(added);
        if (made) co_return name;
        forget(name);
        co_return fail(std::move(made.error()));
    }
    const std::string waits =
        has_base ? fmt::format("{}: the key {} is not there yet", name, shown(added.key))
                 : fmt::format("{}: its base {} is not there yet", name, added.base);
    if (!may_wait) {
        forget(name);
        co_return fail(has_base ? ENOKEY : ENODEV, waits);
    }
    log::notice("crypto", waits);
    co_return name;
}

task<outcome<>> crypto_module::assemble(entry of) {
    outcome<bdev_desc> base = layer_bdev::open_base(registry_, of.base, "crypto");
    if (!base) co_return fail(std::move(base.error()));
    outcome<> fits = check_base(of.name, base->device());
    if (!fits) co_return fits;
    const auto key = find_key(of.key);
    if (key == keys_.end() || key->material == nullptr) co_return no_such_key(of.key);
    bdev_attributes attributes;
    attributes.derive_from(base->device().attributes());
    attributes.operations &= passed_opcodes;
    attributes.name = of.name;
    attributes.product_name = "crypto";
    attributes.id = layer_bdev::derived_uuid(uuid_name_space, base->device());
    auto device = std::make_shared<crypto_bdev>(std::move(attributes), registry_, std::move(*base),
                                                of.key, key->material);
    outcome<> added = co_await registry_.add(device);
    co_return added;
}

task<void> crypto_module::try_to_assemble(entry of) {
    const auto key = find_key(of.key);
    if (key == keys_.end() || key->material == nullptr || registry_.find(of.base) == nullptr ||
        registry_.find(of.name) != nullptr)
        co_return;
    outcome<> made = co_await assemble(of);
    if (made)
        log::notice("crypto", fmt::format("{}: is there, over {}", of.name, of.base));
    else
        log::error("crypto", made.error().message);
}

task<void> crypto_module::examine(bdev& device) {
    const auto known = std::ranges::find(entries_, device.name(), &entry::base);
    if (known == entries_.end()) co_return;
    const entry waiting = *known;
    co_await try_to_assemble(waiting);
}

task<outcome<>> crypto_module::destroy(std::string name) {
    const bool present = dynamic_cast<crypto_bdev*>(registry_.find(name)) != nullptr;
    if (!present && find(name) == entries_.end())
        co_return fail(ENODEV, name + ": no crypto bdev of this name");
    outcome<> removed;
    if (present) removed = co_await registry_.remove(name);
    if (removed) forget(name);
    co_return removed;
}

task<outcome<std::string>> create_crypto_from_uri(bdev_registry& registry, uri address) {
    outcome<> good = address.expect_only({"base", "key", "key_file"});
    if (!good) co_return fail(std::move(good.error()));
    crypto_module& here = crypto_module::of(registry);
    const std::optional<std::string> named = address.take("key");
    const std::optional<std::string> file = address.take("key_file");
    crypto_module::entry added{std::string(address.name()), address.take("base").value_or(""),
                               named.value_or(""), file.has_value()};
    if (added.name.empty() || named.has_value() == file.has_value())
        co_return fail(EINVAL,
                       "crypto:///NAME?base=BASE takes the name of a key (key=NAME) or a "
                       "file that holds one (key_file=PATH)");
    outcome<> free = here.name_is_free(added.name);
    if (!free) co_return fail(std::move(free.error()));
    if (file) {
        added.key = added.name + "_AES_XTS";
        crypto_key_file from{added.key, *file};
        outcome<> loaded = co_await here.load_key(std::move(from));
        if (!loaded) co_return fail(std::move(loaded.error()));
    } else if (here.find_key(added.key) == here.keys_.end()) {
        co_return no_such_key(added.key);
    }
    outcome<std::string> made = co_await here.add(std::move(added), false);
    co_return made;
}

}  // namespace nacre
