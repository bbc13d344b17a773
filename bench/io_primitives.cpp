// SPDX-License-Identifier: BSD-3-Clause
#include "io_primitives.hpp"

#include <array>
#include <cstring>
#include <memory>

#include "modules/crypto/crypto.hpp"
#include "modules/crypto/key.hpp"
#include "modules/modules.hpp"
#include "nacre/bdev/registry.hpp"

namespace nacre {
namespace {

constexpr unsigned crowd = 128;
constexpr std::size_t block_bytes = 4096;
using block = std::array<std::byte, block_bytes>;

task<result<>> read_often(std::uint64_t n, const bdev_channel* channel, iov_view buffer) {
    for (std::uint64_t i = 0; i < n; ++i) {
        result<> done = co_await channel->read(lba(i), buffer);
        if (!done) co_return done;
    }
    co_return result<>();
}

task<result<>> read_all(std::uint64_t n, bdev_registry* registry) {
    outcome<std::string> name = co_await create_from_uri(*registry, "null:///n0?size=1TiB");
    if (!name) co_return fail(name.error().code);
    outcome<bdev_desc> descriptor = registry->open(*name, access::read);
    if (!descriptor) co_return fail(descriptor.error().code);
    outcome<bdev_channel> channel = descriptor->open_channel();
    if (!channel) co_return fail(channel.error().code);
    const auto buffers = std::make_unique<block[]>(crowd);
    scope readers;
    for (unsigned i = 0; i < crowd; ++i)
        readers.spawn(read_often(n / crowd, &*channel, iov_view(std::span(buffers[i]))));
    result<> joined = co_await readers.join();
    co_return joined;
}

task<result<>> await_null_reads(std::uint64_t n, runtime* rt) {
    bdev_registry registry(*rt);
    result<> done = co_await read_all(n, &registry);
    co_await registry.remove_all();
    co_return done;
}

void null_read_awaited(runtime& rt, std::uint64_t n) {
    const result<> done = rt.block_on(await_null_reads, n, &rt);
    NACRE_ASSERT(done.has_value());
}

// --- AES-XTS
// --------------------------------------------------------------------------------------
//
// The same reads and writes, ciphered by the crypto bdev or by the coroutine that awaits them: what
// the one takes more than the other is the module's own.

constexpr std::string_view first_half =
    "2718281828459045235360287471352662497757247093699959574966967627";
constexpr std::string_view second_half =
    "3141592653589793238462643383279502884197169399375105820974944592";

struct ciphered_io {
    const bdev_channel* channel;
    crypto::xts_cipher* cipher;  // null: the bdev's affair
    bool writes;
    std::uint64_t n;
};

task<result<>> cipher_often(ciphered_io io, block* buffers) {
    for (std::uint64_t i = 0; i < io.n; ++i) {
        std::byte* const plain = buffers[0].data();
        std::byte* const other = buffers[1].data();
        result<> done;
        if (io.writes) {
            if (io.cipher != nullptr && !io.cipher->encrypt(i, plain, other, block_bytes))
                co_return fail(EIO);
            const const_iov_view from(io.cipher != nullptr ? other : plain, block_bytes);
            done = co_await io.channel->write(lba(i), from);
        } else {
            const iov_view into(plain, block_bytes);
            done = co_await io.channel->read(lba(i), into);
            if (io.cipher != nullptr && !io.cipher->decrypt(i, plain, plain, block_bytes))
                co_return fail(EIO);
        }
        if (!done) co_return done;
    }
    co_return result<>();
}

task<result<>> cipher_all(ciphered_io io, bdev_registry* registry) {
    outcome<std::string> name = co_await create_from_uri(*registry, "null:///n0?size=1TiB");
    if (!name) co_return fail(name.error().code);
    if (io.cipher == nullptr) {
        crypto_options o;
        o.name = "c0";
        o.base_bdev_name = *name;
        o.cipher = "AES_XTS";
        o.key = secret_text(first_half);
        o.key2 = secret_text(second_half);
        name = co_await crypto_module::of(*registry).create(std::move(o));
        if (!name) co_return fail(name.error().code);
    }
    outcome<bdev_desc> descriptor = registry->open(*name, access::write);
    if (!descriptor) co_return fail(descriptor.error().code);
    outcome<bdev_channel> channel = descriptor->open_channel();
    if (!channel) co_return fail(channel.error().code);
    io.channel = &*channel;
    const auto buffers = std::make_unique<block[]>(2 * crowd);
    scope workers;
    for (unsigned i = 0; i < crowd; ++i) workers.spawn(cipher_often(io, &buffers[2 * i]));
    result<> joined = co_await workers.join();
    co_return joined;
}

task<result<>> run_ciphered(ciphered_io io, runtime* rt) {
    bdev_registry registry(*rt);
    result<> done = co_await cipher_all(io, &registry);
    co_await registry.remove_all();
    co_return done;
}

template <bool Writes, bool ByBdev>
void ciphered(runtime& rt, std::uint64_t n) {
    const auto key = crypto::key::parse("k", first_half, second_half);
    NACRE_ASSERT(key.has_value());
    auto cipher = crypto::xts_cipher::make(**key);
    NACRE_ASSERT(cipher.has_value());
    const ciphered_io io{nullptr, ByBdev ? nullptr : &*cipher, Writes, n / crowd};
    const result<> done = rt.block_on(run_ciphered, io, &rt);
    NACRE_ASSERT(done.has_value());
}

void memcpy_4_kib(runtime&, std::uint64_t n) {
    const auto from = std::make_unique<block[]>(crowd);
    const auto to = std::make_unique<block[]>(crowd);
    std::size_t bytes = block_bytes;
    asm volatile("" : "+r"(bytes));  // known to the compiler, it would be copied in line
    for (std::uint64_t i = 0; i < n; ++i) {
        const std::uint64_t k = i % crowd;
        std::memcpy(&to[k], &from[k], bytes);
        asm volatile("" : : "r"(&to[k]) : "memory");
    }
}

constexpr primitive table[] = {
    {"null_read_awaited", 1, null_read_awaited},         {"memcpy_4_kib", 1, memcpy_4_kib},
    {"null_read_deciphered", 1, ciphered<false, false>}, {"crypto_read", 1, ciphered<false, true>},
    {"null_write_enciphered", 1, ciphered<true, false>}, {"crypto_write", 1, ciphered<true, true>},
};

}  // namespace

std::span<const primitive> io_primitives() noexcept { return table; }

}  // namespace nacre
