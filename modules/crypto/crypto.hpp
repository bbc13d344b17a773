// SPDX-License-Identifier: BSD-3-Clause
//
// crypto: a bdev over another one whose blocks are encrypted below it, by AES-XTS.
//
// Keys are objects with names. Their text is given once and never shown again: not by a method, not
// by information or configuration, not in a message. A saved configuration therefore names where a
// key comes from (a file), or that one is expected (README.md says how a restart gets its keys).
//
// A crypto bdev is remembered by its name: while its base is not there, or its key is only
// expected, it waits; it appears when both are there, and again when its base comes back, until
// bdev_crypto_delete.
#pragma once

#include <array>
#include <memory>
#include <optional>
#include <string>
#include <string_view>
#include <vector>

#include "nacre/bdev/registry.hpp"
#include "nacre/core/json_decode.hpp"
#include "nacre/core/secret.hpp"

namespace nacre {

namespace crypto {
class key;
}

enum class crypto_cipher : std::uint8_t { aes_cbc, aes_xts };
[[nodiscard]] constexpr auto json_names(crypto_cipher) {
    return std::array{json::enum_name<crypto_cipher>{"AES_CBC", crypto_cipher::aes_cbc},
                      json::enum_name<crypto_cipher>{"AES_XTS", crypto_cipher::aes_xts}};
}
enum class crypto_tweak_mode : std::uint8_t {
    simple_lba,
    join_neg_lba_with_lba,
    incr_512_full_lba,
    incr_512_upper_lba,
};
[[nodiscard]] constexpr auto json_names(crypto_tweak_mode) {
    using mode = crypto_tweak_mode;
    return std::array{json::enum_name<mode>{"SIMPLE_LBA", mode::simple_lba},
                      json::enum_name<mode>{"JOIN_NEG_LBA_WITH_LBA", mode::join_neg_lba_with_lba},
                      json::enum_name<mode>{"INCR_512_FULL_LBA", mode::incr_512_full_lba},
                      json::enum_name<mode>{"INCR_512_UPPER_LBA", mode::incr_512_upper_lba}};
}

/// Parameters of accel_crypto_key_create. Of the ciphers AES_XTS is there, of the tweak modes
/// SIMPLE_LBA, as in SPDK's software.
struct crypto_key_options {
    crypto_cipher cipher = crypto_cipher::aes_xts;
    secret_text key;
    std::optional<secret_text> key2;
    crypto_tweak_mode tweak_mode = crypto_tweak_mode::simple_lba;
    std::string name;

    [[nodiscard]] static std::span<const json::field> fields();
};

/// Parameters of accel_crypto_key_load, which SPDK does not have.
struct crypto_key_file {
    std::string name;
    std::string file;

    [[nodiscard]] static std::span<const json::field> fields();
};

/// Parameters of bdev_crypto_create.
struct crypto_options {
    std::string base_bdev_name;
    std::string name;
    std::optional<std::string> crypto_pmd;  ///< ignored
    std::optional<secret_text> key;
    std::optional<std::string> cipher;
    std::optional<secret_text> key2;
    std::optional<std::string> key_name;

    [[nodiscard]] static std::span<const json::field> fields();
};

/// The keys and the crypto bdevs of a registry. Home thread.
class crypto_module final : public bdev_registry::examiner {
public:
    explicit crypto_module(bdev_registry& registry) noexcept : registry_(registry) {}
    [[nodiscard]] static crypto_module& of(bdev_registry& registry) {
        return registry.examiner_of<crypto_module>();
    }

    // Keys. What waits for one is made before these return.
    /// EEXIST; EINVAL: no such cipher, or a bad key.
    [[nodiscard]] task<outcome<>> create_key(crypto_key_options options);
    /// The same from a file or a descriptor (/dev/fd/3).
    [[nodiscard]] task<outcome<>> load_key(crypto_key_file from);
    /// Makes the name known to a configuration whose key is given later.
    [[nodiscard]] outcome<> expect_key(std::string name);
    /// ENOKEY; EBUSY names a bdev that uses it.
    [[nodiscard]] outcome<> destroy_key(std::string_view name);
    /// Names and kinds; of one key, or of all. ENOKEY.
    [[nodiscard]] outcome<json::array> describe_keys(std::optional<std::string> name) const;

    // Bdevs.
    /// Its name, also of one that waits. EEXIST; ENOKEY: no key of this name; EKEYREJECTED: a key
    /// among the parameters that cannot be taken.
    [[nodiscard]] task<outcome<std::string>> create(crypto_options options);
    /// ENODEV if `name` is no crypto bdev, present or waiting.
    [[nodiscard]] task<outcome<>> destroy(std::string name);
    task<void> examine(bdev& device) override;

    // What save_config writes: first that keys are loaded or expected, and after what makes the
    // present bdevs, the crypto bdevs that wait.
    [[nodiscard]] json::array key_configuration() const;
    [[nodiscard]] json::array waiting_configuration() const;

private:
    struct key_slot {
        std::string name;
        std::shared_ptr<const crypto::key> material;  // null: expected
        std::string file;                             // empty: given by a request
    };
    struct entry {
        std::string name;
        std::string base;
        std::string key;
        bool owns_key = false;
        [[nodiscard]] json::value configuration() const;
    };
    [[nodiscard]] std::vector<key_slot>::iterator find_key(std::string_view name) noexcept;
    [[nodiscard]] std::vector<entry>::iterator find(std::string_view name) noexcept;
    [[nodiscard]] outcome<> name_is_free(const std::string& name);
    [[nodiscard]] outcome<> key_may_be_made(std::string_view name);
    [[nodiscard]] task<void> add_key(key_slot slot);
    [[nodiscard]] task<outcome<std::string>> key_for(crypto_options& options, bool& owns_key);
    [[nodiscard]] task<outcome<std::string>> add(entry added, bool may_wait);
    [[nodiscard]] task<outcome<>> assemble(entry of);
    /// Makes it if it can be made; a failure is logged.
    [[nodiscard]] task<void> try_to_assemble(entry of);
    void forget(std::string_view name);
    friend task<outcome<std::string>> create_crypto_from_uri(bdev_registry& registry, uri address);

    bdev_registry& registry_;
    std::vector<key_slot> keys_;
    std::vector<entry> entries_;
};

/// crypto:///NAME?base=BASE&key=KEYNAME, or &key_file=PATH, for a key of its own.
[[nodiscard]] task<outcome<std::string>> create_crypto_from_uri(bdev_registry& registry,
                                                                uri address);

}  // namespace nacre
