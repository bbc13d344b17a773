// SPDX-License-Identifier: BSD-3-Clause
//
// What hosts of NVMe devices need of the specifications: opcodes, commands, and the data structures
// that devices answer with. Clauses are those of the NVM Express Base Specification 2.0 ("Base"),
// the NVM Command Set Specification 1.0 ("NVM") and the Zoned Namespace Command Set Specification
// 1.1 ("ZNS"). What a device sends is checked here, once.
#pragma once

#include <array>
#include <cstddef>
#include <cstdint>
#include <optional>
#include <span>
#include <string>

#include "nacre/bdev/nvme_command.hpp"
#include "nacre/bdev/zone.hpp"
#include "nacre/core/uuid.hpp"

namespace nacre::nvme {

/// Admin commands: Base figure 138.
namespace admin {
inline constexpr std::uint8_t identify = 0x06;
}  // namespace admin

/// I/O commands: NVM figure 17, ZNS figure 19.
namespace io {
inline constexpr std::uint8_t flush = 0x00;
inline constexpr std::uint8_t write = 0x01;
inline constexpr std::uint8_t read = 0x02;
inline constexpr std::uint8_t compare = 0x05;
inline constexpr std::uint8_t write_zeroes = 0x08;
inline constexpr std::uint8_t dataset_management = 0x09;
inline constexpr std::uint8_t zone_management_send = 0x79;
inline constexpr std::uint8_t zone_management_receive = 0x7a;
inline constexpr std::uint8_t zone_append = 0x7d;
}  // namespace io

inline constexpr std::uint32_t force_unit_access = 1U << 30;  ///< CDW12
inline constexpr std::uint64_t transfer_blocks_max = 65536;   ///< NLB is 0's based, 16 bits

/// A command on `blocks` blocks, at most transfer_blocks_max, from `first` on.
[[nodiscard]] nvme_command on_blocks(std::uint8_t opcode, std::uint32_t nsid, std::uint64_t first,
                                     std::uint64_t blocks) noexcept;

/// NVM figure 39: one range of Dataset Management.
struct dataset_range {
    std::uint32_t attributes = 0;
    std::uint32_t blocks = 0;
    std::uint64_t first = 0;
};
static_assert(sizeof(dataset_range) == 16);
/// With one range.
[[nodiscard]] nvme_command deallocate(std::uint32_t nsid) noexcept;

// --- Identify: Base 5.17 -----------------------------------------------------------------------

inline constexpr std::size_t identify_bytes = 4096;

/// CNS values, Base figure 274.
enum class identify_what : std::uint8_t {
    name_space = 0x00,
    controller = 0x01,
    descriptors = 0x03,
    name_space_of_set = 0x05,
    controller_of_set = 0x06,
};
/// CSI values, Base figure 275.
enum class command_set : std::uint8_t { nvm = 0x00, key_value = 0x01, zoned = 0x02 };

[[nodiscard]] nvme_command identify(identify_what what, std::uint32_t nsid = 0,
                                    command_set set = command_set::nvm) noexcept;

using identify_page = std::span<const std::byte, identify_bytes>;

/// Of the Identify Controller data structure, Base figure 276.
struct controller_facts {
    std::string serial;
    std::string model;
    std::string firmware;
    std::uint64_t transfer_bytes_max = 0;  ///< 0: no limit. Of memory pages of 4 KiB.
    bool compares = false;
    bool deallocates = false;
    bool writes_zeroes = false;
    bool has_write_cache = false;
};
[[nodiscard]] controller_facts parse_controller(identify_page page);

/// Of the Identify Namespace data structure, NVM figure 97.
struct namespace_facts {
    std::uint64_t blocks = 0;
    std::uint64_t block_size = 0;     ///< of data; 0: none that it can have
    std::uint32_t metadata_size = 0;  ///< a block
    bool metadata_interleaved = false;
    std::uint8_t protection = 0;             ///< type, 0: none
    unsigned format = 0;                     ///< index of its LBA format
    std::array<std::byte, 16> guid{};        ///< NGUID; all zero: none
    std::array<std::byte, 8> extended_id{};  ///< EUI64; likewise
};
[[nodiscard]] namespace_facts parse_namespace(identify_page page) noexcept;

/// Of the list of Namespace Identification Descriptors, Base figure 277.
struct namespace_identity {
    std::optional<uuid> id;
    command_set set = command_set::nvm;
};
[[nodiscard]] namespace_identity parse_identity(identify_page page) noexcept;

/// Of the Zoned Namespace command set's own structures, ZNS figures 48 and 50.
struct zoned_facts {
    std::uint64_t zone_size = 0;
    std::uint32_t open_zones_max = 0;  ///< 0: no limit
    std::uint32_t active_zones_max = 0;
};
/// `format` of namespace_facts.
[[nodiscard]] zoned_facts parse_zoned_namespace(identify_page page, unsigned format) noexcept;
/// Bytes that Zone Append takes at most; 0: what any transfer may have.
[[nodiscard]] std::uint64_t parse_append_bytes_max(identify_page page) noexcept;

// --- Zones: ZNS 3.4 ----------------------------------------------------------------------------

inline constexpr std::size_t zone_report_head_bytes = 64;
inline constexpr std::size_t zone_descriptor_bytes = 64;

/// Zone Management Receive, Report Zones: as many of all zones from `first` on as fit.
[[nodiscard]] nvme_command report_zones(std::uint32_t nsid, std::uint64_t first,
                                        std::size_t bytes) noexcept;
[[nodiscard]] nvme_command manage_zone(std::uint32_t nsid, std::uint64_t first,
                                       zone_command what) noexcept;
/// Fills `into`; returns how many zones the report has, at most that many.
[[nodiscard]] std::size_t parse_zone_report(std::span<const std::byte> report,
                                            std::span<zone_descriptor> into) noexcept;

}  // namespace nacre::nvme
