#!/usr/bin/env python3
# SPDX-License-Identifier: BSD-3-Clause
#
# `nacre serve`: ready, stop, signals, states, configuration there and back, options.

import json
import os
import signal
import subprocess
import tempfile
import unittest

from daemon import NACRE, Client, Daemon, nacre, wait_until

EVERYTHING = {
    "subsystems": [{
        "subsystem": "bdev",
        "config": [
            {"method": "bdev_set_options", "params": {"bdev_io_pool_size": 1000,
                                                      "bdev_auto_examine": True}},
            {"method": "bdev_malloc_create", "params": {"name": "m0", "num_blocks": 2048,
                                                        "block_size": 512}},
            {"method": "bdev_null_create", "params": {"name": "n0", "num_blocks": 1 << 30,
                                                      "block_size": 4096}},
        ]}, {
        "subsystem": "nbd",
        "config": [{"method": "nbd_export_create",
                    "params": {"bdev_name": "m0", "export": "e0", "unix": "PLACE"}}]}]}


class serve(unittest.TestCase):
    def test_one_line_of_json_says_that_it_is_ready(self):
        with Daemon() as d:
            self.assertEqual(set(d.ready), {"pid", "socket", "exports"})
            self.assertEqual(d.ready["pid"], d.pid)
            self.assertEqual(d.ready["exports"], [])
            self.assertTrue(os.path.exists(d.ready["socket"]))

    def test_a_signal_ends_it_in_good_order(self):
        for number in (signal.SIGTERM, signal.SIGINT, signal.SIGHUP):
            with Daemon() as d:
                d.call("bdev_malloc_create", name="m0", num_blocks=1024, block_size=512)
                d.call("nbd_export_create", bdev_name="m0", unix=d.folder + "/nbd")
                self.assertEqual(d.stop(number), 0, d.stderr())
                self.assertEqual(sorted(os.listdir(d.folder)), ["log"], d.stderr())
                self.assertEqual(d.stderr(), "")

    def test_spdk_kill_instance_ends_it_and_is_answered(self):
        with Daemon() as d:
            self.assertEqual(d.call("spdk_kill_instance", sig_name="SIGTERM")["result"], True)
            self.assertEqual(d.process.wait(30), 0)

    def test_an_idle_client_does_not_keep_it(self):
        with Daemon() as d, Client(d.socket) as idle:
            idle.call("spdk_get_version")
            self.assertEqual(d.stop(), 0)
            self.assertIsNone(idle.receive())

    def test_the_reader_of_its_output_may_go(self):
        with Daemon() as d:
            d.process.stdout.close()
            self.assertIn("result", d.call("spdk_get_version"))
            self.assertEqual(d.stop(), 0)

    def test_it_says_to_people_what_is_there(self):
        with tempfile.TemporaryDirectory() as folder:
            place = os.path.join(folder, "rpc.sock")
            process = subprocess.Popen([NACRE, "serve", "-r", place], stdout=subprocess.PIPE,
                                       text=True)
            line = process.stdout.readline() + process.stdout.readline()
            self.assertIn("ready", line)
            self.assertIn(place, line)
            process.terminate()
            self.assertEqual(process.wait(30), 0)
            process.stdout.close()


class states(unittest.TestCase):
    def test_wait_for_rpc_stays_in_startup_until_asked(self):
        with Daemon("--wait-for-rpc") as d, Client(d.socket) as c:
            refused = c.call("bdev_get_bdevs")["error"]
            self.assertEqual(refused["code"], -1)
            self.assertIn("framework_start_init", refused["message"])
            self.assertTrue(c.call("bdev_set_options", bdev_io_pool_size=5000)["result"])
            self.assertTrue(c.call("framework_start_init")["result"])
            self.assertTrue(c.call("framework_wait_init")["result"])
            self.assertEqual(c.call("bdev_get_bdevs")["result"], [])
            self.assertEqual(c.call("bdev_set_options", bdev_io_pool_size=9)["error"]["code"], -1)
            self.assertIn("error", c.call("framework_start_init"))
            self.assertEqual(d.stop(), 0)

    def test_it_can_be_stopped_before_it_is_initialized(self):
        with Daemon("--wait-for-rpc") as d:
            self.assertEqual(d.stop(), 0)

    def test_a_configuration_that_fails_in_the_second_pass_ends_it(self):
        bad = json.dumps({"subsystems": [{"subsystem": "bdev", "config": [
            {"method": "bdev_null_create", "params": {"name": "", "num_blocks": 1,
                                                      "block_size": 512}}]}]})
        with Daemon("--wait-for-rpc", "--config-text", bad) as d:
            answer = d.call("framework_start_init")
            self.assertIn("bdev_null_create", answer["error"]["message"])
            self.assertEqual(d.process.wait(30), 1)


class configuration(unittest.TestCase):
    def test_what_is_saved_loads_and_saves_again_byte_for_byte(self):
        with tempfile.TemporaryDirectory() as folder:
            first, second = folder + "/first.json", folder + "/second.json"
            text = json.dumps(EVERYTHING).replace("PLACE", folder + "/nbd")
            with Daemon("--config-text", text) as d:
                self.assertEqual(d.ready["exports"][0]["export"], "e0")
                self.assertTrue(d.rpc("save_config", f"filename={first}"))
                printed = nacre("rpc", "-s", d.socket, "save_config").stdout
                self.assertEqual(d.stop(), 0)
            with Daemon("-c", first) as d:
                self.assertEqual([b["name"] for b in d.rpc("bdev_get_bdevs")], ["m0", "n0"])
                self.assertEqual(d.ready["exports"][0]["bdev_name"], "m0")
                self.assertTrue(d.rpc("save_config", f"filename={second}"))
                self.assertEqual(d.stop(), 0)
            with open(first, encoding="utf-8") as a, open(second, encoding="utf-8") as b:
                saved = a.read()
                self.assertEqual(saved, b.read())
            self.assertEqual(saved, printed)
            methods = [c["method"] for s in json.loads(saved)["subsystems"]
                       for c in s["config"] or []]
            self.assertEqual(methods[0], "bdev_set_options")
            self.assertIn("nbd_export_create", methods)

    def test_comments_are_allowed_and_load_config_takes_a_file_too(self):
        with tempfile.TemporaryDirectory() as folder:
            path = folder + "/commented.json"
            with open(path, "w", encoding="utf-8") as out:
                out.write('// mine\n{"subsystems": [{"subsystem": "bdev", /* two */ "config": '
                          '[{"method": "bdev_null_create", "params": {"name": "n1", '
                          '"num_blocks": 8, "block_size": 512}}]}]}')
            with Daemon("--config", path) as d:
                self.assertEqual(d.rpc("bdev_get_bdevs", "name=n1")[0]["num_blocks"], 8)
            with Daemon() as d:
                self.assertTrue(d.rpc("load_config", f"filename={path}"))
                self.assertEqual(d.rpc("bdev_get_bdevs", "name=n1")[0]["num_blocks"], 8)

    def test_errors_can_be_ignored(self):
        text = json.dumps({"subsystems": [{"subsystem": "bdev", "config": [
            {"method": "no_such_method"},
            {"method": "bdev_null_create", "params": {"name": "n2", "num_blocks": 8,
                                                      "block_size": 512}}]}]})
        with Daemon("--ignore-config-errors", "--config-text", text) as d:
            self.assertEqual(d.rpc("bdev_get_bdevs")[0]["name"], "n2")
            self.assertIn("no_such_method", d.stderr())

    def test_a_data_folder_gives_the_socket_and_the_configuration(self):
        with tempfile.TemporaryDirectory() as folder:
            data = folder + "/data"
            with Daemon("--data", data) as d:
                self.assertEqual(d.ready["socket"], data + "/rpc.sock")
                d.rpc("bdev_null_create", "name=n3", "num_blocks=8", "block_size=512")
                self.assertTrue(d.rpc("save_config", f"filename={data}/config.json"))
            with Daemon("--data", data) as d:
                self.assertEqual(d.rpc("bdev_get_bdevs")[0]["name"], "n3")


class options(unittest.TestCase):
    def test_cores_make_pinned_reactors_and_the_main_one_is_chosen(self):
        allowed = sorted(os.sched_getaffinity(0))
        with Daemon("-m", str(allowed[0])) as d:
            reactors = d.rpc("framework_get_reactors")["reactors"]
            self.assertEqual([r["lcore"] for r in reactors], [allowed[0]])
        if len(allowed) > 1:
            mask = hex(sum(1 << core for core in allowed[:2]))
            with Daemon("--cores", mask, "--main-core", str(allowed[1])) as d:
                self.assertEqual(os.sched_getaffinity(d.pid), {allowed[1]})
                reactors = d.rpc("framework_get_reactors")["reactors"]
                self.assertEqual(sorted(r["lcore"] for r in reactors), allowed[:2])

    def test_the_memory_for_data_is_bounded(self):
        with Daemon("--mem-size", "64MiB") as d:
            big = d.call("bdev_malloc_create", name="big", num_blocks=32768, block_size=4096)
            self.assertEqual(big["error"]["code"], -12)
            self.assertIn("--mem-size", big["error"]["message"])
            fits = d.call("bdev_malloc_create", name="m0", num_blocks=4096, block_size=4096)
            self.assertEqual(fits["result"], "m0")
            self.assertTrue(d.call("bdev_malloc_delete", name="m0")["result"])
            again = d.call("bdev_malloc_create", name="m1", num_blocks=8192, block_size=4096)
            self.assertEqual(again["result"], "m1")

    def test_mode_poll_never_sleeps(self):
        with Daemon("--mode", "poll") as d:
            before = d.cpu_seconds()
            self.assertTrue(wait_until(lambda: d.cpu_seconds() - before > 0.2))
            self.assertFalse(d.rpc("framework_get_reactors")["reactors"][0]["in_interrupt"])
            self.assertEqual(d.stop(), 0)

    def test_the_log_listens_to_options_and_to_the_environment(self):
        with Daemon("--log-level", "info") as d:
            self.assertEqual(d.rpc("log_get_print_level"), "INFO")
            self.assertIn("listening on", d.stderr())
        with Daemon("--log-flag", "rpc", "--log-flag", "nbd") as d:
            flags = d.rpc("log_get_flags")
            self.assertTrue(flags["rpc"] and flags["nbd"] and not flags["bdev_raid"])
        environment = dict(os.environ, NACRE_LOG="level=info,print_level=warning,bdev")
        with Daemon(env=environment) as d:
            self.assertTrue(d.rpc("log_get_flags")["bdev"])
            self.assertEqual(d.rpc("log_get_print_level"), "WARNING")
        with Daemon("--log-level", "error", env=environment) as d:
            self.assertEqual(d.rpc("log_get_print_level"), "ERROR")


if __name__ == "__main__":
    unittest.main()
