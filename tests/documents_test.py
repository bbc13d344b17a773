#!/usr/bin/env python3
# SPDX-License-Identifier: BSD-3-Clause
#
# What is generated from the options and the table of methods: completion, manual pages, schema, and
# the plug-in of SPDK's rpc.py, here without SPDK.

import argparse
import contextlib
import io
import json
import os
import re
import subprocess
import sys
import tempfile
import types
import unittest

from daemon import Client, Daemon, nacre, wait_until

ASK = """
source "$1"; shift
COMP_WORDS=("$@"); COMP_CWORD=$(($# - 1))
_nacre
printf '%s\\n' "${COMPREPLY[@]}"
"""


def generated(*arguments):
    done = nacre(*arguments)
    assert done.returncode == 0, done.stderr
    return done.stdout


class completion(unittest.TestCase):
    @classmethod
    def setUpClass(cls):
        cls.folder = tempfile.TemporaryDirectory()
        cls.script = os.path.join(cls.folder.name, "nacre")
        with open(cls.script, "w", encoding="utf-8") as out:
            out.write(generated("completion", "bash"))

    @classmethod
    def tearDownClass(cls):
        cls.folder.cleanup()

    def complete(self, *words):
        """What bash is offered for the last word. It breaks words at =."""
        done = subprocess.run(["bash", "-uc", ASK, "bash", self.script, "nacre", *words],
                              capture_output=True, text=True, check=True, timeout=60)
        self.assertEqual(done.stderr, "")
        return done.stdout.split()

    def test_commands_and_options(self):
        self.assertIn("serve", self.complete(""))
        self.assertEqual(self.complete("ser"), ["serve"])
        self.assertIn("--quickstart", self.complete("serve", "--"))
        self.assertEqual(self.complete("rpc", "--sock"), ["--socket"])
        self.assertEqual(self.complete("completion", ""), ["bash"])
        self.assertEqual(self.complete("blob", "che"), ["check"])
        self.assertIn("--remove-damaged", self.complete("blob", "check", "--"))

    def test_each_command_with_each_option_that_its_help_names(self):
        for command in self.complete(""):
            text = generated(command, "--help")
            if "SUBCOMMAND" in text:
                for inner in self.complete(command, ""):
                    text += generated(command, inner, "--help")
            for option in self.complete(command, "--"):
                self.assertIn(option, text)

    def test_methods_parameters_and_values(self):
        methods = [m["method"] for m in json.loads(generated("rpc", "--schema"))]
        self.assertEqual(sorted(self.complete("rpc", "")), sorted(methods))
        self.assertEqual(self.complete("rpc", "-s", "/socket", "bdev_null_r"),
                         ["bdev_null_resize"])
        self.assertEqual(self.complete("rpc", "bdev_null_resize", ""), ["name=", "new_size="])
        self.assertEqual(self.complete("rpc", "bdev_raid_create", "raid_level", "=", "c"),
                         ["concat"])
        self.assertEqual(self.complete("rpc", "bdev_raid_create", "superblock", "="),
                         ["true", "false"])

    def test_files_where_an_option_takes_a_value(self):
        self.assertEqual(self.complete("rpc", "-s", self.script), [self.script])


class manual(unittest.TestCase):
    def test_pages_are_well_formed(self):
        for page in ("nacre", "nacre-rpc"):
            done = subprocess.run(["groff", "-man", "-Tutf8", "-ww"], capture_output=True,
                                  text=True, input=generated("man", page), check=False, timeout=60)
            self.assertEqual(done.stderr, "")
            self.assertIn("NAME", re.sub(".\x08", "", done.stdout))  # less overstriking
        self.assertEqual(nacre("man", "no_such").returncode, 2)

    def test_pages_name_what_there_is(self):
        commands = generated("man", "nacre")
        for command in ("serve", "rpc", "perf", "blob", "blob check", "blob xattr set", "dd",
                        "tour", "sim", "man"):
            self.assertIn(f".SS nacre {command}\n", commands)
        self.assertIn("\\-\\-quickstart", commands)
        methods = generated("man", "nacre-rpc")
        for method in json.loads(generated("rpc", "--schema")):
            self.assertIn(f".SS {method['method']}\n", methods)


class schema(unittest.TestCase):
    def test_of_the_program_is_that_of_the_server(self):
        with Daemon() as d:
            here = json.loads(generated("rpc", "--schema"))
            self.assertEqual(here, json.loads(generated("rpc", "-s", d.socket, "--schema")))
            self.assertEqual(here, d.rpc("rpc_get_schema"))
        some = json.loads(generated("rpc", "--schema", "bdev_raid_"))
        self.assertEqual({m["method"][:10] for m in some}, {"bdev_raid_"})


class options(unittest.TestCase):
    def test_idempotent_and_dry_run(self):
        make = ("bdev_malloc_create", "name=m0", "num_blocks=8", "block_size=512")
        with Daemon() as d:
            self.assertEqual(d.rpc("--dry-run", *make)["would"], "create")
            self.assertEqual(d.rpc("bdev_get_bdevs"), [])
            for _ in range(2):
                self.assertEqual(d.rpc("--idempotent", *make), "m0")
            other = d.rpc("--idempotent", *make[:2], "num_blocks=9", "block_size=512")
            self.assertEqual(other.returncode, 1)
            self.assertIn("num_blocks 8, not 9", other.stderr)
            self.assertEqual(d.rpc("--dry-run", "--idempotent", *make)["would"], "nothing")
            # Any port will do, so the one that is there does.
            export = ("--idempotent", "nbd_export_create", "bdev_name=m0", "address=127.0.0.1:0")
            self.assertEqual(d.rpc(*export), d.rpc(*export))
            exports = d.rpc("nbd_get_exports")
            self.assertEqual(len(exports), 1)
            self.assertEqual(d.rpc(*export[:-1], "address=" + exports[0]["address"]),
                             exports[0]["uri"])


def load(text):
    module = types.ModuleType("generated")
    exec(compile(text, "generated", "exec"), module.__dict__)  # pylint: disable=exec-used
    return module


class Caller:
    """In the place of SPDK's client, whose call() it has."""

    def __init__(self, client):
        self.client = client

    def call(self, method, params):
        return self.client.call(method, **params)["result"]


class plugin(unittest.TestCase):
    """As rpc.py loads and calls it."""

    def type(self, parser, client, line):
        args = parser.parse_args(line.split())
        args.client = Caller(client)
        printed = io.StringIO()
        with contextlib.redirect_stdout(printed):
            args.func(args)
        return printed.getvalue()

    def test_has_what_rpc_py_lacks(self):
        parser = argparse.ArgumentParser()
        known = parser.add_subparsers(dest="called_rpc_name")
        known.add_parser("bdev_get_bdevs", help="rpc.py's own")
        load(generated("rpc", "--rpc-py-plugin")).spdk_rpc_plugin_initialize(known)
        self.assertEqual(set(known.choices),
                         {m["method"] for m in json.loads(generated("rpc", "--schema"))})
        self.assertNotIn("timeout", known.choices["bdev_get_bdevs"].format_help())
        for name, command in known.choices.items():
            self.assertTrue(command.format_help(), name)

    def test_calls_an_applications_methods(self):
        program = os.path.join(os.environ["NACRE_BUILD_DIR"], "example_rpc_methods")
        with tempfile.TemporaryDirectory() as folder:
            path = os.path.join(folder, "s")
            running = subprocess.Popen([program, path])
            try:
                self.assertTrue(wait_until(lambda: os.path.exists(path)))
                # `nacre rpc` asks the server for the types of what it does not know itself.
                done = nacre("rpc", "-s", path, "tally_create", "name=12", "labels=red", "start=1k")
                self.assertEqual((done.returncode, done.stdout), (0, "12\n"), done.stderr)
                self.assertEqual(generated("rpc", "-s", path, "tally_add", "name=12", "amount=1"),
                                 "1025\n")
                text = generated("rpc", "-s", path, "--rpc-py-plugin", "tally_")
                parser = argparse.ArgumentParser()
                load(text).spdk_rpc_plugin_initialize(parser.add_subparsers())
                with Client(path) as client:
                    self.assertEqual(self.type(parser, client, "tally_create -n a -l x,y"), "a\n")
                    self.assertEqual(self.type(parser, client, "tally_add a 0x10"), "16\n")
                    self.assertEqual(self.type(parser, client, "tally_wait a --amount 16"), "16\n")
                    self.assertEqual(self.type(parser, client, "tally_delete a"), "")
                for wrong in ("tally_add a many", "tally_add a 1 2", "tally_add a",
                              "tally_add a -1", "tally_create a --start 18446744073709551616"):
                    with self.assertRaises(SystemExit), contextlib.redirect_stderr(io.StringIO()):
                        self.type(parser, None, wrong)
            finally:
                running.terminate()
                self.assertEqual(running.wait(30), 0)


if __name__ == "__main__":
    sys.dont_write_bytecode = True
    unittest.main()
