// SPDX-License-Identifier: BSD-3-Clause
//
// The tour's writer: qemu-io, which writes patterns over NBD, and the record of what it was told
// and of what was acknowledged to it.
//
// The load area is the end of the volume, in slots. A batch is a number of writes at once, each to
// a slot of its own, awaited and then flushed. So of one slot at most one write is ever in flight,
// and after the server died, every slot must hold what was last acknowledged, but for those of the
// batch that was in flight, which may hold old and new, sector by sector.
#pragma once

#include <cstdint>
#include <map>
#include <string>
#include <string_view>
#include <vector>

#include "nacre/core/error.hpp"
#include "nacre/core/random.hpp"

namespace nacre::cli {

struct load_area {
    static constexpr std::uint64_t slot_bytes = 32 << 10;
    std::uint64_t offset = 0;
    std::uint64_t slots = 0;
    [[nodiscard]] std::uint64_t bytes() const noexcept { return slots * slot_bytes; }
    [[nodiscard]] std::uint64_t offset_of(std::uint64_t slot) const noexcept {
        return offset + slot * slot_bytes;
    }
};

/// One run of the writer.
class load_run {
public:
    static constexpr std::uint64_t batch_writes = 16;

    /// `generation` differs from run to run, so that no slot is written twice with one pattern.
    load_run(const load_area& area, std::uint64_t batches, std::uint64_t generation);

    /// What qemu-io reads.
    [[nodiscard]] std::string script() const;
    /// What qemu-io printed. EPROTO if it acknowledges what it was not told to write.
    [[nodiscard]] outcome<> read_answers(std::string_view printed);

    [[nodiscard]] std::uint64_t planned() const noexcept { return writes_.size(); }
    [[nodiscard]] std::uint64_t acknowledged() const noexcept { return acknowledged_; }

    struct write {
        std::uint64_t slot;
        unsigned char pattern;
        bool acknowledged = false;
    };
    /// In the order in which they were issued.
    [[nodiscard]] const std::vector<write>& writes() const noexcept { return writes_; }
    /// Writes of the first batch that was not wholly acknowledged: the last that can have been
    /// issued. Empty if all was.
    [[nodiscard]] std::vector<write> in_flight() const;

private:
    load_area area_;
    std::vector<write> writes_;
    std::uint64_t acknowledged_ = 0;
};

/// The volume as it must be: a file of the same size.
class volume_model {
public:
    volume_model(std::string path, const load_area& area) : path_(std::move(path)), area_(area) {}
    [[nodiscard]] const std::string& path() const noexcept { return path_; }

    /// Puts what was acknowledged into the file.
    [[nodiscard]] outcome<> apply(const load_run& run) const;

    struct comparison {
        std::uint64_t bytes = 0;
        std::uint64_t in_flight_new = 0;  ///< sectors of writes in flight that did happen
        std::uint64_t in_flight_old = 0;  ///< and that did not
    };
    /// Holds another file against the model, after apply(): equal everywhere, but for writes in
    /// flight. Those are then taken over into the model. EILSEQ names the first byte that differs.
    [[nodiscard]] outcome<comparison> settle(const load_run& run, const std::string& seen) const;

private:
    [[nodiscard]] outcome<> take_over(const std::map<std::uint64_t, char>& sectors) const;
    std::string path_;
    load_area area_;
};

}  // namespace nacre::cli
