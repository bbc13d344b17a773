#!/usr/bin/env python3
# SPDX-License-Identifier: BSD-3-Clause
#
# Bad input of every kind gives one clear error, loses nothing, and leaves the daemon serving.

import json
import os
import resource
import signal
import socket
import struct
import tempfile
import unittest

import nbd
from daemon import Client, Daemon, nacre, wait_until

MIB = 1 << 20


def create_file(d, name, path, **params):
    return d.call("bdev_aio_create", name=name, filename=path, block_size=4096, **params)


def export(d, name, place="nbd"):
    path = os.path.join(d.folder, place)
    answer = d.call("nbd_export_create", bdev_name=name, unix=path)
    assert "result" in answer, answer
    return answer["result"]


def connect(uri):
    handle = nbd.NBD()
    handle.connect_uri(uri)
    return handle


class command_line(unittest.TestCase):
    def refused(self, told, *arguments, code=2):
        done = nacre("serve", *arguments)
        self.assertEqual(done.returncode, code, (arguments, done.stdout, done.stderr))
        self.assertIn(told, done.stderr)
        self.assertEqual(done.stdout, "")
        self.assertLess(done.stderr.count("\n"), 5, done.stderr)

    def test_wrong_options_are_usage_errors(self):
        self.refused("--no-such-option", "--no-such-option")
        self.refused("many", "--mem-size", "many")
        self.refused("loud", "--log-level", "loud")
        self.refused("sometimes", "--mode", "sometimes")
        self.refused("0-", "--cores", "0-")
        self.refused("--main-core", "--cores", "0", "--main-core", "1")
        self.refused("--config", "--quickstart", "--config", "/dev/null")
        self.refused("--config-text", "--config", "/dev/null", "--config-text", "{}")

    def test_counts_and_seeds_are_whole_numbers_from_0(self):
        perf = ("perf", "--bdev", "null:///n?size=1MiB")
        for command, option in ((perf, "--number_ios"), (perf, "--randseed"), (perf, "--iodepth"),
                                (perf, "--numjobs"), (perf, "--rwmixread"),
                                (("sim", "file"), "--seed"), (("sim", "file"), "--seeds"),
                                (("sim", "file"), "--steps")):
            for value in ("-1", "1.5", "ten", "99999999999999999999", ""):
                done = nacre(*command, f"{option}={value}")
                self.assertEqual(done.returncode, 2, (option, value, done.stdout))
                self.assertIn(option, done.stderr)
                self.assertLess(done.stderr.count("\n"), 3, done.stderr)
                self.assertLess(len(done.stderr), 200, done.stderr)
                if value == "-1":
                    self.assertIn('"-1" is no whole number from ', done.stderr)
        done = nacre("rpc", "--timeout", "-1", "bdev_get_bdevs")
        self.assertEqual(done.returncode, 2)
        self.assertIn("--timeout", done.stderr)

    def test_what_cannot_be_had_fails(self):
        self.refused("no such flag", "--log-flag", "no_such_flag", code=1)
        self.refused("1023", "--cores", "1023", code=1)
        self.refused("/nonexistent/c.json", "--config", "/nonexistent/c.json", code=1)
        self.refused("/nonexistent/sub/rpc.sock", "-r", "/nonexistent/sub/rpc.sock", code=1)
        self.refused("choose a shorter one", "-r", "/tmp/" + "x" * 120, code=1)
        with tempfile.NamedTemporaryFile() as file:
            self.refused("directory", "--data", file.name + "/data", code=1)

    def test_a_bad_configuration_names_file_place_and_cause(self):
        with tempfile.TemporaryDirectory() as folder:
            def check(text, *told):
                path = folder + "/bad.json"
                with open(path, "w", encoding="utf-8") as out:
                    out.write(text)
                done = nacre("serve", "-r", folder + "/rpc.sock", "--config", path)
                self.assertEqual(done.returncode, 1)
                self.assertIn(path, done.stderr)
                for part in told:
                    self.assertIn(part, done.stderr)
                self.assertEqual(os.listdir(folder), ["bad.json"])
            check("{", "line 1")
            check("[]", "subsystems")
            check('{"subsystems": [{"subsystem": "bdev", "config": [{"methd": "x"}]}]}', '"method"')
            entry = '{"subsystems": [{"subsystem": "bdev", "config": [%s]}]}'
            check(entry % '{"method": "no_such_method"}', "entry 0", "no_such_method")
            check(entry % '{"method": "bdev_null_create", "params": {"name": "n", '
                          '"num_blocks": "8", "block_size": 512}}', "num_blocks", '"8"')

    @unittest.skipIf(os.geteuid() == 0 and not os.path.exists("/usr/bin/setpriv"),
                     "root reads everything")
    def test_an_unreadable_file_is_named(self):
        with tempfile.TemporaryDirectory() as folder:
            os.chmod(folder, 0o777)
            secret = folder + "/secret.json"
            with open(secret, "w", encoding="utf-8") as out:
                out.write("{}")
            os.chmod(secret, 0)
            as_nobody = {"user": 65534, "group": 65534} if os.geteuid() == 0 else {}
            done = nacre("serve", "-r", folder + "/rpc.sock", "--config", secret, **as_nobody)
            self.assertEqual(done.returncode, 1)
            self.assertIn(secret, done.stderr)
            self.assertIn("Permission denied", done.stderr)


class sockets(unittest.TestCase):
    def test_one_in_use_is_refused_and_a_stale_one_taken(self):
        with Daemon() as d:
            done = nacre("serve", "-r", d.socket)
            self.assertEqual(done.returncode, 1)
            self.assertIn("in use", done.stderr)
            self.assertIn("result", d.call("spdk_get_version"))
            os.kill(d.pid, signal.SIGKILL)
            d.process.wait()
            self.assertTrue(os.path.exists(d.socket))
            with Daemon("-r", d.socket) as again:
                self.assertIn("result", again.call("spdk_get_version"))

    def test_an_export_in_use_is_refused(self):
        with Daemon() as d, Daemon() as other:
            for each in (d, other):
                each.call("bdev_null_create", name="n0", num_blocks=8, block_size=512)
            export(d, "n0")
            path = os.path.join(d.folder, "nbd")
            answer = other.call("nbd_export_create", bdev_name="n0", unix=path)
            self.assertIn("in use", answer["error"]["message"])
            self.assertEqual(connect(d.call("nbd_get_exports")["result"][0]["uri"]).get_size(),
                             4096)


class requests(unittest.TestCase):
    def test_garbage_closes_its_own_connection_only(self):
        with Daemon() as d, Client(d.socket) as bystander:
            for garbage in (b"garbage\n", b'{"method": ', b"\xff\xfe\x00", b"}" * 100,
                            b'{"a": 1, "a": 2}', b'{"method": "spdk_get_version" "id": 1}',
                            b"[" * 5000, b'{"method": "\xc3\x28"}'):
                with Client(d.socket) as c:
                    c.send(garbage)
                    c.socket.shutdown(socket.SHUT_WR)
                    answer = c.receive()
                    if answer is not None:
                        self.assertIn(answer["error"]["code"], (-32700, -32600), garbage)
                        self.assertIsNone(answer["id"])
                        self.assertIsNone(c.receive())
            self.assertIn("result", bystander.call("spdk_get_version"))
            self.assertEqual(d.stop(), 0)

    def test_an_oversized_request_is_refused(self):
        with Daemon() as d:
            with Client(d.socket) as c:
                try:
                    c.send(b'{"method": "spdk_get_version", "pad": "' + b"x" * (8 * MIB))
                except OSError:
                    pass  # closed while it was still being sent
                try:
                    answer = c.receive()
                except OSError:
                    answer = None
                if answer is not None:
                    self.assertEqual(answer["error"]["code"], -32700)
            self.assertIn("result", d.call("spdk_get_version"))
            # Sanitizers' shadows are in it.
            self.assertLess(d.resident_bytes(), 64 * MIB)

    def test_wrong_types_name_the_parameter(self):
        with Daemon() as d, Client(d.socket) as c:
            for params, told in (({"name": 7, "num_blocks": 8, "block_size": 512}, "name"),
                                 ({"name": "a", "num_blocks": -1, "block_size": 512}, "num_blocks"),
                                 ({"name": "a", "num_blocks": 8.5, "block_size": 512},
                                  "num_blocks"),
                                 ({"name": "a", "num_blocks": 8}, "block_size"),
                                 ({"name": "a", "num_blocks": 8, "block_size": 512, "z": 1}, "z"),
                                 ({"name": "a", "num_blocks": 8, "block_size": 513}, "513"),
                                 ({"name": None, "num_blocks": 8, "block_size": 512}, "name")):
                answer = c.call("bdev_null_create", **params)
                self.assertIn(told, answer["error"]["message"])
            self.assertEqual(c.call("bdev_get_bdevs")["result"], [])

    def test_clients_that_vanish_are_forgotten(self):
        with Daemon() as d, Client(d.socket) as bystander:
            self.assertIn("result", bystander.call("spdk_get_version"))  # it is accepted by now
            before = len(os.listdir(f"/proc/{d.pid}/fd"))
            for i in range(50):
                with Client(d.socket) as c:
                    c.request("bdev_get_bdevs", name=f"absent{i}", timeout=100)
                    c.send('{"method": "bdev_get')
                    # A reset rather than an end.
                    c.socket.setsockopt(socket.SOL_SOCKET, socket.SO_LINGER,
                                        struct.pack("ii", 1, 0))
            self.assertTrue(wait_until(
                lambda: len(os.listdir(f"/proc/{d.pid}/fd")) <= before))
            self.assertIn("result", bystander.call("spdk_get_version"))
            self.assertEqual(d.stop(), 0)

    def test_an_nbd_client_that_vanishes_in_a_write_hurts_nobody(self):
        with Daemon() as d:
            d.call("bdev_malloc_create", name="m0", num_blocks=16 * 256, block_size=4096)
            uri = export(d, "m0")
            steady = connect(uri)
            steady.pwrite(b"s" * 4096, 0)
            for _ in range(20):
                handle = connect(uri)
                for i in range(8):
                    handle.aio_pwrite(nbd.Buffer.from_bytearray(bytearray(MIB)), (1 + i) * MIB)
                del handle
            self.assertEqual(bytes(steady.pread(4096, 0)), b"s" * 4096)
            self.assertTrue(wait_until(
                lambda: d.call("nbd_get_exports")["result"][0]["connections"] == 1))
            steady.shutdown()
            self.assertEqual(d.stop(), 0)


class backing_files(unittest.TestCase):
    def test_unreadable_truncated_and_odd_ones_are_named(self):
        with Daemon() as d:
            path = os.path.join(d.folder, "disk.img")
            missing = create_file(d, "f0", path)
            self.assertEqual(missing["error"]["code"], -2)
            self.assertIn(path, missing["error"]["message"])
            folder = create_file(d, "f0", d.folder)
            self.assertIn(d.folder, folder["error"]["message"])
            with open(path, "wb") as out:
                out.truncate(MIB)
            short = create_file(d, "f0", path, size=2 * MIB)
            self.assertIn("truncated", short["error"]["message"])
            with open(path, "wb") as out:
                out.truncate(MIB + 100)
            odd = create_file(d, "f0", path)
            self.assertIn("multiple", odd["error"]["message"])
            self.assertEqual(d.call("bdev_get_bdevs")["result"], [])

    def test_one_that_a_configuration_remembers_is_not_made_anew(self):
        with tempfile.TemporaryDirectory() as folder:
            path, first, second = (folder + name for name in ("/image", "/first", "/second"))
            with Daemon() as d:
                made = create_file(d, "f0", path, size=MIB)
                self.assertEqual(made["result"], "f0")
                self.assertTrue(d.call("save_config", filename=first)["result"])
                d.stop()
            with Daemon("--config", first) as d:
                self.assertTrue(d.call("save_config", filename=second)["result"])
                d.stop()
            with open(first, encoding="utf-8") as a, open(second, encoding="utf-8") as b:
                self.assertEqual(a.read(), b.read())
            os.unlink(path)
            done = nacre("serve", "-r", folder + "/rpc.sock", "--config", first)
            self.assertEqual(done.returncode, 1)
            self.assertIn(path, done.stderr)
            self.assertIn("restore it", done.stderr)
            self.assertFalse(os.path.exists(path))

    def test_one_truncated_in_use_fails_the_io_beyond_its_end_only(self):
        with Daemon() as d:
            path = os.path.join(d.folder, "disk.img")
            create_file(d, "f0", path, size=4 * MIB)
            handle = connect(export(d, "f0"))
            handle.pwrite(b"k" * 4096, 0)
            handle.flush()
            os.truncate(path, MIB)
            self.assertEqual(bytes(handle.pread(4096, 0)), b"k" * 4096)
            with self.assertRaises(nbd.Error):
                handle.pread(4096, 2 * MIB)
            self.assertEqual(bytes(handle.pread(4096, 0)), b"k" * 4096)
            self.assertIn("result", d.call("spdk_get_version"))
            handle.shutdown()
            self.assertEqual(d.stop(), 0)

    def test_a_second_writer_is_refused(self):
        with Daemon() as d, Daemon() as other:
            path = os.path.join(d.folder, "disk.img")
            create_file(d, "f0", path, size=MIB)
            answer = create_file(other, "f0", path)
            self.assertEqual(answer["error"]["code"], -16)
            self.assertIn("in use", answer["error"]["message"])

    def test_a_full_disk_fails_the_write_and_keeps_what_was_written(self):
        def limit():
            resource.setrlimit(resource.RLIMIT_FSIZE, (4 * MIB, 4 * MIB))
        with tempfile.TemporaryDirectory() as folder:
            path = os.path.join(folder, "disk.img")
            with open(path, "wb") as out:
                out.truncate(16 * MIB)
            with Daemon(preexec_fn=limit) as d:
                create_file(d, "f0", path)
                handle = connect(export(d, "f0"))
                handle.pwrite(b"w" * 4096, MIB)
                with self.assertRaises(nbd.Error):
                    handle.pwrite(b"x" * 4096, 8 * MIB)
                handle.flush()
                self.assertEqual(bytes(handle.pread(4096, MIB)), b"w" * 4096)
                self.assertEqual(bytes(handle.pread(4096, 8 * MIB)), bytes(4096))
                failed = d.call("save_config", filename="/proc/nacre.json")
                self.assertIn("/proc/nacre.json", failed["error"]["message"])
                handle.shutdown()
                self.assertEqual(d.stop(), 0)
            with open(path, "rb") as written:
                written.seek(MIB)
                self.assertEqual(written.read(4096), b"w" * 4096)


if __name__ == "__main__":
    unittest.main()
