// SPDX-License-Identifier: BSD-3-Clause
#include "bdev_session.hpp"

#include "modules/modules.hpp"
#include "nacre/app/app.hpp"
#include "nacre/core/log.hpp"

namespace nacre::cli {
namespace {

task<int> work_alone(runtime* rt, const bdev_session* session, bdev_work* work) {
    bdev_registry registry(*rt);
    for (const bdev_kind* kind : session->kinds) registry.add_kind(*kind);
    int status = co_await work->run(registry);
    co_await registry.remove_all();
    co_return status;
}

int work_configured(const bdev_session& session, bdev_work& work) {
    app_options how;
    how.name = session.command;
    how.config_file = session.config_file;
    how.handle_signals = session.until_signal;
    app application(std::move(how));
    for (const bdev_kind* kind : session.kinds) application.add_kind(*kind);
    if (outcome<> started = application.start(); !started)
        return report_failure(started.error().message);
    const int status = application.block_on(work.run(application.bdevs()));
    const int stopped = application.stop();
    return status != 0 ? status : stopped;
}

}  // namespace

int run_with_bdevs(const bdev_session& session, bdev_work& work) {
    if (!session.config_file.empty() || session.until_signal) return work_configured(session, work);
    auto rt = runtime::make(real_world(), runtime_options());
    if (!rt) return report_failure(rt.error().message);
    return (*rt)->block_on(&work_alone, rt->get(), &session, &work);
}

task<outcome<std::string>> find_or_make(bdev_registry& registry, std::string bdev, access a) {
    if (bdev.find("://") == std::string::npos) {
        if (registry.find(bdev) == nullptr)
            co_return fail(ENODEV, bdev +
                                       ": there is no such bdev; give a URI, such as "
                                       "file:///tmp/disk.img, or --config");
        co_return bdev;
    }
    outcome<uri> address = uri::parse(bdev);
    if (!address) co_return fail(std::move(address.error()));
    if (a == access::read && address->scheme() == "file" && !address->find("readonly")) {
        address->set("readonly", "true");
        bdev = address->to_string();
    }
    outcome<std::string> made = co_await create_from_uri(registry, std::move(bdev));
    co_return made;
}

}  // namespace nacre::cli
