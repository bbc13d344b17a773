#!/usr/bin/env python3
# SPDX-License-Identifier: BSD-3-Clause
#
# `nacre perf`: fio's option names, what it prints, its progress on a terminal, what it refuses.

import json
import os
import pty
import re
import subprocess
import tempfile
import time
import unittest

from daemon import NACRE, nacre

NULL = "null:///n0?size=1GiB"
QUICK = ("--runtime", "0", "--number_ios")


def measure(*arguments):
    """The JSON of a run that must succeed."""
    done = nacre("perf", "--json", *arguments)
    assert done.returncode == 0, done.stderr
    assert not done.stderr, done.stderr  # no progress beside JSON
    return json.loads(done.stdout)


class Options(unittest.TestCase):
    def test_number_ios_is_counted_for_each_job(self):
        r = measure("--bdev", NULL, *QUICK, "1000")
        self.assertEqual(r["total_ios"], 1000)
        r = measure("--bdev", NULL, *QUICK, "1000", "--numjobs", "2")
        self.assertEqual((r["total_ios"], r["numjobs"]), (2000, 2))

    def test_each_pattern_reads_and_writes_what_its_name_says(self):
        for rw, reads, writes in (("read", True, False), ("randread", True, False),
                                  ("write", False, True), ("randwrite", False, True),
                                  ("rw", True, True), ("randrw", True, True)):
            r = measure("--bdev", "malloc:///m0?size=4MiB", "--rw", rw, *QUICK, "500")
            self.assertEqual((r["read_ios"] > 0, r["write_ios"] > 0), (reads, writes), rw)
            self.assertEqual(r["read_ios"] + r["write_ios"], 500)

    def test_rwmixread_is_the_share_of_reads(self):
        mix = ("--bdev", NULL, "--rw", "randrw", *QUICK, "10000", "--rwmixread")
        for percent in (0, 10, 70, 100):
            r = measure(*mix, str(percent))
            self.assertAlmostEqual(r["read_ios"] / 100, percent, delta=3)

    def test_randseed_repeats_a_run_and_changes_it(self):
        mix = ("--bdev", NULL, "--rw", "randrw", *QUICK, "10000", "--randseed")
        counts = [measure(*mix, seed)["read_ios"] for seed in ("1", "1", "2", "3", "4")]
        self.assertEqual(counts[0], counts[1])
        self.assertGreater(len(set(counts)), 1)

    def test_zipf_goes_to_few_addresses_and_random_to_all(self):
        # What was written is allocated; the file is sparse.
        with tempfile.TemporaryDirectory() as folder:
            used = {}
            for how in ("random", "zipf:2"):
                image = os.path.join(folder, how)
                measure("--bdev", f"file://{image}?size=16MiB", "--rw", "randwrite", *QUICK, "3000",
                        "--random_distribution", how)
                used[how] = os.stat(image).st_blocks
            self.assertLess(used["zipf:2"] * 3, used["random"])
        for wrong in ("zipf", "zipf:0", "zipf:x", "pareto:1"):
            done = nacre("perf", "--bdev", NULL, "--random_distribution", wrong)
            self.assertEqual(done.returncode, 2, wrong)
            self.assertIn("--random_distribution", done.stderr)

    def test_size_keeps_to_the_beginning(self):
        with tempfile.TemporaryDirectory() as folder:
            image = os.path.join(folder, "image")
            measure("--bdev", f"file://{image}?size=4MiB", "--rw", "randwrite", *QUICK, "3000",
                    "--size", "1MiB")
            with open(image, "rb") as f:
                f.seek(1 << 20)
                self.assertEqual(f.read(), bytes(3 << 20))

    def test_rate_iops_is_not_exceeded(self):
        for more in ((), ("--numjobs", "2")):
            r = measure("--bdev", NULL, *QUICK, "400", "--rate_iops", "1000", *more)
            self.assertEqual(r["total_ios"], 400 * r["numjobs"])
            self.assertGreater(r["runtime_s"], 0.39)

    def test_verify_reads_back_what_was_written(self):
        for rw in ("randwrite", "randrw", "write"):
            r = measure("--bdev", "malloc:///m0?size=4MiB", "--rw", rw, *QUICK, "3000",
                        "--verify", "crc32c", "--numjobs", "2", "--iodepth", "16")
            self.assertGreater(r["verified"], 500, rw)

    def test_verify_finds_what_a_device_lost_or_altered(self):
        done = nacre("perf", "--bdev", NULL, "--rw", "randwrite", *QUICK, "10", "--size", "1MiB",
                     "--verify", "crc32c", "--iodepth", "4")
        self.assertEqual(done.returncode, 1)
        self.assertIn("n0: block ", done.stderr)
        with tempfile.TemporaryDirectory() as folder:
            config = os.path.join(folder, "config.json")
            with open(config, "w", encoding="utf-8") as out:
                json.dump({"subsystems": [{"subsystem": "bdev", "config": [
                    {"method": "bdev_malloc_create",
                     "params": {"name": "m0", "num_blocks": 8192, "block_size": 512}},
                    {"method": "bdev_error_create", "params": {"base_name": "m0"}},
                    {"method": "bdev_error_inject_error", "params": {
                        "name": "EE_m0", "io_type": "write", "error_type": "corrupt_data",
                        "num": 1, "corrupt_value": 1}}]}]}, out)
            done = nacre("perf", "--config", config, "--bdev", "EE_m0", "--rw", "write", *QUICK,
                         "100", "--verify", "crc32c", "--iodepth", "4")
            self.assertEqual(done.returncode, 1, done.stdout)
            self.assertRegex(done.stderr, r"EE_m0: block \d+: ")

    def test_verify_says_what_it_cannot_keep(self):
        for wrong, word in ((("--size", "16KiB", "--iodepth", "4"), "--iodepth"),
                            (("--bdev", "null:///n?size=1TiB"), "--size")):
            done = nacre("perf", "--bdev", NULL, *QUICK, "10", "--verify", "crc32c", *wrong)
            if len(wrong) == 2:
                done = nacre("perf", *wrong, *QUICK, "10", "--verify", "crc32c")
            self.assertEqual(done.returncode, 1)
            self.assertIn(word, done.stderr)

    def test_bs_takes_units_and_fills_the_device(self):
        # Sequential writes of the whole device, read back through the file that it is.
        with tempfile.TemporaryDirectory() as folder:
            image = os.path.join(folder, "image")
            r = measure("--bdev", f"file://{image}?size=1MiB", "--rw", "write", "--bs", "64KiB",
                        "--iodepth", "1", *QUICK, "16")
            self.assertEqual((r["bs"], r["iodepth"], r["write_ios"]), (65536, 1, 16))
            with open(image, "rb") as written:
                blocks = written.read()
        self.assertEqual(len(blocks), 1 << 20)
        for at in range(0, len(blocks), 4096):
            self.assertTrue(any(blocks[at:at + 4096]), at)

    def test_runtime_ends_the_run(self):
        for mode in ("auto", "poll"):
            started = time.monotonic()
            r = measure("--bdev", NULL, "--runtime", "0.3", "--mode", mode)
            self.assertGreaterEqual(r["runtime_s"], 0.3)
            self.assertGreaterEqual(time.monotonic() - started, 0.3)
            self.assertLess(r["runtime_s"], 5)

    def test_precise_clock_measures_within_a_turn(self):
        # On the stamp of a turn an I/O of depth 1 takes whole turns; by the counter it takes what
        # it takes. Either is a time, and the I/Os are the same.
        for more in ((), ("--precise-clock",)):
            r = measure("--bdev", NULL, "--iodepth", "1", *QUICK, "5000", *more)
            self.assertEqual(r["total_ios"], 5000)
            self.assertGreater(r["lat_ns"]["mean"], 0)

    def test_await_does_each_io_in_a_coroutine_and_all_the_same_ones(self):
        mix = ("--bdev", "malloc:///m0?size=4MiB", "--rw", "randrw", "--rwmixread", "30", *QUICK,
               "5000", "--iodepth")
        for depth in ("1", "16"):
            plain, awaited = measure(*mix, depth), measure(*mix, depth, "--await")
            for key in ("total_ios", "read_ios", "write_ios", "errors"):
                self.assertEqual(plain[key], awaited[key], key)
            self.assertGreater(awaited["lat_ns"]["mean"], 0)
        done = nacre("perf", "--bdev", NULL, "--await", "--precise-clock")
        self.assertEqual(done.returncode, 2)

    def test_zcopy_borrows_the_same_blocks(self):
        # Of a device that lends its memory and of one that has none.
        for bdev in ("malloc:///m0?size=4MiB", "null:///n?size=4MiB"):
            mix = ("--bdev", bdev, "--rw", "randrw", "--rwmixread", "30", *QUICK, "5000",
                   "--iodepth", "16")
            plain, lent = measure(*mix), measure(*mix, "--zcopy")
            for key in ("total_ios", "read_ios", "write_ios", "errors"):
                self.assertEqual(plain[key], lent[key], key)
            self.assertTrue(lent["zcopy"])
        for other in (("--precise-clock",), ("--verify", "crc32c"), ("--rate_iops", "10")):
            done = nacre("perf", "--bdev", NULL, "--zcopy", *other)
            self.assertEqual(done.returncode, 2, other)


class Json(unittest.TestCase):
    def test_has_what_is_promised_and_it_adds_up(self):
        r = measure("--bdev", "malloc:///m0?size=16MiB", *QUICK, "20000", "--iodepth", "32")
        self.assertLessEqual({"iops", "bw_bytes", "lat_ns", "cpu_ns_per_io", "errors"}, set(r))
        self.assertAlmostEqual(r["iops"] * r["runtime_s"], 20000, delta=1)
        self.assertAlmostEqual(r["bw_bytes"] / r["iops"], 4096, delta=0.01)
        self.assertEqual(r["errors"], 0)
        self.assertGreater(r["cpu_ns_per_io"], 0)
        latency = r["lat_ns"]
        self.assertEqual(set(latency), {"mean", "p50", "p90", "p99", "p99_9", "max"})
        rising = [latency[name] for name in ("p50", "p90", "p99", "p99_9")]
        self.assertEqual(rising, sorted(rising))
        self.assertGreaterEqual(latency["max"] * 129 / 128, rising[-1])
        self.assertLessEqual(latency["mean"], latency["max"])
        # Little's law: as many are in flight as was asked for.
        self.assertAlmostEqual(latency["mean"] * 1e-9 * r["iops"], 32, delta=8)

    def test_latency_is_that_of_the_device(self):
        slow = config([("bdev_malloc_create", {"name": "m0", "num_blocks": 64, "block_size": 4096}),
                       ("bdev_delay_create",
                        {"name": "slow", "base_bdev_name": "m0", "avg_read_latency": 3000,
                         "p99_read_latency": 3000, "avg_write_latency": 3000,
                         "p99_write_latency": 3000})])
        with slow as path:
            r = measure("--config", path, "--bdev", "slow", "--iodepth", "1", *QUICK, "20")
        self.assertGreaterEqual(r["lat_ns"]["p50"], 2_950_000)  # microseconds were given

    def test_counts_errors_and_fails(self):
        broken = config([("bdev_malloc_create", {"name": "m0", "num_blocks": 64,
                                                 "block_size": 4096}),
                         ("bdev_error_create", {"base_name": "m0"}),
                         ("bdev_error_inject_error", {"name": "EE_m0", "io_type": "read",
                                                      "error_type": "failure", "num": 1})])
        with broken as path:
            done = nacre("perf", "--json", "--config", path, "--bdev", "EE_m0", "--iodepth", "1",
                         *QUICK, "10")
        self.assertEqual(done.returncode, 1)
        self.assertEqual(json.loads(done.stdout)["errors"], 1)
        self.assertRegex(done.stderr, r"EE_m0: 1 I/Os failed, the first with: \S")


class Config(unittest.TestCase):
    def test_makes_the_bdevs_that_are_named(self):
        with config([("bdev_null_create", {"name": "n7", "num_blocks": 1024,
                                           "block_size": 512})]) as path:
            r = measure("--config", path, "--bdev", "n7", *QUICK, "100", "--bs", "512")
            self.assertEqual((r["bdev"], r["total_ios"]), ("n7", 100))
            done = nacre("perf", "--config", path, "--bdev", "n8", *QUICK, "1")
            self.assertEqual(done.returncode, 1)
            self.assertIn("n8: no such bdev", done.stderr)

    def test_that_cannot_be_carried_out_says_where(self):
        with config([("bdev_null_create", {"name": "n7"})]) as path:
            done = nacre("perf", "--config", path, "--bdev", "n7", *QUICK, "1")
        self.assertEqual(done.returncode, 1)
        self.assertIn(os.path.basename(path), done.stderr)
        self.assertIn("num_blocks", done.stderr)
        done = nacre("perf", "--config", "/nonexistent.json", "--bdev", "n7", *QUICK, "1")
        self.assertEqual(done.returncode, 1)
        self.assertIn("/nonexistent.json", done.stderr)


class Refusals(unittest.TestCase):
    def test_one_sentence_and_status_2_or_1(self):
        for status, told, arguments in (
                (2, "--bdev", ()),
                (2, "--rw sideways", ("--bdev", NULL, "--rw", "sideways")),
                (2, "--bs", ("--bdev", NULL, "--bs", "many")),
                (2, "--runtime", ("--bdev", NULL, "--runtime", "soon")),
                (2, "--iodepth", ("--bdev", NULL, "--iodepth", "0")),
                (2, "--mode", ("--bdev", NULL, "--mode", "idle")),
                (2, "--no-such", ("--bdev", NULL, "--no-such")),
                (1, "--bs 100", ("--bdev", NULL, "--bs", "100")),
                (1, "--number_ios", ("--bdev", NULL, "--runtime", "0")),
                (1, "n9: no such bdev", ("--bdev", "n9"))):
            done = nacre("perf", *arguments)
            self.assertEqual(done.returncode, status, arguments)
            self.assertIn(told, done.stderr)
            self.assertEqual(done.stdout, "")


class Progress(unittest.TestCase):
    def run_on_terminal(self, *arguments):
        """What a terminal shows, and standard output."""
        ours, theirs = pty.openpty()
        with subprocess.Popen([NACRE, "perf", "--bdev", NULL, *arguments], stderr=theirs,
                              stdout=subprocess.PIPE, text=True) as running:
            os.close(theirs)
            shown = b""
            while True:
                try:
                    piece = os.read(ours, 4096)
                except OSError:  # EIO: the other side is closed
                    break
                if not piece:
                    break
                shown += piece
            os.close(ours)
            printed = running.stdout.read()
        self.assertEqual(running.returncode, 0)
        return shown.decode(), printed

    def test_lives_on_a_terminal_and_is_wiped_at_the_end(self):
        shown, printed = self.run_on_terminal("--runtime", "1.1")
        lines = re.findall(r"\r *([\d.]+) s +(\d+) ops +(\d+) IOPS", shown)
        self.assertGreaterEqual(len(lines), 2)
        seconds = [float(line[0]) for line in lines]
        operations = [int(line[1]) for line in lines]
        self.assertEqual(seconds, sorted(seconds))
        self.assertEqual(operations, sorted(operations))
        self.assertGreater(operations[-1], operations[0])
        self.assertRegex(shown, r"\r {50}\r$")
        self.assertNotIn("\n", shown)
        self.assertIn("IOPS", printed)
        self.assertNotIn("\r", printed)

    def test_is_silent_beside_json(self):
        shown, printed = self.run_on_terminal("--runtime", "0.5", "--json")
        self.assertEqual(shown, "")
        self.assertIn("iops", json.loads(printed))


class config:
    """A configuration of these bdev methods in a file, while the block lasts."""

    def __init__(self, methods):
        entries = [{"method": method, "params": params} for method, params in methods]
        self.file = tempfile.NamedTemporaryFile("w", suffix=".json")
        json.dump({"subsystems": [{"subsystem": "bdev", "config": entries}]}, self.file)
        self.file.flush()

    def __enter__(self):
        return self.file.name

    def __exit__(self, *_):
        self.file.close()


if __name__ == "__main__":
    unittest.main()
