// SPDX-License-Identifier: BSD-3-Clause
#include "numa_node.hpp"

#include <gtest/gtest.h>

#include <filesystem>
#include <fstream>

namespace nacre {
namespace {

namespace fs = std::filesystem;

class fake_sysfs {
public:
    fake_sysfs() : root_(fs::path(testing::TempDir()) / "nacre-sysfs") { fs::remove_all(root_); }
    ~fake_sysfs() { fs::remove_all(root_); }
    [[nodiscard]] std::string path() const { return root_.string(); }
    void write(const std::string& name, const std::string& text) {
        fs::create_directories((root_ / name).parent_path());
        std::ofstream(root_ / name) << text;
    }
    void link(const std::string& name, const std::string& to) {
        fs::create_directories((root_ / name).parent_path());
        fs::create_directory_symlink(to, root_ / name);
    }

private:
    fs::path root_;
};

TEST(numa_node, is_that_of_the_device_behind_the_disk_or_the_partition) {
    fake_sysfs sys;
    // An NVMe disk: its device is the controller, whose device is on the bus.
    sys.write("devices/pci0/0000:01/numa_node", "1\n");
    sys.write("devices/pci0/0000:01/nvme/nvme0/model", "x\n");
    sys.write("devices/pci0/0000:01/nvme/nvme0/nvme0n1/size", "8\n");
    sys.write("devices/pci0/0000:01/nvme/nvme0/nvme0n1/nvme0n1p1/size", "4\n");
    sys.link("devices/pci0/0000:01/nvme/nvme0/device", "../..");
    sys.link("devices/pci0/0000:01/nvme/nvme0/nvme0n1/device", "..");
    sys.link("dev/block/259:0", "../../devices/pci0/0000:01/nvme/nvme0/nvme0n1");
    sys.link("dev/block/259:1", "../../devices/pci0/0000:01/nvme/nvme0/nvme0n1/nvme0n1p1");
    EXPECT_EQ(numa_node_of(sys.path(), 259, 0), 1);
    EXPECT_EQ(numa_node_of(sys.path(), 259, 1), 1);
    // A virtio disk, whose device says it itself; one on a machine without nodes; none at all.
    sys.write("devices/virtio0/numa_node", "0\n");
    sys.write("devices/virtio0/block/vda/size", "8\n");
    sys.link("devices/virtio0/block/vda/device", "../..");
    sys.link("dev/block/254:0", "../../devices/virtio0/block/vda");
    EXPECT_EQ(numa_node_of(sys.path(), 254, 0), 0);
    sys.write("devices/virtio0/numa_node", "-1\n");
    EXPECT_EQ(numa_node_of(sys.path(), 254, 0), -1);
    EXPECT_EQ(numa_node_of(sys.path(), 7, 0), -1);
}

}  // namespace
}  // namespace nacre
