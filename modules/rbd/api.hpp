// SPDX-License-Identifier: BSD-3-Clause
//
// What the module rbd and nacre-rbd.so say to each other: a table of functions, found by one
// symbol. The module knows nothing of Ceph's headers, the shared object nothing of nacre, so
// neither needs the other to be built, and the daemon needs librbd only when somebody asks for it.
//
// Functions return 0 or a negated errno. All but `submit` and `release` may block for as long as
// the cluster likes: they are called on OS threads of their own. `done` and `resized` are called on
// threads of librbd's.
#pragma once

#include <sys/uio.h>

#include <cstddef>
#include <cstdint>

namespace nacre::rbd {

inline constexpr std::uint32_t api_version = 1;
inline constexpr const char* api_symbol = "nacre_rbd_api";

struct option {
    const char* name;
    const char* value;
};

struct cluster_options {
    const char* user;         ///< "admin"; null: Ceph's default
    const char* config_file;  ///< null: Ceph's default places, if `reads_default_file`
    bool reads_default_file;
    const option* options;  ///< set after the file has been read
    std::size_t option_count;
    const char* key_file;  ///< null: as configured
};

enum class kind : std::uint8_t { read, write, discard, write_zeroes, flush };

/// One I/O. It stays where it is until `done`, which comes exactly once if submit() returned 0.
struct request {
    kind what;
    std::uint64_t offset;
    std::uint64_t bytes;
    const iovec* vectors;  ///< valid until then, too
    int vector_count;
    void (*done)(request& self) noexcept;
    std::int64_t result;  ///< bytes read, 0, or a negated errno
};

struct cluster;
struct image;

struct image_options {
    const char* pool;
    const char* name;
    bool read_only;
    /// The image has another size, or may have.
    void (*resized)(void* context) noexcept;
    void* context;
};

struct api {
    std::uint32_t version;
    /// `failed_step` becomes a sentence's beginning: "connect to the cluster".
    int (*connect)(const cluster_options& options, cluster** made,
                   const char** failed_step) noexcept;
    void (*disconnect)(cluster* c) noexcept;
    int (*open)(cluster* c, const image_options& options, image** made,
                const char** failed_step) noexcept;
    /// Flushes. No `done` and no `resized` comes after it; nothing is in flight before.
    int (*close)(image* i) noexcept;
    int (*size)(image* i, std::uint64_t* bytes) noexcept;
    int (*resize)(image* i, std::uint64_t bytes) noexcept;
    /// Any thread; does not block.
    int (*submit)(image* i, request& r) noexcept;
};

using api_function = const api* (*)() noexcept;

}  // namespace nacre::rbd
