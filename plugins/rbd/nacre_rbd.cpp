// SPDX-License-Identifier: BSD-3-Clause
//
// nacre-rbd.so: Ceph's librbd behind the table of modules/rbd/api.hpp. It uses nothing else of
// nacre, and nothing of nacre is linked with librbd but this.
#include <rados/librados.h>
#include <rbd/librbd.h>

#include <memory>
#include <new>

#include "modules/rbd/api.hpp"

namespace nacre::rbd {

struct cluster {
    rados_t handle = nullptr;
};

struct image {
    rados_ioctx_t pool = nullptr;
    rbd_image_t handle = nullptr;
    std::uint64_t watch = 0;
    void (*resized)(void* context) noexcept = nullptr;
    void* context = nullptr;
};

namespace {

/// Seconds after which a cluster that does not answer is given up, where nobody says otherwise;
/// Ceph's own default is five minutes.
constexpr const char* mount_timeout_s = "30";

int configure(rados_t handle, const cluster_options& o, const char** failed_step) noexcept {
    int rc = rados_conf_set(handle, "client_mount_timeout", mount_timeout_s);
    if (o.config_file != nullptr || o.reads_default_file) {
        *failed_step = "read Ceph's configuration file";
        rc = rados_conf_read_file(handle, o.config_file);
        // As with SPDK, a file that nobody named may be absent where options are given.
        if (rc < 0 && (o.config_file != nullptr || o.option_count == 0)) return rc;
    }
    *failed_step = "set an option of Ceph's configuration";
    for (std::size_t i = 0; i < o.option_count; ++i)
        if ((rc = rados_conf_set(handle, o.options[i].name, o.options[i].value)) < 0) {
            *failed_step = o.options[i].name;
            return rc;
        }
    return o.key_file == nullptr ? 0 : rados_conf_set(handle, "keyring", o.key_file);
}

int connect(const cluster_options& o, cluster** made, const char** failed_step) noexcept {
    std::unique_ptr<cluster> c(new (std::nothrow) cluster);
    *failed_step = "make a client of the cluster";
    if (c == nullptr) return -ENOMEM;
    if (const int rc = rados_create(&c->handle, o.user); rc < 0) return rc;
    int rc = configure(c->handle, o, failed_step);
    if (rc >= 0) {
        *failed_step = "connect to the cluster";
        rc = rados_connect(c->handle);
    }
    if (rc < 0) {
        rados_shutdown(c->handle);
        return rc;
    }
    *made = c.release();
    return 0;
}

void disconnect(cluster* c) noexcept {
    rados_shutdown(c->handle);
    delete c;
}

int open(cluster* c, const image_options& o, image** made, const char** failed_step) noexcept {
    std::unique_ptr<image> i(new (std::nothrow) image);
    *failed_step = "open the pool";
    if (i == nullptr) return -ENOMEM;
    i->resized = o.resized;
    i->context = o.context;
    if (const int rc = rados_ioctx_create(c->handle, o.pool, &i->pool); rc < 0) return rc;
    *failed_step = "open the image";
    int rc = o.read_only ? rbd_open_read_only(i->pool, o.name, &i->handle, nullptr)
                         : rbd_open(i->pool, o.name, &i->handle, nullptr);
    if (rc >= 0) {
        *failed_step = "watch the image";
        rc = rbd_update_watch(
            i->handle, &i->watch,
            [](void* p) {
                const auto& self = *static_cast<const image*>(p);
                self.resized(self.context);
            },
            i.get());
        if (rc < 0) rbd_close(i->handle);
    }
    if (rc < 0) {
        rados_ioctx_destroy(i->pool);
        return rc;
    }
    *made = i.release();
    return 0;
}

int close(image* i) noexcept {
    rbd_update_unwatch(i->handle, i->watch);  // waits for a callback that is under way
    const int flushed = rbd_flush(i->handle);
    const int closed = rbd_close(i->handle);
    rados_ioctx_destroy(i->pool);
    delete i;
    return flushed < 0 ? flushed : closed;
}

int size(image* i, std::uint64_t* bytes) noexcept { return rbd_get_size(i->handle, bytes); }

int resize(image* i, std::uint64_t bytes) noexcept { return rbd_resize(i->handle, bytes); }

void completed(rbd_completion_t completion, void* context) {
    auto& r = *static_cast<request*>(context);
    const std::int64_t result = rbd_aio_get_return_value(completion);
    rbd_aio_release(completion);
    r.result = result;
    r.done(r);  // the request may be gone from here on
}

int submit(image* i, request& r) noexcept {
    rbd_completion_t completion = nullptr;
    int rc = rbd_aio_create_completion(&r, &completed, &completion);
    if (rc < 0) return rc;
    switch (r.what) {
        case kind::read:
            rc = rbd_aio_readv(i->handle, r.vectors, r.vector_count, r.offset, completion);
            break;
        case kind::write:
            rc = rbd_aio_writev(i->handle, r.vectors, r.vector_count, r.offset, completion);
            break;
        case kind::discard:
            rc = rbd_aio_discard(i->handle, r.offset, r.bytes, completion);
            break;
        case kind::write_zeroes:
            rc = rbd_aio_write_zeroes(i->handle, r.offset, r.bytes, completion, 0, 0);
            break;
        case kind::flush:
            rc = rbd_aio_flush(i->handle, completion);
            break;
    }
    if (rc < 0) rbd_aio_release(completion);
    return rc;
}

constexpr api table{api_version, &connect, &disconnect, &open, &close, &size, &resize, &submit};

}  // namespace
}  // namespace nacre::rbd

extern "C" [[gnu::visibility("default")]] const nacre::rbd::api* nacre_rbd_api() noexcept {
    return &nacre::rbd::table;
}
