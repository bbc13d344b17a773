// SPDX-License-Identifier: BSD-3-Clause
//
// Methods on notifications.
#include "notifications.hpp"
#include "tables.hpp"

namespace nacre::rpc {

namespace {

task<reply> get_types(context&) {
    json::array list;
    for (const char* type : notifications::types) list.emplace_back(std::string_view(type));
    co_return json::value(std::move(list));
}

struct get_params {
    std::uint64_t id = 0;
    std::uint64_t max = UINT64_MAX;

    static std::span<const json::field> fields() {
        static constexpr json::field table[] = {
            json::optional<&get_params::id>("id", "First one wanted"),
            json::optional<&get_params::max>("max", "How many at most"),
        };
        return table;
    }
};

task<reply> get_notifications(context& here, get_params params) {
    const notifications& log = *here.service<notifications>();
    json::array list;
    std::uint64_t id = log.first_id();
    for (const notifications::entry& e : log.entries()) {
        if (id >= params.id && list.size() < params.max)
            list.emplace_back(json::object{{"type", e.type}, {"ctx", e.subject}, {"id", id}});
        ++id;
    }
    co_return json::value(std::move(list));
}

}  // namespace

std::span<const method> notify_methods() noexcept {
    static constexpr method table[] = {
        declare<&get_notifications>("notify_get_notifications", state::runtime,
                                    "What happened to bdevs, oldest first"),
        declare<&get_types>("notify_get_types", state::runtime, "The types of notifications"),
    };
    return table;
}

}  // namespace nacre::rpc
