#!/usr/bin/env python3
# SPDX-License-Identifier: BSD-3-Clause
#
# NVMe namespaces of a real kernel as bdevs, and raw commands to them. Runs in the guest
# (tests/guest/run), which has a controller of QEMU's with three namespaces:
#
# guest: --nvme

import base64
import glob
import os
import struct
import sys
import unittest

from guest import Daemon, main, result, run, subprocess, sysfs, wait_until

sys.path.insert(0, os.path.dirname(os.path.abspath(__file__)))
from zoned_test import zoned_disk  # noqa: E402

TESTS = os.path.join(os.environ["NACRE_BUILD_DIR"], "nacre_module_nvme_tests")
NACRE = os.environ["NACRE_BINARY"]
BLOCK = 4096
BLOCKS = 16384
INVALID_PARAMS = -32602
INTERNAL_ERROR = -32603
IDENTIFY, WRITE, READ, DEALLOCATE = 0x06, 0x01, 0x02, 0x09
NAMESPACES = {}  # number: (/dev/ngXnY, /dev/nvmeXnY)


def find_namespaces():
    """By their numbers: names differ from boot to boot."""
    run("modprobe", "nvme")
    wait_until(lambda: len(glob.glob("/dev/ng*n*")) == 3 and len(glob.glob("/dev/nvme*n*")) == 3)
    for disk in glob.glob("/dev/nvme*n*"):
        NAMESPACES[int(sysfs(disk, "nsid"))] = (disk.replace("/dev/nvme", "/dev/ng"), disk)


def command(opcode, nsid=0, cdw10=0, cdw11=0, cdw12=0, cdw13=0):
    return base64.urlsafe_b64encode(
        struct.pack("<BBHI2I3Q6I", opcode, 0, 0, nsid, 0, 0, 0, 0, 0, cdw10, cdw11, cdw12, cdw13,
                    0, 0)).decode()


def status_of(answer):
    """(type, code) of a completion."""
    field = struct.unpack("<H", base64.urlsafe_b64decode(answer["cpl"])[14:])[0] >> 1
    return field >> 8 & 7, field & 0xff


class a_namespace(unittest.TestCase):
    def setUp(self):
        self.daemon = Daemon("--cores", "0,1")
        self.addCleanup(self.daemon.__exit__)

    def call(self, method, **params):
        return result(self.daemon.call(method, **params))

    def refused(self, method, **params):
        response = self.daemon.call(method, **params)
        self.assertIn("error", response)
        return response["error"]["code"], response["error"]["message"]

    def create(self, number, name="x"):
        self.assertEqual(self.call("bdev_xnvme_create", name=name, io_mechanism="io_uring_cmd",
                                   filename=NAMESPACES[number][0]), name)
        return self.call("bdev_get_bdevs", name=name)[0]

    def send(self, cmd, name="x", cmd_type="io", data_direction="c2h", **params):
        return self.call("bdev_nvme_send_cmd", name=name, cmd_type=cmd_type,
                         data_direction=data_direction, cmdbuf=cmd, **params)

    def test_becomes_a_bdev(self):
        shown = self.create(1)
        self.assertEqual((shown["block_size"], shown["num_blocks"]), (BLOCK, BLOCKS))
        self.assertEqual(shown["product_name"], "xNVMe bdev")
        types = shown["supported_io_types"]
        for kind in ("nvme_admin", "nvme_io", "read", "write", "flush", "unmap", "write_zeroes",
                     "compare"):
            self.assertTrue(types[kind], kind)
        self.assertFalse(types["nvme_io_md"])
        self.assertEqual(shown["driver_specific"]["nvme"]["serial_number"], "nacre")
        self.assertTrue(self.create(3, "with_metadata")["supported_io_types"]["nvme_io_md"])
        saved = self.call("framework_get_config", name="bdev")
        self.assertIn({"method": "bdev_xnvme_create",
                       "params": {"name": "x", "filename": NAMESPACES[1][0],
                                  "io_mechanism": "io_uring_cmd", "conserve_cpu": False}}, saved)
        code, message = self.refused("bdev_xnvme_create", name="y", io_mechanism="io_uring_cmd",
                                     filename=NAMESPACES[1][0])
        self.assertEqual(code, INTERNAL_ERROR)
        self.assertIn("in use", message)
        self.assertIs(self.call("bdev_xnvme_delete", name="x"), True)
        again = self.create(1)
        self.assertEqual(again["uuid"], shown["uuid"])

    def test_answers_raw_commands(self):
        self.create(1)
        answer = self.send(command(IDENTIFY, cdw10=1), cmd_type="admin", data_len=4096)
        self.assertEqual(sorted(answer), ["cpl", "data"])
        self.assertEqual(status_of(answer), (0, 0))
        self.assertEqual(base64.urlsafe_b64decode(answer["data"])[4:24].strip(), b"nacre")
        written = bytes(range(256)) * 32
        answer = self.send(command(WRITE, cdw10=5, cdw12=1), data_direction="h2c",
                           data=base64.urlsafe_b64encode(written).decode())
        self.assertEqual(status_of(answer), (0, 0))
        answer = self.send(command(READ, cdw10=5, cdw12=1), data_len=2 * BLOCK)
        self.assertEqual(base64.urlsafe_b64decode(answer["data"]), written)
        with open(NAMESPACES[1][1], "rb") as disk:  # as the kernel's block layer sees it
            disk.seek(5 * BLOCK)
            self.assertEqual(disk.read(2 * BLOCK), written)

    def test_says_why_a_command_failed(self):
        self.create(1)
        answer = self.send(command(0xff))
        self.assertEqual(status_of(answer), (0, 0x01))
        self.assertEqual(answer["status"],
                         "Invalid Command Opcode (NVMe status type 0h code 01h)")
        answer = self.send(command(READ, cdw10=BLOCKS), data_len=BLOCK)
        self.assertEqual(status_of(answer), (0, 0x80))
        self.assertIn("LBA Out of Range", answer["status"])
        answer = self.send(command(IDENTIFY, cdw10=0xff), cmd_type="admin", data_len=4096)
        self.assertEqual(status_of(answer), (0, 0x02))
        self.create(2, "zones")
        answer = self.send(command(WRITE, cdw10=7), "zones", data_direction="h2c",
                           data=base64.urlsafe_b64encode(bytes(BLOCK)).decode())
        self.assertEqual(status_of(answer), (1, 0xbc))
        self.assertIn("Zone Invalid Write", answer["status"])

    def test_takes_commands_through_passthru_alone(self):
        self.create(1)
        self.call("bdev_passthru_create", name="p", base_bdev_name="x")
        types = self.call("bdev_get_bdevs", name="p")[0]["supported_io_types"]
        self.assertTrue(types["nvme_admin"] and types["nvme_io"])
        self.assertEqual(status_of(self.send(command(READ), "p", data_len=BLOCK)), (0, 0))
        # The base is the passthru's; who reads may.
        self.assertEqual(status_of(self.send(command(READ), data_len=BLOCK)), (0, 0))
        code, message = self.refused("bdev_nvme_send_cmd", name="x", cmd_type="io",
                                     data_direction="h2c", cmdbuf=command(0x0d))
        self.assertEqual(code, INTERNAL_ERROR)
        self.assertIn("passthru", message)
        self.call("bdev_split_create", base_bdev="p", split_count=2)
        self.assertFalse(
            self.call("bdev_get_bdevs", name="pp0")[0]["supported_io_types"]["nvme_io"])
        code, message = self.refused("bdev_nvme_send_cmd", name="pp0", cmd_type="io",
                                     data_direction="c2h", cmdbuf=command(READ), data_len=BLOCK)
        self.assertEqual(code, INTERNAL_ERROR)
        self.assertIn("only NVMe devices", message)

    def test_refuses_what_is_no_command(self):
        self.create(1)
        good = {"name": "x", "cmd_type": "io", "data_direction": "c2h", "cmdbuf": command(READ)}
        for bad in ({"cmdbuf": "AAAA"}, {"cmdbuf": "?"}, {"name": "y"}, {"cmd_type": "other"},
                    {"data": "=", "data_direction": "h2c"}, {"data": "AAAA", "data_len": 4},
                    {"data_len": 2 ** 32 - 1}):
            code, message = self.refused("bdev_nvme_send_cmd", **{**good, **bad})
            self.assertEqual(code, INVALID_PARAMS, bad)
            self.assertTrue(message.startswith("Invalid argument"), message)

    def test_needs_permission(self):
        for path in ("/dev/nvme0n1", "/dev/null"):
            code, message = self.refused("bdev_xnvme_create", name="y",
                                         io_mechanism="io_uring_cmd", filename=path)
            self.assertEqual(code, INTERNAL_ERROR)
            self.assertIn("/dev/ngXnY", message)
        done = subprocess.run(
            ["setpriv", "--reuid=65534", "--clear-groups", NACRE, "perf", "--bdev",
             f"nvme+kernel://{NAMESPACES[1][0]}", "--number_ios", "1", "--runtime", "0"],
            capture_output=True, text=True, timeout=60, check=False, cwd="/tmp")
        self.assertEqual(done.returncode, 1, done.stderr)
        self.assertRegex(done.stderr, r"cannot open: Permission denied; start the daemon as root")

    def test_gives_back_what_perf_wrote(self):
        for size in ("4KiB", "512KiB"):  # the latter is more than a command takes
            run(NACRE, "perf", "--bdev", f"nvme+kernel://{NAMESPACES[1][0]}", "--rw", "randrw",
                "--bs", size, "--iodepth", "16", "--number_ios", "600", "--runtime", "0",
                "--size", "32MiB", "--verify", "crc32c")

    def test_does_what_a_bdev_does(self):
        run("blkdiscard", "-z", NAMESPACES[1][1])
        said = run(TESTS, "--gtest_filter=nvme_device.*",
                   env={**os.environ, "NACRE_NVME_DEVICE": NAMESPACES[1][0],
                        "NACRE_NVME_METADATA_DEVICE": NAMESPACES[3][0]}, timeout=200)
        self.assertIn("PASSED", said)
        self.assertNotIn("SKIPPED", said)


class a_zoned_namespace(zoned_disk, unittest.TestCase):
    """As the suite of zoned bdevs sees it, handed on by ublk."""

    def setUp(self):
        self.uri = "nvme+kernel://" + NAMESPACES[2][0]
        super().setUp()


del zoned_disk

if __name__ == "__main__":
    run("modprobe", "ublk_drv")
    find_namespaces()
    main()
