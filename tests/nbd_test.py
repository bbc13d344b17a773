#!/usr/bin/env python3
# SPDX-License-Identifier: BSD-3-Clause
#
# The NBD server with the clients that Debian has: nbdinfo, nbdcopy, qemu-io, qemu-img, fio, libnbd.
# It is driven through examples/nbd_server.cpp, so that nothing but the server is under test.

import json
import os
import random
import signal
import socket
import subprocess
import sys
import tempfile
import time
import unittest

SERVER = os.path.join(os.environ.get("NACRE_BUILD_DIR", "build/release"), "example_nbd_server")
SIZE = 64 << 20
PATIENCE_S = 60


def run(*command, expect=0, **options):
    done = subprocess.run(command, capture_output=True, text=True, check=False, timeout=PATIENCE_S,
                          **options)
    if expect is not None and done.returncode != expect:
        raise AssertionError(f"{' '.join(command)}: {done.returncode}\n{done.stdout}{done.stderr}")
    return done.stdout


class server:
    """Serves `device` at a socket in `folder`, or at 127.0.0.1."""

    def __init__(self, folder, device, *options, tcp=False):
        self.path = os.path.join(folder, "nbd.sock")
        place = "127.0.0.1:0" if tcp else self.path
        self.errors = open(os.path.join(folder, "errors.txt"), "w+", encoding="utf-8")
        self.process = subprocess.Popen([SERVER, device, place, *options], stdout=subprocess.PIPE,
                                        stderr=self.errors, text=True)
        line = self.process.stdout.readline()
        if not line:
            raise AssertionError(f"the server did not start: {self.said()}")
        self.uri = line.split(",")[0]

    def said(self):
        self.errors.seek(0)
        return self.errors.read()

    def descriptors(self):
        return len(os.listdir(f"/proc/{self.process.pid}/fd"))

    def connect(self):
        client = socket.socket(socket.AF_UNIX)
        client.settimeout(PATIENCE_S)
        client.connect(self.path)
        return client

    def stop(self):
        self.process.send_signal(signal.SIGTERM)
        code = self.process.wait(PATIENCE_S)
        self.process.stdout.close()
        self.errors.close()
        return code


class nbd(unittest.TestCase):
    def setUp(self):
        self.scratch = tempfile.TemporaryDirectory()
        self.folder = self.scratch.name
        self.servers = []

    def tearDown(self):
        for started in self.servers:
            self.assertEqual(started.stop(), 0)
        self.scratch.cleanup()

    def serve(self, device=None, *options, tcp=False):
        if device is None:
            self.image = os.path.join(self.folder, "disk.img")
            device = f"file://{self.image}?block_size=4096&size={SIZE}&name=disk"
        started = server(self.folder, device, *options, tcp=tcp)
        self.servers.append(started)
        return started

    def test_nbdinfo_sees_what_the_export_can(self):
        at = self.serve()
        told = json.loads(run("nbdinfo", "--json", at.uri))["exports"][0]
        self.assertEqual(told["export-name"], "disk")
        self.assertEqual(told["export-size"], SIZE)
        for ability in ("can_df", "can_flush", "can_fua", "can_multi_conn", "can_trim", "can_zero",
                        "can_fast_zero"):
            self.assertTrue(told[ability], ability)
        self.assertFalse(told["is_read_only"])
        self.assertEqual(told["block_size_preferred"], 4096)
        self.assertEqual(told["contexts"], ["base:allocation"])
        self.assertIn('"disk"', run("nbdinfo", "--list", "--json", at.uri))

    def test_block_status_shows_holes(self):
        at = self.serve()
        run("qemu-io", "-f", "raw", "-c", "write -P 5 1M 64k", at.uri)
        extents = json.loads(run("nbdinfo", "--map", "--json", at.uri))
        self.assertEqual([(e["offset"], e["length"], e["type"]) for e in extents],
                         [(0, 1 << 20, 3), (1 << 20, 65536, 0),
                          ((1 << 20) + 65536, SIZE - (1 << 20) - 65536, 3)])

    def test_qemu_io_writes_parts_of_blocks(self):
        at = self.serve()
        commands = ["write -P 0x11 0 64k", "write -P 0x22 100 300", "write -P 0x33 4000 200",
                    "write -z 513 9000", "write -f -P 0x44 20000 1", "read -P 0x11 0 100",
                    "read -P 0x22 100 300", "read -P 0x11 400 113", "read -P 0 513 9000",
                    "read -P 0x11 9513 10487", "read -P 0x44 20000 1", "read -P 0x11 20001 40000",
                    "flush", "discard 64k 1M", "read -P 0 64k 1M"]
        said = run("qemu-io", "-f", "raw", *[f"-c{c}" for c in commands], at.uri)
        self.assertNotIn("failed", said)
        self.assertNotIn("error", said)

    def test_copies_come_back_byte_for_byte(self):
        at = self.serve()
        source, back = (os.path.join(self.folder, name) for name in ("source", "back"))
        dice = random.Random(1)
        with open(source, "wb") as out:
            out.truncate(SIZE)
            for _ in range(40):
                out.seek(dice.randrange(SIZE - (1 << 20)))
                out.write(dice.randbytes(dice.randrange(1 << 20)))
        run("nbdcopy", source, at.uri)
        run("nbdcopy", at.uri, back)
        run("cmp", source, back)
        run("nbdcopy", "--synchronous", "--request-size=32768", at.uri, back)
        run("cmp", source, back)
        run("qemu-img", "compare", "-f", "raw", "-F", "raw", source, at.uri)
        run("qemu-img", "convert", "-n", "-f", "raw", "-O", "raw", back, at.uri)
        run("qemu-img", "compare", "-f", "raw", "-F", "raw", at.uri, source)

    def test_fio_verifies_unaligned_random_writes(self):
        at = self.serve()
        run("fio", "--name=v", "--ioengine=nbd", f"--uri={at.uri}", "--rw=randwrite",
            "--bsrange=512-64k", "--bs_unaligned=1", "--size=48m", "--iodepth=32",
            "--verify=crc32c", "--do_verify=1", "--randseed=3")

    def test_several_connections_see_each_others_writes(self):
        try:
            import nbd as libnbd
        except ImportError:
            self.skipTest("python3-libnbd is not installed")
        at = self.serve()
        clients = [libnbd.NBD() for _ in range(4)]
        for client in clients:
            client.connect_uri(at.uri)
        self.assertTrue(clients[0].can_multi_conn())
        for i, client in enumerate(clients):
            client.pwrite(bytes([i + 1]) * 1000, 512 + i * 1000)
        clients[0].flush()
        for client in clients:
            data = client.pread(4000, 512)
            self.assertEqual(data, b"".join(bytes([i + 1]) * 1000 for i in range(4)))
        clients[1].pwrite(b"f" * 4096, 8192, libnbd.CMD_FLAG_FUA)
        with self.assertRaises(libnbd.Error):
            clients[2].set_strict_mode(0)
            clients[2].pread(1, SIZE)
        for client in clients:
            client.shutdown()

    def test_serves_tcp(self):
        at = self.serve(tcp=True)
        self.assertTrue(at.uri.startswith("nbd://127.0.0.1:"))
        run("qemu-io", "-f", "raw", "-c", "write -P 7 0 1M", "-c", "read -P 7 0 1M", at.uri)

    def test_refuses_writes_of_a_read_only_export(self):
        with open(os.path.join(self.folder, "ro.img"), "wb") as out:
            out.truncate(SIZE)
        at = self.serve(f"file://{self.folder}/ro.img?readonly=true&name=ro", "readonly")
        self.assertTrue(json.loads(run("nbdinfo", "--json", at.uri))["exports"][0]["is_read_only"])
        run("qemu-io", "-r", "-f", "raw", "-c", "read -P 0 0 1M", at.uri)
        run("qemu-io", "-f", "raw", "-c", "write 0 4k", at.uri, expect=1)

    def test_garbage_ends_only_its_own_connection(self):
        at = self.serve()
        run("nbdinfo", at.uri)
        before = at.descriptors()
        dice = random.Random(2)
        greeting = b"\0\0\0\3"
        go = b"IHAVEOPT" + (7).to_bytes(4, "big") + (6).to_bytes(4, "big") + bytes(6)
        for round_ in range(60):
            with at.connect() as client:
                client.recv(18)
                start = [b"", greeting, greeting + go][round_ % 3]
                try:
                    client.sendall(start + dice.randbytes(dice.randrange(1, 5000)))
                    client.shutdown(socket.SHUT_WR)
                    while client.recv(65536):
                        pass
                except (BrokenPipeError, ConnectionResetError):
                    pass
        run("nbdinfo", at.uri)
        self.assertEqual(self.settled(at, before), before)
        for line in at.said().splitlines():
            self.assertIn("disconnected", line)

    def settled(self, at, wanted):
        deadline = time.monotonic() + PATIENCE_S
        while at.descriptors() != wanted and time.monotonic() < deadline:
            time.sleep(0.01)
        return at.descriptors()

    def test_clients_that_are_killed_leave_nothing_behind(self):
        at = self.serve()
        run("nbdinfo", at.uri)
        before = at.descriptors()
        for mode in ("randread", "randwrite", "randrw"):
            client = subprocess.Popen(
                ["fio", "--name=v", "--ioengine=nbd", f"--uri={at.uri}", f"--rw={mode}", "--bs=64k",
                 "--size=32m", "--iodepth=32", "--time_based", "--runtime=60", "--thread"],
                stdout=subprocess.DEVNULL, stderr=subprocess.DEVNULL)
            while at.descriptors() == before and client.poll() is None:
                time.sleep(0.01)
            time.sleep(0.2)
            client.kill()
            client.wait()
        self.assertEqual(self.settled(at, before), before)
        run("qemu-io", "-f", "raw", "-c", "write -P 9 0 1M", "-c", "read -P 9 0 1M", at.uri)

    def test_stops_in_good_order_under_load(self):
        at = server(self.folder, f"file://{self.folder}/d.img?size={SIZE}")
        client = subprocess.Popen(
            ["fio", "--name=v", "--ioengine=nbd", f"--uri={at.uri}", "--rw=randrw", "--bs=16k",
             "--size=32m", "--iodepth=32", "--time_based", "--runtime=60"],
            stdout=subprocess.DEVNULL, stderr=subprocess.DEVNULL)
        idle = at.descriptors()
        while at.descriptors() == idle and client.poll() is None:
            time.sleep(0.01)
        self.assertEqual(at.stop(), 0)
        client.wait(PATIENCE_S)
        self.assertFalse(os.path.exists(at.path))


if __name__ == "__main__":
    if not os.path.exists(SERVER):
        print(f"{SERVER} has not been built")
        sys.exit(1)
    unittest.main(verbosity=2)
