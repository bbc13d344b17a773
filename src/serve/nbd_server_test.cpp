// SPDX-License-Identifier: BSD-3-Clause
//
// The server as its users meet it: exports, listeners, clients that come, go and misbehave.
#include <gtest/gtest.h>

#include "test_nbd.hpp"

namespace nacre::nbd {
namespace {

TEST(nbd_server, serves_one_bdev_under_several_names_at_one_socket) {
    fixture().run([](fixture& f) -> task<void> {
        outcome<> added = co_await f.add("tray0", "second", true);
        EXPECT_TRUE(added.has_value());
        test_client client(f);
        co_await client.begin();
        co_await client.send_option(option::list);
        auto listed = co_await client.answers();
        EXPECT_EQ(listed.size(), 3U);
        EXPECT_EQ(listed.at(0).second, text("tray0"));
        EXPECT_EQ(listed.at(1).second, text("second"));
        const auto infos = f.target.list();
        EXPECT_EQ(infos.size(), 2U);
        EXPECT_EQ(infos.at(0).uri, "nbd+unix:///tray0?socket=/nbd.sock");
        EXPECT_EQ(infos.at(1).size_bytes, 64U * 4096);
        EXPECT_TRUE(infos.at(1).readonly);
    });
}

TEST(nbd_server, refuses_exports_that_cannot_be_and_says_why) {
    fixture().run([](fixture& f) -> task<void> {
        outcome<> twice = co_await f.add("tray0", "tray0");
        EXPECT_TRUE(!twice && twice.error().code.is(EEXIST)) << "same name, same socket";
        outcome<> nothing = co_await f.add("tray9", "x");
        EXPECT_TRUE(!nothing && nothing.error().code.is(ENODEV));
        export_options nowhere;
        nowhere.bdev_name = "tray0";
        outcome<> placed = co_await f.target.add_export(nowhere);
        EXPECT_TRUE(!placed && placed.error().code.is(EINVAL));
        nowhere.unix_path = "/a";
        nowhere.address = "127.0.0.1:1";
        placed = co_await f.target.add_export(nowhere);
        EXPECT_TRUE(!placed && placed.error().code.is(EINVAL));
        nowhere.unix_path.reset();
        nowhere.address = "127.0.0.1:99999";
        placed = co_await f.target.add_export(nowhere);
        EXPECT_TRUE(!placed && placed.error().code.is(EINVAL));
        EXPECT_EQ(f.target.list().size(), 1U);
    });
}

TEST(nbd_server, listens_on_tcp_at_a_free_port_and_says_which) {
    fixture().run([](fixture& f) -> task<void> {
        export_options options;
        options.bdev_name = "tray0";
        options.address = "127.0.0.1:0";
        outcome<> added = co_await f.target.add_export(options);
        EXPECT_TRUE(added.has_value());
        const auto infos = f.target.list();
        EXPECT_EQ(infos.size(), 2U);
        EXPECT_TRUE(infos.at(1).address && !infos.at(1).address->ends_with(":0"));
        EXPECT_EQ(infos.at(1).uri, "nbd://" + *infos.at(1).address + "/tray0");
        export_selector which;
        which.export_name = "tray0";
        which.address = infos.at(1).address;
        outcome<> removed = co_await f.target.remove_export(which);
        EXPECT_TRUE(removed.has_value());
        EXPECT_EQ(f.target.list().size(), 1U);
    });
}

TEST(nbd_server, gives_the_calls_that_would_make_its_exports_again) {
    fixture().run([](fixture& f) -> task<void> {
        outcome<> added = co_await f.add("tray0", "second", true);
        EXPECT_TRUE(added.has_value());
        const json::array calls = f.target.configuration();
        EXPECT_EQ(calls.size(), 2U);
        EXPECT_EQ(calls.at(1).dump(),
                  R"({"method":"nbd_export_create","params":{"bdev_name":"tray0",)"
                  R"("export":"second","unix":"/nbd.sock","readonly":true,"description":""}})");
        const auto again = json::decode<export_options>(calls.at(1)["params"]);
        EXPECT_TRUE(again && again->export_name == "second" && again->readonly);
    });
}

TEST(nbd_server, removes_an_export_under_an_idle_client_and_the_socket_with_the_last_one) {
    fixture().run([](fixture& f) -> task<void> {
        test_client client(f);
        const bool went = co_await client.go("tray0");
        EXPECT_TRUE(went);
        EXPECT_EQ(f.target.list().at(0).connections, 1U);
        export_selector which;
        which.export_name = "tray0";
        outcome<> removed = co_await f.target.remove_export(which);
        EXPECT_TRUE(removed.has_value());
        EXPECT_EQ(f.target.connections(), 0U);
        const bool ended = co_await client.at_end();
        EXPECT_TRUE(ended);
        EXPECT_FALSE(f.outside.file_exists("/nbd.sock"));
        removed = co_await f.target.remove_export(which);
        EXPECT_TRUE(!removed && removed.error().code.is(ENOENT));
        outcome<> again = co_await f.add("tray0", "tray0");
        EXPECT_TRUE(again.has_value());
    });
}

TEST(nbd_server, answers_what_is_in_flight_before_an_export_goes) {
    fixture().run([](fixture& f) -> task<void> {
        test_client client(f);
        const bool went = co_await client.go("tray0");
        EXPECT_TRUE(went);
        f.tray->holds = true;
        co_await client.send(test_client::request(command::read, 1, 0, 4096));
        while (f.tray->held.empty()) co_await yield();
        scope side;
        export_selector which;
        which.export_name = "tray0";
        outcome<> removed;
        struct removal {
            static task<void> run(server& s, export_selector w, outcome<>& to) {
                to = co_await s.remove_export(std::move(w));
            }
        };
        side.spawn(removal::run(f.target, which, removed));
        result<> waited = co_await sleep_for(1'000'000);
        EXPECT_TRUE(waited.has_value());
        EXPECT_EQ(f.target.connections(), 1U) << "waits for the device";
        f.tray->let_go();
        auto answered = co_await client.any_reply();
        EXPECT_TRUE(answered && answered->first == 1 &&
                    answered->second.type == chunk::offset_data);
        result<> joined = co_await side.join();
        EXPECT_TRUE(joined && removed);
    });
}

TEST(nbd_server, closes_while_requests_arrive) {
    for (std::uint64_t seed = 1; seed <= 200; ++seed) {
        fixture({.seed = seed}).run([](fixture& f) -> task<void> {
            test_client client(f);
            const bool went = co_await client.go("tray0");
            EXPECT_TRUE(went);
            std::string requests;
            for (std::uint64_t i = 1; i <= 8; ++i)
                requests += test_client::request(command::read, i, 0, 4096);
            co_await client.send(std::move(requests));
            for (std::uint64_t turns = f.outside.dice().below(12); turns != 0; --turns)
                co_await yield();
            export_selector which;
            which.export_name = "tray0";
            outcome<> removed = co_await f.target.remove_export(which);
            EXPECT_TRUE(removed);
            EXPECT_EQ(f.target.connections(), 0U);
        });
    }
}

TEST(nbd_server, ends_exports_whose_bdev_is_removed_and_tells_their_clients) {
    fixture().run([](fixture& f) -> task<void> {
        test_client client(f);
        const bool went = co_await client.go("tray0");
        EXPECT_TRUE(went);
        f.tray->holds = true;
        // The second one waits in the stream behind a window of one.
        std::string both = test_client::request(command::write, 1, 0, 4096) +
                           std::string(4096, 'w') + test_client::request(command::read, 2, 0, 4096);
        co_await client.send(std::move(both));
        while (f.tray->held.empty()) co_await yield();
        std::shared_ptr<tray_bdev> kept(f.tray, [](tray_bdev*) {});
        scope side;
        struct removal {
            static task<void> run(fixture& of) {
                outcome<> removed = co_await of.registry.remove("tray0");
                EXPECT_TRUE(removed.has_value());
            }
        };
        side.spawn(removal::run(f));
        while (!f.target.list().empty()) co_await yield();
        f.tray->let_go();
        bool first = false;
        bool second = false;
        while (true) {
            auto answered = co_await client.any_reply();
            if (!answered) break;
            if (answered->first == 1) first = answered->second.code == wire_error::none;
            if (answered->first == 2) second = true;
        }
        EXPECT_TRUE(first);
        EXPECT_TRUE(second);
        result<> joined = co_await side.join();
        EXPECT_TRUE(joined.has_value());
        EXPECT_TRUE(f.target.list().empty());
        EXPECT_TRUE(f.target.configuration().empty());
    });
}

TEST(nbd_server, frees_everything_when_a_client_vanishes_in_the_middle_of_things) {
    for (std::uint64_t seed = 1; seed <= 20; ++seed) {
        fixture({.seed = seed}).run([](fixture& f) -> task<void> {
            for (unsigned stage = 0; stage < 7; ++stage) {
                test_client client(f);
                if (stage == 1) co_await client.begin();
                if (stage == 2) {
                    co_await client.begin();
                    co_await client.send("IHAVEOPT" + u32(7) + u32(100) + "part");
                }
                if (stage >= 3) {
                    const bool went = co_await client.go("tray0");
                    EXPECT_TRUE(went);
                }
                if (stage == 4)
                    co_await client.send(test_client::request(command::read, 1, 0, 4096).substr(9));
                if (stage == 5)  // a good part of a payload
                    co_await client.send(test_client::request(command::write, 1, 0, 65536) +
                                         std::string(30000, 'x'));
                if (stage == 6) {
                    f.tray->holds = true;
                    for (unsigned i = 0; i < 10; ++i)
                        co_await client.send(test_client::request(command::read, i, 0, 65536));
                    while (f.tray->held.empty()) co_await yield();
                }
                client.close();
                f.tray->let_go();
                while (f.target.connections() != 0) {
                    result<> slept = co_await sleep_for(1'000'000);
                    EXPECT_TRUE(slept.has_value());
                }
            }
            test_client last(f);
            const bool went = co_await last.go("tray0");
            EXPECT_TRUE(went) << "still serving";
        });
    }
}

TEST(nbd_server, disconnects_who_sends_garbage_at_any_stage_and_goes_on) {
    fixture().run([](fixture& f) -> task<void> {
        const std::string garbage(100, 'g');
        for (unsigned stage = 0; stage < 5; ++stage) {
            test_client client(f);
            if (stage == 0) {
                std::string greeting = co_await client.receive(greeting_bytes);
                co_await client.send(garbage);
            } else if (stage == 1) {
                co_await client.begin();
                co_await client.send(garbage);
            } else if (stage == 2) {
                co_await client.begin();
                co_await client.send("IHAVEOPT" + u32(3) + u32(option_bytes_max + 1));
            } else {
                const bool went = co_await client.go("tray0", stage == 3);
                EXPECT_TRUE(went);
                if (stage == 3)
                    co_await client.send(garbage);
                else
                    co_await client.send(
                        test_client::request(command::write, 1, 0, payload_bytes_max + 1));
            }
            const bool ended = co_await client.at_end();
            EXPECT_TRUE(ended) << "stage " << stage;
        }
        test_client last(f);
        const bool went = co_await last.go("tray0");
        EXPECT_TRUE(went);
    });
}

TEST(nbd_server, turns_clients_away_beyond_its_bound) {
    fixture_options options;
    options.bounds.connections_max = 2;
    fixture(options).run([](fixture& f) -> task<void> {
        test_client one(f), two(f);
        const bool first = co_await one.go("tray0");
        const bool second = co_await two.go("tray0");
        EXPECT_TRUE(first && second);
        {
            test_client three(f);
            const bool ended = co_await three.at_end();
            EXPECT_TRUE(ended);
        }
        two.close();
        while (f.target.connections() != 1) co_await yield();
        test_client four(f);
        const bool fourth = co_await four.go("tray0");
        EXPECT_TRUE(fourth);
    });
}

TEST(nbd_server, disconnects_who_does_not_finish_the_handshake) {
    fixture().run([](fixture& f) -> task<void> {
        test_client client(f);
        co_await client.begin();
        const std::uint64_t before = f.outside.monotonic_ns();
        const bool ended = co_await client.at_end();
        EXPECT_TRUE(ended);
        EXPECT_GE(f.outside.monotonic_ns() - before, 29'000'000'000U);
    });
}

TEST(nbd_server, closes_within_a_second_although_a_client_takes_no_replies) {
    fixture().run([](fixture& f) -> task<void> {
        test_client client(f);
        const bool went = co_await client.go("tray0");
        EXPECT_TRUE(went);
        for (unsigned i = 0; i < 8; ++i)
            co_await client.send(test_client::request(command::read, i, 0, 64 * 4096));
        result<> slept = co_await sleep_for(100'000'000);
        EXPECT_TRUE(slept.has_value());
        const std::uint64_t before = f.outside.monotonic_ns();
        co_await f.target.close();
        EXPECT_LE(f.outside.monotonic_ns() - before, 1'500'000'000U);
        outcome<> late = co_await f.add("tray0", "x");
        EXPECT_TRUE(!late && late.error().code.is(ESHUTDOWN));
    });
}

TEST(nbd_server, serves_exports_on_several_reactors) {
    fixture_options options;
    options.reactors = 3;
    fixture(options).run([](fixture& f) -> task<void> {
        outcome<> added = co_await f.add("tray0", "second");
        EXPECT_TRUE(added.has_value());
        added = co_await f.add("tray0", "third");
        EXPECT_TRUE(added.has_value());
        for (const char* name : {"tray0", "second", "third"}) {
            test_client client(f);
            const bool went = co_await client.go(name);
            EXPECT_TRUE(went);
            const reply r = co_await client.ask(command::write, 0, 4096, 0, std::string(4096, 'k'));
            EXPECT_EQ(r.code, wire_error::none);
            const reply back = co_await client.ask(command::read, 100, 10);
            EXPECT_EQ(back.data, std::string(10, 'k'));
        }
    });
}

}  // namespace
}  // namespace nacre::nbd
