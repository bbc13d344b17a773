// SPDX-License-Identifier: BSD-3-Clause
//
// What loading libnacre_rocksdb.so does: RocksDB's registry learns of "nacre://". Nothing else of
// nacre runs from a constructor; a program that is not written for nacre gives no other occasion.
#include "mount.hpp"
#include "registration.hpp"

namespace {

[[gnu::constructor]] void loaded() {
    nacre::rocks::register_addresses(nacre::rocks::on_refusal::stand_in);
}

/// After the destructors of the program, which close what it closes.
[[gnu::destructor]] void ends() { nacre::rocks::sync_mounted(); }

}  // namespace
