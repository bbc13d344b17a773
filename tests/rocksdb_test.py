#!/usr/bin/env python3
# SPDX-License-Identifier: BSD-3-Clause
#
# Debian's db_bench, ldb and sst_dump, unmodified, on a blobfs over a file bdev.

import json
import os
import re
import subprocess
import time
import unittest

import rocks

KEYS = 20000
# Small files, so that there are many of them.
SMALL = ("--write_buffer_size=1048576", "--target_file_size_base=1048576",
         "--max_bytes_for_level_base=4194304")
# What a process may change of the host's files: the image, and devices.
CHANGES = re.compile(r'\b(?:openat|open|creat|mkdir|mkdirat|rename|renameat|renameat2|link|linkat'
                     r'|symlink|symlinkat|unlink|unlinkat|truncate)\((.*)\) = \d')


def rates(printed):
    """Of db_bench's lines: benchmark, micros a operation."""
    return {name: float(micros) for name, micros in
            re.findall(r"^(\w+) +: +([\d.]+) micros/op", printed, re.MULTILINE)}


class tools(unittest.TestCase):
    def setUp(self):
        self.place = rocks.Place()
        self.addCleanup(self.place.scratch.cleanup)

    def bench(self, benchmarks, *more, **how):
        printed = self.place.run("db_bench", "--db=/db", f"--benchmarks={benchmarks}",
                                 f"--num={KEYS}", "--verify_checksum=true", *SMALL, *more, **how)
        asked = [name for name in benchmarks.split(",") if name not in ("stats", "compact")]
        for name in asked:
            if name != "verifychecksum":
                self.assertIn(name, rates(printed), printed)
        return printed

    def shell(self):
        """ldb, asking for commands: it has the database open."""
        shell = self.place.start("ldb", "--db=/db", "query", stdin=subprocess.PIPE,
                                 stdout=subprocess.PIPE, stderr=subprocess.STDOUT)
        shell.stdin.write("put held 1\n")
        shell.stdin.flush()
        self.assertIn("put held", shell.stdout.readline())
        return shell

    def assert_all_found(self, printed):
        found = re.findall(r"\((\d+) of (\d+) found\)", printed)
        self.assertTrue(found, printed)
        for there, asked in found:
            self.assertEqual(there, asked, printed)

    def test_db_bench_runs_to_the_end_and_its_data_stay(self):
        printed = self.bench("fillseq,readrandom,overwrite,readwhilewriting,seekrandom,compact,"
                             "verifychecksum,readrandom,stats")
        self.assert_all_found(printed)
        self.assertIn("Uptime", printed)
        again = self.bench("readrandom,readseq,readreverse,multireadrandom,verifychecksum",
                           "--use_existing_db")
        self.assert_all_found(again)
        self.assertEqual(os.listdir(self.place.folder), [])
        self.assertFalse(os.path.exists("/db"))

    def test_db_bench_runs_with_direct_io_and_reads_in_the_background(self):
        printed = self.bench("fillrandom,compact,readrandom,seekrandom,readseq,multireadrandom",
                             "--use_direct_reads", "--use_direct_io_for_flush_and_compaction",
                             "--async_io", "--cache_size=65536", "--seek_nexts=1000", "--reads=500",
                             "--multiread_batched=true", "--adaptive_readahead")
        self.assertIn("seekrandom", rates(printed))
        self.assert_all_found(self.bench("fillseq,compact,readrandom", "--use_direct_reads",
                                         "--cache_size=65536"))

    def test_db_bench_syncs_its_log(self):
        printed = self.place.run("db_bench", "--db=/db", "--num=300", "--sync",
                                 "--benchmarks=fillseq,fillrandom,overwrite,readrandom")
        self.assertEqual(len(rates(printed)), 4, printed)
        self.place.run("db_bench", "--db=/db", "--num=300", "--sync", "--threads=4",
                       "--benchmarks=fillrandom", "--wal_bytes_per_sync=4096",
                       "--bytes_per_sync=4096")

    def test_several_databases_share_a_store(self):
        self.place.run("db_bench", "--db=/many", "--num_multi_db=3", "--num=6000",
                       "--benchmarks=fillseq,readrandom")
        for number in range(3):
            kept = self.place.run("ldb", f"--db=/many/{number}", "dump", "--count_only")
            self.assertIn("Keys in range: 6000", kept)

    def test_ldb_and_sst_dump_read_and_write_it(self):
        def ldb(*arguments, **how):
            return self.place.run("ldb", "--db=/db", *arguments, **how)

        self.assertIn("OK", ldb("put", "a", "1", "--create_if_missing"))
        ldb("batchput", "b", "2", "c", "3")
        ldb("delete", "b")
        self.assertEqual(ldb("get", "a").strip(), "1")
        self.assertEqual(ldb("scan").split("\n")[:2], ["a : 1", "c : 3"])
        self.assertIn("Failed", ldb("get", "b", status=1))
        self.assertIn("OK", ldb("checkconsistency"))
        self.assertIn("default", ldb("list_column_families"))
        ldb("compact")
        self.assertIn("Keys in range: 2", ldb("dump", "--count_only"))
        self.assertIn("next_file_number", ldb("manifest_dump", "--verbose"))
        live = ldb("list_live_files_metadata")
        tables = re.findall(r"/?(\d+\.sst)", live)
        self.assertTrue(tables, live)
        ldb("checkpoint", "--checkpoint_dir=/copy")
        self.assertEqual(self.place.run("ldb", "--db=/copy", "get", "a").strip(), "1")

        def dump(*arguments):
            return self.place.run("sst_dump", *arguments)

        self.assertIn("'a' seq:0, type:1 => 1", dump(f"--file=/db/{tables[0]}", "--command=scan"))
        self.assertIn("The file is ok", dump("--file=/db", "--command=verify"))
        self.assertIn(tables[0], dump("--file=/db", "--command=check", "--show_properties"))
        self.assertEqual(os.listdir(self.place.folder), [])

    def test_nothing_of_the_database_touches_the_hosts_files(self):
        log = os.path.join(self.place.scratch.name, "strace.log")
        environment = self.place.environment()
        subprocess.run(
            ["strace", "-f", "-qq", "-o", log, "-e", "trace=%file", "-E",
             "LD_PRELOAD=" + environment.pop("LD_PRELOAD"), "db_bench", "--db=/db", "--num=3000",
             f"--fs_uri={self.place.uri}", "--benchmarks=fillrandom,compact,readrandom,stats",
             "--write_buffer_size=65536"],
            cwd=self.place.folder, env=environment, check=True, capture_output=True,
            timeout=rocks.PATIENCE_S)
        strays = []
        with open(log, encoding="utf-8", errors="replace") as lines:
            for line in lines:
                change = CHANGES.search(line)
                if not change or ("open" in line and "O_WRONLY" not in line
                                  and "O_RDWR" not in line and "O_CREAT" not in line):
                    continue
                if not any(place in change.group(1) for place in
                           (self.place.image, '"/dev/', '"/proc/self/task/')):
                    strays.append(line)
        self.assertEqual(strays, [])
        self.assertEqual(os.listdir(self.place.folder), [])
        self.assertEqual(sorted(os.listdir(self.place.scratch.name)),
                         ["disk.img", "empty", "strace.log"])

    def test_a_store_that_another_process_has_is_refused_with_who(self):
        self.bench("fillseq")
        with self.shell() as holder:
            try:
                for tool in (("ldb", "--db=/db", "scan"), ("sst_dump", "--file=/db"),
                             ("db_bench", "--db=/db", "--benchmarks=readseq")):
                    printed = self.place.run(*tool, status=1)
                    self.assertIn("in use by", printed)
                    self.assertIn(f"process {holder.pid} (ldb)", printed)
            finally:
                holder.kill()
        # The kernel may still have its last writes.
        self.assertIn("OK", self.place.run("ldb", "--db=/db", "checkconsistency"))

    def test_many_may_read_a_store_that_nobody_writes(self):
        self.bench("fillseq")
        reading = f"nacre://file://{self.place.image}?readonly=true"
        first = self.place.start("db_bench", "--db=/db", "--benchmarks=readrandom", "--readonly",
                                 "--duration=5", "--use_existing_db", f"--num={KEYS}", uri=reading,
                                 stdout=subprocess.PIPE, stderr=subprocess.STDOUT)
        with first:
            second = self.place.run("db_bench", "--db=/db", "--benchmarks=readrandom",
                                    "--readonly", "--use_existing_db", f"--num={KEYS}",
                                    uri=reading)
            self.assert_all_found(second)
            self.assert_all_found(first.communicate(timeout=rocks.PATIENCE_S)[0])

    def test_a_daemons_configuration_names_the_device(self):
        config = os.path.join(self.place.scratch.name, "nacre.json")
        devices = [{"method": "bdev_aio_create",
                    "params": {"name": "disk0", "filename": self.place.image, "size": 256 << 20}},
                   {"method": "bdev_split_create",
                    "params": {"base_bdev": "disk0", "split_count": 2}}]
        with open(config, "w", encoding="utf-8") as out:
            json.dump({"subsystems": [{"subsystem": "bdev", "config": devices}]}, out)
        for part in (0, 1):
            uri = f"nacre://{config}?bdev=disk0p{part}&mkfs=auto"
            self.place.run("ldb", "--db=/db", "put", "part", str(part), "--create_if_missing",
                           uri=uri)
        uri = f"nacre://{config}?bdev=disk0p0"
        self.assertEqual(self.place.run("ldb", "--db=/db", "get", "part", uri=uri).strip(), "0")

    def test_what_cannot_be_opened_is_said(self):
        for uri, words in ((f"nacre://file://{self.place.image}", "give size="),
                           ("nacre://nosuch:///x", "nosuch"),
                           ("nacre:///etc/none.json?bdev=b", "/etc/none.json"),
                           ("nacre://", "names no bdev")):
            printed = self.place.run("ldb", "--db=/db", "scan", uri=uri, status=1)
            self.assertIn(words, printed)

    def test_an_idle_program_leaves_the_processor_alone(self):
        self.bench("fillseq")
        with self.shell() as shell:
            def ticks():
                with open(f"/proc/{shell.pid}/stat", encoding="ascii") as stat:
                    fields = stat.read().rsplit(")", 1)[1].split()
                return int(fields[11]) + int(fields[12])

            before = ticks()
            time.sleep(2)
            self.assertLess(ticks() - before, 20)       # hundredths of a second
            shell.communicate("quit\n", timeout=rocks.PATIENCE_S)


if __name__ == "__main__":
    rocks.need()
    unittest.main()
