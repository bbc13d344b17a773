// SPDX-License-Identifier: BSD-3-Clause
#include "nacre/rpc/kind_methods.hpp"

#include "nacre/rpc/context.hpp"
#include "tables.hpp"

namespace nacre::rpc {

kind_methods::kind_methods(const bdev_kind& kind)
    : texts_{kind.create_method != nullptr ? std::string(kind.create_method)
                                           : std::string("bdev_") + kind.name + "_create",
             kind.delete_method != nullptr ? std::string(kind.delete_method)
                                           : std::string("bdev_") + kind.name + "_delete",
             std::string("Makes a bdev: ") + kind.help,
             std::string("Deletes a bdev of the kind ") + kind.name} {
    create_.name = texts_[0].c_str();
    create_.help = texts_[2].c_str();
    create_.fields = kind.fields;
    create_.schema = kind.schema;
    create_.document = kind.document;
    create_.normalize = kind.normalize;
    create_.creates = &bdev_of_that_name;
    create_.start = [](const method& self, context& here,
                       const json::value& params) -> std::expected<task<reply>, request_error> {
        outcome<json::object> all = kind_of(self).normalize(params);
        if (!all) return std::unexpected(detail::undecodable(self, all.error()));
        return create(kind_of(self), here, params);
    };
    delete_.name = texts_[1].c_str();
    delete_.help = texts_[3].c_str();
    delete_.fields = &name_params::fields;
    delete_.schema = &json::schema<name_params>;
    delete_.document = &json::document<name_params>;
    delete_.normalize = &json::normalize<name_params>;
    delete_.creates = nullptr;
    delete_.start = [](const method& self, context& here,
                       const json::value& params) -> std::expected<task<reply>, request_error> {
        outcome<name_params> decoded = json::decode<name_params>(params);
        if (!decoded) return std::unexpected(detail::undecodable(self, decoded.error()));
        return remove(kind_of(self), here, std::move(decoded->name));
    };
    for (kind_method* m : {&create_, &delete_}) {
        m->when = state::runtime;
        m->kind = &kind;
    }
}

void kind_methods::add_to(method_table& table) const {
    table.add(std::span(static_cast<const method*>(&create_), 1));
    table.add(std::span(static_cast<const method*>(&delete_), 1));
}

task<reply> kind_methods::create(const bdev_kind& kind, context& here, json::value params) {
    outcome<std::string> made = co_await kind.create(here.bdevs(), params);
    co_return to_reply(made);
}

task<reply> kind_methods::remove(const bdev_kind& kind, context& here, std::string name) {
    outcome<> deleted = co_await delete_of_kind(here.bdevs(), kind, std::move(name));
    co_return to_reply(deleted);
}

}  // namespace nacre::rpc
