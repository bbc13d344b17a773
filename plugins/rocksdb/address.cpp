// SPDX-License-Identifier: BSD-3-Clause
#include "address.hpp"

#include "nacre/core/parse.hpp"
#include "nacre/core/uri.hpp"

namespace nacre::rocks {
namespace {

constexpr std::uint64_t reactors_max = 256;

outcome<bool> take_bool(uri& from, std::string_view key) {
    const std::optional<std::string> text = from.take(key);
    if (!text) return false;
    outcome<bool> value = parse_bool(*text);
    if (!value) return fail(EINVAL, std::string(key) + "=" + value.error().message);
    return value;
}

/// The parameters that are not the bdev's, out of `from`.
outcome<> take_parameters(uri& from, store_address& to) {
    if (const std::optional<std::string> how = from.take("mkfs")) {
        if (*how != "auto")
            return fail(EINVAL, "mkfs=" + *how +
                                    ": must be auto: a device that is all zeros gets "
                                    "a file system, any other is left alone");
        to.make = true;
    }
    outcome<bool> compatible = take_bool(from, "compatible");
    if (!compatible) return fail(std::move(compatible.error()));
    to.compatible = *compatible;
    outcome<bool> read_only = take_bool(from, "readonly");
    if (!read_only) return fail(std::move(read_only.error()));
    to.read_only = *read_only;
    if (const std::optional<std::string> size = from.take("cache")) {
        outcome<std::uint64_t> bytes = parse_size(*size);
        if (!bytes) return fail(EINVAL, "cache=" + bytes.error().message);
        to.cache_size = *bytes;
    }
    if (const std::optional<std::string> count = from.take("reactors")) {
        outcome<std::uint64_t> reactors = parse_uint(*count, reactors_max);
        if (!reactors) return fail(EINVAL, "reactors=" + reactors.error().message);
        to.reactors = static_cast<unsigned>(*reactors);
    }
    to.rpc_socket = from.take("rpc").value_or("");
    if (to.read_only && to.make)
        return fail(EINVAL, "mkfs=auto and readonly=true do not go together");
    return {};
}

outcome<store_address> parse_parts(std::string_view text) {
    if (!text.starts_with(address_scheme))
        return fail(EINVAL, "expected nacre://, then a bdev's URI");
    const std::string_view rest = text.substr(address_scheme.size());
    const bool bdev_uri = rest.substr(0, rest.find('?')).find("://") != std::string_view::npos;
    outcome<uri> parsed = uri::parse(bdev_uri ? rest : text);
    if (!parsed) return fail(std::move(parsed.error()));
    store_address made;
    if (outcome<> taken = take_parameters(*parsed, made); !taken)
        return fail(std::move(taken.error()));
    if (bdev_uri) {
        if (made.read_only && parsed->scheme() == "file") parsed->set("readonly", "true");
        made.bdev = parsed->to_string();
        parsed->take("readonly");
        parsed->take("size");
        made.key = parsed->to_string();
        return made;
    }
    const std::string place = parsed->authority() + parsed->path();
    const std::optional<std::string> name = parsed->take("bdev");
    if (outcome<> known = parsed->expect_only({}); !known) return fail(std::move(known.error()));
    if (place.empty()) return fail(EINVAL, "names no bdev, such as nacre://file:///data/disk.img");
    if (parsed->authority().empty()) {
        if (!name)
            return fail(EINVAL, place +
                                    " is taken for a configuration; say which of its bdevs "
                                    "with bdev=NAME, or give a URI, such as file://" +
                                    place);
        made.config_file = place;
        made.bdev = *name;
        made.key = place + '\n' + *name;
        return made;
    }
    if (name) return fail(EINVAL, "bdev=" + *name + " goes with the path of a configuration");
    made.bdev = made.key = place;
    return made;
}

}  // namespace

outcome<store_address> store_address::parse(std::string_view text) {
    outcome<store_address> made = parse_parts(text);
    if (made) return made;
    return fail(failure(made.error().code, std::string(text) + ": " + made.error().message));
}

}  // namespace nacre::rocks
