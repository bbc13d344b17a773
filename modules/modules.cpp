// SPDX-License-Identifier: BSD-3-Clause
#include "modules/modules.hpp"

#include <algorithm>

#include "modules/crypto/crypto.hpp"
#include "modules/delay/delay.hpp"
#include "modules/error/error.hpp"
#include "modules/file/file.hpp"
#include "modules/malloc/malloc.hpp"
#include "modules/null/null.hpp"
#include "modules/nvme/nvme.hpp"
#include "modules/passthru/passthru.hpp"
#include "modules/raid/raid.hpp"
#include "modules/rbd/rbd.hpp"
#include "modules/split/split.hpp"
#include "modules/zone_block/zone_block.hpp"
#include "modules/zoned/zoned.hpp"
#include "nacre/bdev/bdev_kind.hpp"

namespace nacre {
namespace {

constexpr bdev_scheme table[] = {
#define NACRE_BDEV_SCHEME(name, create, example) {name, &create, example},
#include "modules/modules.def"
#undef NACRE_BDEV_SCHEME
};

std::string known_schemes() {
    std::string text;
    for (const bdev_scheme& s : table) {
        if (!text.empty()) text += ", ";
        text += s.example;
    }
    return text;
}

std::vector<std::string> split_at_commas(std::string_view text) {
    std::vector<std::string> parts;
    while (true) {
        const auto comma = text.find(',');
        parts.emplace_back(text.substr(0, comma));
        if (comma == std::string_view::npos) return parts;
        text.remove_prefix(comma + 1);
    }
}

/// Replaces the URIs among the bases by the names of the bdevs that it makes of them.
task<outcome<>> create_bases(bdev_registry& registry, uri& address,
                             std::vector<std::string>& made) {
    const std::optional<std::string_view> bases = address.find("base");
    if (!bases || bases->find("://") == std::string_view::npos) co_return outcome<>();
    std::string names;
    for (std::string& base : split_at_commas(*bases)) {
        if (base.find("://") != std::string::npos) {
            outcome<std::string> created = co_await create_from_uri(registry, base);
            if (!created) co_return fail(std::move(created.error()));
            base = *created;
            made.push_back(std::move(*created));
        }
        if (!names.empty()) names += ',';
        names += base;
    }
    address.set("base", std::move(names));
    co_return outcome<>();
}

/// By the table, or by a kind that the application brought along.
task<outcome<std::string>> create(bdev_registry& registry, uri address) {
    const auto* scheme = std::ranges::find(table, address.scheme(), &bdev_scheme::name);
    if (scheme != std::end(table)) return scheme->create(registry, std::move(address));
    const bdev_kind& kind = *registry.find_kind(address.scheme());
    return create_of_kind(registry, kind, std::move(address));
}

bool known(const bdev_registry& registry, std::string_view scheme) {
    return std::ranges::find(table, scheme, &bdev_scheme::name) != std::end(table) ||
           registry.find_kind(scheme) != nullptr;
}

}  // namespace

std::span<const bdev_scheme> bdev_schemes() noexcept { return table; }

task<outcome<std::string>> create_from_uri(bdev_registry& registry, std::string address) {
    outcome<uri> parsed = uri::parse(address);
    if (!parsed) co_return fail(std::move(parsed.error()));
    if (!known(registry, parsed->scheme()))
        co_return fail(EINVAL,
                       address + ": no such kind of block device; known are " + known_schemes());
    std::vector<std::string> made;
    outcome<> based = co_await create_bases(registry, *parsed, made);
    outcome<std::string> created = fail(EINVAL, std::string());
    if (based) {
        task<outcome<std::string>> creation = create(registry, *parsed);
        created = co_await std::move(creation);
    } else {
        created = fail(std::move(based.error()));
    }
    if (!created) {
        for (std::string& name : made) {
            outcome<> removed = co_await registry.remove(std::move(name));
            (void)removed;  // the creation's own error is the one to tell
        }
    }
    co_return created;
}

}  // namespace nacre
