#!/usr/bin/env python3
# SPDX-License-Identifier: BSD-3-Clause
#
# JSON-RPC on a real socket, by `nacre rpc` and as SPDK's Python client writes it.

import json
import os
import socket
import tempfile
import unittest

from daemon import Client, Daemon, nacre


class command(unittest.TestCase):
    @classmethod
    def setUpClass(cls):
        cls.daemon = Daemon()
        cls.daemon.__enter__()

    @classmethod
    def tearDownClass(cls):
        cls.daemon.__exit__()

    def rpc(self, *arguments):
        return nacre("rpc", "-s", self.daemon.socket, *arguments)

    def test_parameters_as_name_value_as_json_and_with_units(self):
        done = self.rpc("bdev_malloc_create", "name=m0", "num_blocks=4k", "block_size=512")
        self.assertEqual((done.returncode, done.stdout), (0, "m0\n"), done.stderr)
        done = self.rpc("bdev_null_create", '{"name": "n0", "num_blocks": 64, "block_size": 4096}')
        self.assertEqual((done.returncode, done.stdout), (0, "n0\n"), done.stderr)
        shown = self.rpc("bdev_get_bdevs", "name=m0")
        self.assertEqual(json.loads(shown.stdout)[0]["num_blocks"], 4096)
        self.assertIn("\n  ", shown.stdout)
        line = self.rpc("--json", "bdev_get_bdevs", "name=m0")
        self.assertEqual(line.stdout.count("\n"), 1)
        self.assertEqual(json.loads(line.stdout), json.loads(shown.stdout))
        self.assertEqual(self.rpc("bdev_malloc_delete", "name=m0").stdout, "true\n")
        self.assertEqual(self.rpc("bdev_null_delete", "name=n0").returncode, 0)

    def test_what_the_server_refuses_is_exit_status_1(self):
        done = self.rpc("bdev_malloc_delete", "name=absent")
        self.assertEqual(done.returncode, 1)
        self.assertIn("absent", done.stderr)
        self.assertEqual(done.stdout, "")
        done = self.rpc("--json", "bdev_get_bdevs", "name=absent")
        self.assertEqual(done.returncode, 1)
        self.assertEqual(json.loads(done.stdout)["code"], -19)
        done = self.rpc("no_such_method")
        self.assertEqual(done.returncode, 1)
        self.assertIn("-32601", done.stderr)

    def test_what_the_client_cannot_read_is_exit_status_2(self):
        for wrong, told in ((["bdev_malloc_create", "name"], "name=value"),
                            (["bdev_malloc_create", "nmae=m0"], "nmae"),
                            (["bdev_malloc_create", "num_blocks=many"], "num_blocks"),
                            (["bdev_malloc_create", "{not json"], "parameters"),
                            (["spdk_get_version", "x=1"], "takes no parameters"),
                            (["--timeout", "soon", "spdk_get_version"], "--timeout"),
                            (["--no-such-option"], "--no-such-option"),
                            ([], "which method"),
                            (["--help-method", "no_such_method"], "no_such_method")):
            done = self.rpc(*wrong)
            self.assertEqual(done.returncode, 2, (wrong, done.stderr))
            self.assertIn(told, done.stdout + done.stderr)

    def test_no_daemon_is_exit_status_1_and_says_what_to_do(self):
        done = nacre("rpc", "-s", "/nonexistent/rpc.sock", "spdk_get_version")
        self.assertEqual(done.returncode, 1)
        self.assertIn("nacre serve", done.stderr)

    def test_methods_are_listed_and_explained(self):
        listed = self.rpc("--list").stdout
        answered = self.daemon.rpc("rpc_get_methods")
        self.assertEqual([line.split()[0] for line in listed.splitlines()], answered)
        self.assertTrue(all("malloc" in line.split()[0]
                            for line in self.rpc("--list", "malloc").stdout.splitlines()))
        explained = self.rpc("--help-method", "bdev_malloc_create").stdout
        self.assertIn("num_blocks", explained)
        schema = json.loads(self.rpc("--json", "--help-method", "bdev_malloc_create").stdout)
        self.assertEqual(schema["method"], "bdev_malloc_create")

    def test_spdk_kill_instance_counts_as_done(self):
        with Daemon() as d:
            self.assertIs(d.rpc("spdk_kill_instance", "sig_name=SIGTERM"), True)
            self.assertEqual(d.process.wait(30), 0)


class as_spdk_writes_it(unittest.TestCase):
    def test_requests_in_one_write_in_pieces_and_in_batches(self):
        with Daemon() as d, Client(d.socket) as c:
            c.send('{"jsonrpc": "2.0", "method": "spdk_get_version", "id": 1}'
                   '{"jsonrpc": "2.0", "method": "rpc_get_methods", "id": "two"}')
            self.assertEqual({c.receive()["id"], c.receive()["id"]}, {1, "two"})
            for character in '{"method": "bdev_get_bdevs", "id": 3}':
                c.send(character)
            self.assertEqual(c.receive(), {"jsonrpc": "2.0", "id": 3, "result": []})
            c.send('[{"method": "spdk_get_version", "id": 4}, {"method": "spdk_get_version"},'
                   ' 17, {"method": "no_such", "id": 5}]')
            answers = c.receive()
            self.assertEqual(sorted(str(a["id"]) for a in answers), ["4", "5", "None"])
            c.send("[]")
            self.assertEqual(c.receive()["error"]["code"], -32600)

    def test_the_usual_script_of_an_spdk_user(self):
        with Daemon() as d, Client(d.socket) as c:
            self.assertEqual(c.call("bdev_malloc_create", name="Malloc0", num_blocks=131072,
                                    block_size=512)["result"], "Malloc0")
            self.assertEqual(c.call("bdev_malloc_create", num_blocks=8,
                                    block_size=4096)["error"]["code"], -17)  # SPDK counts from 0
            self.assertEqual(c.call("bdev_malloc_create", num_blocks=8, block_size=4096,
                                    uuid="c0583dd3-55b1-4b0a-a9a2-4b0b1f9f9b1e")["result"],
                             "Malloc1")
            self.assertEqual(c.call("bdev_passthru_create", base_bdev_name="Malloc0",
                                    name="p0")["result"], "p0")
            shown = {b["name"]: b for b in c.call("bdev_get_bdevs")["result"]}
            self.assertEqual(shown["Malloc1"]["uuid"], "c0583dd3-55b1-4b0a-a9a2-4b0b1f9f9b1e")
            self.assertEqual(shown["Malloc0"]["product_name"], "Malloc disk")
            self.assertTrue(shown["Malloc0"]["claimed"])
            figures = c.call("bdev_get_iostat", names=["p0"])["result"]["bdevs"][0]
            self.assertEqual(figures["num_write_ops"], 0)  # reads: modules have examined it
            unknown = c.call("bdev_malloc_create", name="x", num_blocks=1, block_size=512, size=3)
            self.assertIn("size", unknown["error"]["message"])

    def test_a_half_close_still_gets_its_answers(self):
        with Daemon() as d, Client(d.socket) as c:
            c.send('{"method": "spdk_get_version", "id": 1}')
            c.socket.shutdown(socket.SHUT_WR)
            self.assertIn("result", c.receive())
            self.assertIsNone(c.receive())


class over_tcp(unittest.TestCase):
    def test_who_has_the_token_is_answered(self):
        with Daemon("--rpc-tcp", "127.0.0.1:0") as d:
            address, token_file = d.ready["tcp"], d.ready["token_file"]
            self.assertEqual(os.stat(token_file).st_mode & 0o777, 0o600)
            self.assertEqual(token_file, d.socket + ".token")
            done = nacre("rpc", "-s", address, "--token-file", token_file, "rpc_get_methods")
            self.assertEqual(done.returncode, 0, done.stderr)
            done = nacre("rpc", "-s", address, "spdk_get_version")
            self.assertEqual(done.returncode, 1)
            self.assertIn("rpc_authenticate", done.stderr)
            # As a program would write it.
            with open(token_file, encoding="utf-8") as f:
                token = f.read().strip()
            host, port = address.rsplit(":", 1)
            with socket.create_connection((host, int(port)), 10) as s:
                s.sendall(json.dumps({"jsonrpc": "2.0", "id": 1, "method": "rpc_authenticate",
                                      "params": {"token": token}}).encode())
                answers = s.makefile()
                self.assertEqual(json.loads(answers.readline())["result"], True)
                s.sendall(b'{"jsonrpc":"2.0","id":2,"method":"bdev_get_bdevs"}')
                self.assertEqual(json.loads(answers.readline())["result"], [])
            # On the unix socket nothing changed.
            self.assertEqual(nacre("rpc", "-s", d.socket, "spdk_get_version").returncode, 0)

    def test_a_token_of_ones_own_is_kept(self):
        with tempfile.TemporaryDirectory() as folder:
            path = os.path.join(folder, "token")
            with open(path, "w", encoding="utf-8") as f:
                f.write("a secret of one's own\n")
            with Daemon("--rpc-tcp", "[::1]:0", "--rpc-token-file", path) as d:
                done = nacre("rpc", "-s", d.ready["tcp"], "--token-file", path, "spdk_get_version")
                self.assertEqual(done.returncode, 0, done.stderr)
            with open(path, encoding="utf-8") as f:
                self.assertEqual(f.read(), "a secret of one's own\n")
            with open(path, "w", encoding="utf-8") as f:
                f.write("short\n")
            done = nacre("serve", "-r", folder + "/s", "--rpc-tcp", "127.0.0.1:0",
                         "--rpc-token-file", path)
            self.assertEqual(done.returncode, 1)
            self.assertIn("less than 16 bytes", done.stderr)

    def test_other_machines_are_not_listened_for(self):
        with tempfile.TemporaryDirectory() as folder:
            for address in ("0.0.0.0:0", "localhost:0"):
                done = nacre("serve", "-r", folder + "/s", "--rpc-tcp", address)
                self.assertEqual(done.returncode, 1)
                self.assertIn("127.0.0.1", done.stderr)
            done = nacre("serve", "-r", folder + "/s", "--rpc-tcp", "5260")
            self.assertEqual(done.returncode, 2)
            self.assertIn("--rpc-tcp", done.stderr)


if __name__ == "__main__":
    unittest.main()
