#!/usr/bin/env python3
# SPDX-License-Identifier: BSD-3-Clause
#
# A session that another project documents, as its user types it: an array made by the RPC methods
# of a module's author, through the plug-in generated for SPDK's rpc.py, and a load on it by ublk.
# Runs in the guest (tests/guest/run). NACRE_SPDK_SOURCE names a checkout of SPDK; without one
# the same steps are nacre's own client's.

import os
import shutil
import tempfile
import unittest

from guest import Daemon, main, result, run

# As ironspdk documents it for its example of a RAID1, without what builds and starts that. `sudo`
# is a function here: whoever runs this is root.
SESSION = r"""
set -ex
sudo() { env "$@"; }
cd $SPDK
sudo ./scripts/rpc.py bdev_malloc_create -b malloc0 64 512
sudo ./scripts/rpc.py bdev_malloc_create -b malloc1 64 512
sudo PYTHONPATH=$PLUGINS ./scripts/rpc.py \
    --plugin raid1 \
    rs_raid1_create --name my_ironspdk_raid1 -c malloc0,malloc1
sudo modprobe ublk_drv
sudo ./scripts/rpc.py ublk_create_target
sudo ./scripts/rpc.py ublk_start_disk my_ironspdk_raid1 1 -q $(nproc) -d 128
TIME=30
sudo fio --filename=/dev/ublkb1 --direct=1 --numjobs=$(nproc) \
    --rw=randrw --bs=4096 --iodepth=32 --ioengine=libaio \
    --time_based=1 --runtime=$TIME --name=raid1_test
sudo ./scripts/rpc.py ublk_stop_disk 1
sudo PYTHONPATH=$PLUGINS ./scripts/rpc.py \
    --plugin ironspdk rs_bdev_delete my_ironspdk_raid1
sudo ./scripts/rpc.py bdev_malloc_delete malloc1
sudo ./scripts/rpc.py bdev_malloc_delete malloc0
"""

# The same by nacre's own client, where SPDK's is not at hand.
CLIENT = r"""#!/bin/sh
case $1 in
--plugin) shift 2 ;;
esac
method=$1; shift
case $method in
bdev_malloc_create) set -- name=$2 num_blocks=$(($3 * 1048576 / $4)) block_size=$4 ;;
rs_raid1_create) set -- name=$2 children=$4 ;;
ublk_start_disk) set -- bdev_name=$1 ublk_id=$2 num_queues=$4 queue_depth=$6 ;;
ublk_stop_disk) set -- ublk_id=$1 ;;
rs_bdev_delete | bdev_malloc_delete) set -- name=$1 ;;
esac
exec "$NACRE_BINARY" rpc -s /var/tmp/spdk.sock $method "$@"
"""


class ironspdk(unittest.TestCase):
    """With examples/mirror, whose author registered the methods, on the socket of SPDK's name."""

    def setUp(self):
        self.scratch = tempfile.mkdtemp(prefix="session-")
        self.addCleanup(shutil.rmtree, self.scratch, True)
        run("mount", "-t", "tmpfs", "tmp", "/var/tmp")
        self.addCleanup(run, "umount", "/var/tmp")
        self.program = os.path.join(os.environ["NACRE_BUILD_DIR"], "example_mirror")

    def write(self, name, text):
        path = os.path.join(self.scratch, name)
        os.makedirs(os.path.dirname(path), exist_ok=True)
        with open(path, "w", encoding="utf-8") as out:
            out.write(text)
        os.chmod(path, 0o755)

    def carry_out(self, source):
        socket = "/var/tmp/spdk.sock"
        with Daemon("--cores", "0,1", "-r", socket, program=self.program) as daemon:
            plugin = run(self.program, "rpc", "-s", socket, "--rpc-py-plugin", "rs_",
                         stderr=None)
            self.assertIn("rs_raid1_create", plugin)
            for name in ("raid1", "ironspdk"):
                self.write(f"plugins/{name}.py", plugin)
            said = run("bash", "-c", SESSION, timeout=240, env={
                **os.environ, "SPDK": source, "PLUGINS": os.path.join(self.scratch, "plugins")})
            self.assertIn("my_ironspdk_raid1\n", said)
            self.assertRegex(said, r"write: IOPS=[1-9]")
            self.assertEqual(result(daemon.call("bdev_get_bdevs")), [])
            self.assertFalse(os.path.exists("/dev/ublkb1"))
            self.assertEqual(daemon.stop(), 0)

    @unittest.skipUnless(os.environ.get("NACRE_SPDK_SOURCE"),
                         "NACRE_SPDK_SOURCE does not name a checkout of SPDK")
    def test_runs_by_spdks_client_and_the_generated_plug_in(self):
        self.carry_out(os.environ["NACRE_SPDK_SOURCE"])

    @unittest.skipIf(os.environ.get("NACRE_SPDK_SOURCE"), "SPDK's own client runs it")
    def test_runs_by_nacres_client(self):
        self.write("spdk/scripts/rpc.py", CLIENT)
        self.carry_out(os.path.join(self.scratch, "spdk"))


if __name__ == "__main__":
    main()
