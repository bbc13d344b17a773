#!/usr/bin/env python3
# SPDX-License-Identifier: BSD-3-Clause
#
# SPDK's own client, scripts/rpc.py, drives `nacre serve`: each method that both have, as its users
# type it. NACRE_SPDK_SOURCE names a checkout of SPDK (scripts/ and python/ are enough); without it
# the test skips. And the plug-in for rpc.py that nacre generates, for nacre's methods and for those
# of an application (examples/rpc_methods.cpp).

import json
import os
import re
import subprocess
import sys
import tempfile
import unittest

from daemon import Daemon, nacre, wait_until
from spdk import RESULT

SOURCE = os.environ.get("NACRE_SPDK_SOURCE", "")
SCRIPT = os.path.join(SOURCE, "scripts", "rpc.py")

# What is typed, and what is expected of what is printed: a text, whole; a regular expression, found
# at the beginning; a function of the answer; None: nothing; ...: whatever this machine allows. {d}
# is the test's folder.
STARTUP = [
    ("rpc_get_methods --current", lambda a: "framework_start_init" in a
     and "bdev_get_bdevs" not in a),
    ("bdev_set_options -p 65535 -c 256 --auto-examine", None),
    ("bdev_raid_set_options -w 512", None),
    ("log_set_flag bdev_raid", None),
    ("log_clear_flag bdev_raid", None),
    ("log_get_flags", lambda a: a["bdev_raid"] is False),
    ("framework_start_init", None),
]
WHERE_THERE_IS_SUCH_A_METHOD = [
    ("bdev_set_qos_limit malloc0 --rw-ios-per-sec 20000", None),
    ("bdev_set_qd_sampling_period malloc0 1000", None),
    ("bdev_zone_block_create -b zb0 -n malloc0 -z 4096 -o 8", "zb0"),
    ("bdev_zone_block_delete zb0", None),
    ("accel_crypto_key_create -c AES_XTS -k 00112233445566778899aabbccddeeff"
     " -e ffeeddccbbaa99887766554433221100 -n key0", "true"),
    ("accel_crypto_keys_get", lambda a: a[0]["name"] == "key0"),
    ("bdev_crypto_create malloc0 c0 -n key0", "c0"),
    ("bdev_crypto_delete c0", None),
    ("accel_crypto_key_destroy -n key0", "true"),
]
RUNTIME = [
    ("framework_wait_init", None),
    ("spdk_get_version", lambda a: set(a["fields"]) == {"major", "minor", "patch", "suffix"}),
    ("rpc_get_methods", lambda a: "bdev_get_bdevs" in a),
    ("framework_get_subsystems", lambda a: "bdev" in [s["subsystem"] for s in a]),
    ("framework_get_reactors", lambda a: len(a["reactors"]) > 0),
    ("thread_get_stats", lambda a: len(a["threads"]) > 0),
    ("thread_get_pollers", lambda a: "active_pollers" in a["threads"][0]),
    ("thread_get_io_channels", lambda a: "io_channels" in a["threads"][0]),
    ("log_set_level INFO", None), ("log_get_level", lambda a: a == "INFO"),
    ("log_set_print_level ERROR", None), ("log_get_print_level", lambda a: a == "ERROR"),
    ("log_enable_timestamps --timestamps", None),
    ("bdev_malloc_create -b malloc0 64 512", "malloc0"),
    ("bdev_malloc_create -b malloc1 -u 5e3b8c2a-6b1d-4f0e-9a77-0c2f4d5e6f70 64 512", "malloc1"),
    ("bdev_malloc_create 1 4096", "Malloc0"),
    ("bdev_get_bdevs -b malloc1", lambda a: a[0]["uuid"].startswith("5e3b8c2a")
     and a[0]["num_blocks"] == 131072),
    ("bdev_get_bdevs -b soon -t 10", r"request:\n.*\"code\": -19"),
    ("bdev_malloc_create -b malloc0 64 512", r"request:\n.*\"code\": -17,\n.*File exists"),
    ("bdev_null_create n0 64 4096 -g 8 -a 8 -s 16", "n0"),
    ("bdev_get_bdevs -b n0", lambda a: a[0]["preferred_write_granularity"] == 8),
    ("bdev_null_resize n0 128", "true"),
    ("bdev_null_delete n0", None),
    ("bdev_aio_create {d}/disk a0 512", "a0"),
    ("bdev_aio_rescan a0", "true"),
    ("bdev_aio_delete a0", None),
    ("bdev_uring_create {d}/disk u0", "u0"),
    ("bdev_uring_rescan u0", "true"),
    ("bdev_uring_delete u0", None),
    ("bdev_passthru_create -b malloc0 -p pt0", "pt0"),
    ("bdev_passthru_delete pt0", None),
    ("bdev_delay_create -b malloc0 -d d0 -r 10 -t 20 -w 10 -n 20", "d0"),
    ("bdev_delay_update_latency d0 avg_read 5", "true"),
    ("bdev_delay_delete d0", None),
    ("bdev_error_create malloc0", "true"),
    ("bdev_error_inject_error EE_malloc0 read failure -n 1", None),
    ("bdev_error_inject_error EE_malloc0 clear failure", None),
    ("bdev_error_resume_pending EE_malloc0", None),
    ("bdev_error_delete EE_malloc0", None),
    ("bdev_malloc_create -b base0 64 4096", "base0"),
    ("bdev_malloc_create -b target0 8 4096", "target0"),
    ("bdev_malloc_create -b golden0 4 4096", "golden0"),
    ("bdev_lvol_create_lvstore base0 l0 -c 1048576 --clear-method none -m 200", ...),
    ("bdev_lvol_rename_lvstore l0 lvs0", None),
    ("bdev_lvol_get_lvstores -l lvs0", lambda a: a[0]["base_bdev"] == "base0"
     and a[0]["cluster_size"] == 1 << 20),
    ("bdev_lvol_get_lvstores -l nobody", r"request:\n.*\"code\": -19"),
    ("bdev_lvol_create -l lvs0 -t -c none v0 4", ...),
    ("bdev_lvol_create -l lvs0 v0 4", r"request:\n.*\"code\": -17,\n.*File exists"),
    ("bdev_lvol_create -l lvs0 v1 4096", r"request:\n.*\"code\": -32602,\n.*No space left"),
    ("bdev_lvol_snapshot lvs0/v0 s0", ...),
    ("bdev_lvol_snapshot lvs0/nobody s1", r"request:\n.*\"code\": -19"),
    ("bdev_lvol_clone lvs0/s0 c0", ...),
    ("bdev_lvol_delete lvs0/s0", r"request:\n.*\"code\": -32603,\n.*Operation not permitted"),
    ("bdev_lvol_clone_bdev golden0 lvs0 e0", ...),
    ("bdev_lvol_rename lvs0/c0 c1", None),
    ("bdev_lvol_resize lvs0/c1 8", None),
    ("bdev_lvol_inflate lvs0/c1", None),
    ("bdev_lvol_decouple_parent lvs0/v0", None),
    ("bdev_lvol_set_parent lvs0/v0 lvs0/s0", None),
    ("bdev_lvol_set_parent_bdev lvs0/v0 golden0", None),
    ("bdev_lvol_set_read_only lvs0/c1", None),
    ("bdev_lvol_start_shallow_copy lvs0/c1 target0", lambda a: a["operation_id"] == 1),
    ("bdev_lvol_check_shallow_copy 1", lambda a: a["total_clusters"] == 8),
    ("bdev_lvol_check_shallow_copy 7", r"request:\n.*\"code\": -19"),
    ("bdev_lvol_get_lvols -l lvs0", lambda a: sorted(v["name"] for v in a)
     == ["c1", "e0", "s0", "v0"]),
    ("bdev_lvol_delete lvs0/e0", None),
    ("bdev_lvol_grow_lvstore -l lvs0", "true"),
    ("bdev_lvol_delete_lvstore -l lvs0", None),
    ("bdev_split_create malloc0 2", "malloc0p0 malloc0p1"),
    ("bdev_split_delete malloc0", None),
    *WHERE_THERE_IS_SUCH_A_METHOD,
    # Without a cluster: e2e.rbd has one.
    ("bdev_rbd_get_clusters_info", r"request:\n.*\"code\": -2"),
    ("bdev_rbd_register_cluster c --config-file /nonexistent", r"request:\n.*\"code\": -1"),
    ("bdev_rbd_unregister_cluster c", r"request:\n.*\"code\": -1"),
    ("bdev_rbd_create pool image 4096 --cluster-name c", r"request:\n.*\"code\": -1"),
    ("bdev_rbd_resize c 8", r"request:\n.*\"code\": -19"),
    ("bdev_rbd_delete c", r"request:\n.*\"code\": -19"),
    # Without such a drive: guest.nvme has some.
    ("bdev_xnvme_create /nonexistent x0 io_uring_cmd", r"request:\n.*\"code\": -"),
    ("bdev_xnvme_delete x0", r"request:\n.*\"code\": -19"),
    ("bdev_nvme_send_cmd -n x0 -t admin -r c2h -c BgAAAA== -D 4096", r"request:\n.*\"code\": -"),
    ("bdev_raid_create -n r1 -r raid1 -b 'malloc0 malloc1'", None),
    ("bdev_raid_get_bdevs all", lambda a: a[0]["name"] == "r1" and a[0]["state"] == "online"),
    ("bdev_raid_remove_base_bdev malloc1", None),
    ("bdev_raid_add_base_bdev r1 malloc1", None),
    ("bdev_enable_histogram --histogram r1", None),
    ("bdev_get_histogram r1", lambda a: a["granularity"] == 7 and a["tsc_rate"] > 0),
    ("bdev_get_histogram_borders r1 --borders 10,100", lambda a: len(a["borders_count"]) == 3),
    ("bdev_enable_histogram --no-histogram r1", None),
    ("bdev_get_iostat --names malloc0,malloc1", lambda a: [b["name"] for b in a["bdevs"]]
     == ["malloc0", "malloc1"]),
    ("bdev_get_iostat -c --names malloc0", lambda a: a["name"] == "malloc0"),
    ("bdev_reset_iostat -b malloc0 -m maxmin", None),
    ("bdev_wait_for_examine", None),
    ("bdev_examine -b malloc0", r"request:\n.*\"code\": -22"),
    ("ublk_get_disks", lambda a: a == []),
    ("ublk_start_disk malloc0 1", r"request:\n.*\"code\": -19"),
    ("ublk_recover_disk malloc0 1", r"request:\n.*\"code\": -19"),
    ("ublk_stop_disk 1", r"request:\n.*\"code\": -19"),
    ("ublk_create_target", ...), ("ublk_destroy_target", ...),
    ("notify_get_types", lambda a: "bdev_register" in a),
    ("notify_get_notifications -n 1", lambda a: len(a) == 1 and a[0]["id"] == 0),
    ("framework_get_config bdev", lambda a: a[0]["method"] == "bdev_set_options"),
    ("save_subsystem_config -n bdev", lambda a: a["subsystem"] == "bdev"),
    ("bdev_raid_delete r1", None),
    ("bdev_malloc_delete malloc1", None),
    ("bdev_malloc_delete nobody", r"request:\n.*\"code\": -19"),
]


def rpc_py(socket, *arguments, path=None, **options):
    environment = dict(os.environ, PYTHONDONTWRITEBYTECODE="1")
    if path:
        environment["PYTHONPATH"] = path
    return subprocess.run([sys.executable, SCRIPT, "-s", socket, *arguments], env=environment,
                          capture_output=True, text=True, timeout=120, **options)


class Session:
    """`rpc.py --server`: commands by its standard input, as SPDK's test scripts use it."""

    def __init__(self, socket):
        self.socket = socket
        self.process = subprocess.Popen(
            [sys.executable, "-B", SCRIPT, "--server"], stdin=subprocess.PIPE,
            stdout=subprocess.PIPE, stderr=subprocess.STDOUT, text=True)

    def __enter__(self):
        return self

    def __exit__(self, *_):
        self.process.stdin.close()
        self.process.wait(60)
        self.process.stdout.close()

    def run(self, command):
        """What was printed, and whether the command succeeded."""
        self.process.stdin.write(f"-s {self.socket} {command}\n")
        self.process.stdin.flush()
        lines = []
        for line in self.process.stdout:
            if line.startswith("**STATUS="):
                return "".join(lines).rstrip("\n"), line.strip().endswith("0")
            lines.append(line)
        raise AssertionError(f"{command}: rpc.py ended: {''.join(lines)}")


@unittest.skipUnless(SOURCE, "NACRE_SPDK_SOURCE does not name a checkout of SPDK")
class commands(unittest.TestCase):
    def go_through(self, session, lines, methods, **names):
        for command, expected in lines:
            if ((command, expected) in WHERE_THERE_IS_SUCH_A_METHOD
                    and command.split()[0] not in methods):
                continue
            with self.subTest(command=command):
                printed, succeeded = session.run(command.format(**names))
                if expected is ...:
                    continue
                fails = isinstance(expected, str) and expected.startswith("request:")
                self.assertEqual(succeeded, not fails, printed)
                if expected is None:
                    self.assertEqual(printed, "")
                elif callable(expected):
                    self.assertTrue(expected(json.loads(printed)), printed)
                elif fails:
                    self.assertRegex(printed, re.compile(expected, re.DOTALL))
                else:
                    self.assertEqual(printed, expected)

    def test_of_every_method_that_both_have(self):
        with Daemon("--wait-for-rpc") as d, Session(d.socket) as session:
            with open(os.path.join(d.folder, "disk"), "wb") as disk:
                disk.truncate(1 << 20)
            methods = d.rpc("rpc_get_methods")
            self.go_through(session, STARTUP, methods)
            self.go_through(session, RUNTIME, methods, d=d.folder)
            printed, succeeded = session.run("spdk_kill_instance SIGTERM")
            self.assertTrue(succeeded, printed)
            self.assertEqual(d.process.wait(30), 0)
        typed = {line.split()[0] for line, _ in STARTUP + RUNTIME} | {"spdk_kill_instance"}
        with open(RESULT, encoding="utf-8") as rows:
            shared = {row.split("\t")[0] for row in rows if "\tspdk" in row}
        self.assertEqual(shared - typed, set(), "add what a user types to RUNTIME")

    def test_save_and_load_a_configuration(self):
        with Daemon() as d:
            made = rpc_py(d.socket, "bdev_malloc_create", "-b", "m0", "1", "512")
            self.assertEqual(made.returncode, 0, made.stdout + made.stderr)
            made = rpc_py(d.socket, "bdev_passthru_create", "-b", "m0", "-p", "p0")
            saved = rpc_py(d.socket, "save_config").stdout
            self.assertEqual({s["subsystem"] for s in json.loads(saved)["subsystems"]},
                             {s["subsystem"] for s in d.rpc("framework_get_subsystems")})
        with Daemon("--wait-for-rpc") as d:
            loaded = rpc_py(d.socket, "load_config", input=saved)
            self.assertEqual(loaded.returncode, 0, loaded.stdout + loaded.stderr)
            self.assertEqual(rpc_py(d.socket, "save_config").stdout, saved)

    def test_several_at_once_as_a_script_and_as_a_batch(self):
        script = "bdev_null_create n0 1 512\nbdev_null_create n1 1 512\n# a remark\n"
        with Daemon() as d:
            done = rpc_py(d.socket, input=script)
            self.assertEqual((done.returncode, done.stdout), (0, "n0\nn1\n"), done.stderr)
            done = rpc_py(d.socket, "--batch-mode", input=script)
            self.assertEqual(done.returncode, 1)
            self.assertEqual(done.stderr.count('"code": -17'), 2, done.stderr)


@unittest.skipUnless(SOURCE, "NACRE_SPDK_SOURCE does not name a checkout of SPDK")
class plugin(unittest.TestCase):
    def setUp(self):
        folder = tempfile.TemporaryDirectory()
        self.addCleanup(folder.cleanup)
        self.folder = folder.name

    def write_plugin(self, name, *arguments):
        made = nacre("rpc", *arguments, "--rpc-py-plugin")
        self.assertEqual(made.returncode, 0, made.stderr)
        with open(os.path.join(self.folder, name + ".py"), "w", encoding="utf-8") as out:
            out.write(made.stdout)

    def test_gives_rpc_py_nacres_own_methods(self):
        self.write_plugin("nacre_rpc")
        with Daemon() as d:
            d.rpc("bdev_null_create", "name=n0", "num_blocks=8", "block_size=512")
            path = os.path.join(self.folder, "nbd.sock")
            done = rpc_py(d.socket, "--plugin", "nacre_rpc", "nbd_export_create", "n0", "--unix",
                          path, "--readonly", path=self.folder)
            self.assertEqual(done.returncode, 0, done.stdout + done.stderr)
            self.assertIn("nbd+unix:///n0", done.stdout)
            done = rpc_py(d.socket, "--plugin", "nacre_rpc", "nbd_get_exports", path=self.folder)
            self.assertIs(json.loads(done.stdout)[0]["readonly"], True)
            # What rpc.py knows stays as it is.
            done = rpc_py(d.socket, "--plugin", "nacre_rpc", "bdev_malloc_create", "-b", "m0", "1",
                          "512", path=self.folder)
            self.assertEqual(done.stdout, "m0\n", done.stderr)

    def test_gives_rpc_py_an_applications_methods(self):
        program = os.path.join(os.environ["NACRE_BUILD_DIR"], "example_rpc_methods")
        socket = os.path.join(self.folder, "s")
        running = subprocess.Popen([program, socket])
        try:
            self.assertTrue(wait_until(lambda: os.path.exists(socket)))
            self.write_plugin("tally", "-s", socket, "tally_")
            with open(os.path.join(self.folder, "tally.py"), encoding="utf-8") as text:
                self.assertNotIn("bdev_", text.read())

            def tally(*arguments):
                return rpc_py(socket, "--plugin", "tally", *arguments, path=self.folder)
            self.assertEqual(tally("tally_create", "--name", "apples", "-l", "red,sweet").stdout,
                             "apples\n")
            self.assertEqual(tally("tally_create", "apples", "-l", "red,sweet",
                                   "--idempotent").stdout, "apples\n")
            self.assertIn('"code": -17', tally("tally_create", "apples").stdout)
            self.assertEqual(tally("tally_add", "apples", "3").stdout, "3\n")
            self.assertEqual(tally("tally_add", "--amount", "4", "apples").stdout, "7\n")
            wrong = tally("tally_add", "apples", "many")
            self.assertEqual(wrong.returncode, 2)
            self.assertIn("'many' is not an integer", wrong.stderr)
            self.assertIn("required: name, amount", tally("tally_add").stderr)
            self.assertIn("How many (required)", tally("tally_add", "--help").stdout)
            self.assertEqual(tally("tally_delete", "apples").stdout, "")
        finally:
            running.terminate()
            self.assertEqual(running.wait(30), 0)


if __name__ == "__main__":
    ran = unittest.main(exit=False).result
    if not ran.wasSuccessful():
        sys.exit(1)
    if ran.skipped:
        print("Skipped: " + ran.skipped[0][1])
        sys.exit(77)
