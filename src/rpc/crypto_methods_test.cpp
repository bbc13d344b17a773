// SPDX-License-Identifier: BSD-3-Clause
//
// Keys and encrypted bdevs by RPC: that no answer, no message and no saved configuration shows a
// key, and how a restart gets them.
#include <mutex>

#include "nacre/core/log.hpp"
#include "test_fixture.hpp"

namespace nacre::rpc {
namespace {

constexpr const char* first_half = "27182818284590452353602874713526";
constexpr const char* second_half = "31415926535897932384626433832795";

/// Everything that is logged, at every level and flag.
class log_capture {
public:
    log_capture() {
        EXPECT_TRUE(log::set_flag("all", true));
        log::set_level(log::level::debug);
        log::set_sink(
            [](void* self, log::level, std::string_view component, std::string_view text) noexcept {
                static_cast<log_capture*>(self)->take(component, text);
            },
            this);
    }
    log_capture(const log_capture&) = delete;
    log_capture& operator=(const log_capture&) = delete;
    ~log_capture() {
        log::set_sink(nullptr, nullptr);
        (void)log::set_flag("all", false);
        log::set_level(log::level::notice);
    }
    [[nodiscard]] const std::string& text() const noexcept { return text_; }

private:
    void take(std::string_view component, std::string_view text) {
        const std::lock_guard guard(mutex_);
        text_ += component;
        text_ += ": ";
        text_ += text;
        text_ += '\n';
    }
    std::mutex mutex_;
    std::string text_;
};

bool shows_a_key(std::string_view text) {
    for (const std::string_view half : {first_half, second_half})
        for (std::size_t at = 0; at + 8 <= half.size(); ++at)
            if (text.find(half.substr(at, 8)) != text.npos) return true;
    return false;
}

task<json::value> call(fixture& f, std::string method, std::string params) {
    outcome<json::value> given = json::parse(params);
    EXPECT_TRUE(given) << params;
    reply answered = co_await f.target.call(std::move(method), std::move(*given));
    co_return answered ? std::move(*answered) : answered.error().to_json();
}

/// {"name": NAME, "cipher": "AES_XTS", "key": FIRST, "key2": SECOND}
std::string key_params(std::string_view name, std::string_view first, std::string_view second) {
    return json::value(json::object{
                           {"name", name}, {"cipher", "AES_XTS"}, {"key", first}, {"key2", second}})
        .dump();
}

task<void> answers_as_spdk(fixture& f) {
    json::value got =
        co_await call(f, "accel_crypto_key_create", key_params("k", first_half, second_half));
    EXPECT_EQ(got, json::value(true));
    got = co_await call(f, "accel_crypto_key_create", key_params("k", first_half, second_half));
    EXPECT_EQ(got["code"], json::value(invalid_params));
    EXPECT_TRUE(got["message"].as_string()->starts_with("failed to create DEK, rc -17"));
    got = co_await call(f, "accel_crypto_key_create", key_params("l", first_half, first_half));
    EXPECT_TRUE(got["message"].as_string()->starts_with("failed to create DEK, rc -22"));
    got = co_await call(f, "accel_crypto_keys_get", R"({"key_name":"none"})");
    EXPECT_EQ(got["code"], json::value(invalid_params));
    EXPECT_TRUE(got["message"].as_string()->starts_with("key was not found"));
    got = co_await call(f, "accel_crypto_keys_get", "{}");
    EXPECT_EQ(got.dump(), R"([{"name":"k","cipher":"AES_XTS","tweak_mode":"SIMPLE_LBA"}])");

    got = co_await call(f, "bdev_null_create", R"({"name":"n","num_blocks":64,"block_size":512})");
    got = co_await call(f, "bdev_crypto_create",
                        R"({"base_bdev_name":"n","name":"c","key_name":"none"})");
    EXPECT_EQ(got["code"], json::value(invalid_params));
    EXPECT_TRUE(got["message"].as_string()->starts_with("Key was not found"));
    got = co_await call(f, "bdev_crypto_create", R"({"base_bdev_name":"n","name":"c"})");
    EXPECT_EQ(got["code"], json::value(internal_error));
    EXPECT_TRUE(got["message"].as_string()->starts_with("No key was found"));
    got = co_await call(f, "bdev_crypto_create",
                        R"({"base_bdev_name":"n","name":"c","key_name":"k"})");
    EXPECT_EQ(got, json::value("c"));
    got = co_await call(f, "bdev_crypto_create",
                        R"({"base_bdev_name":"n","name":"c","key_name":"k"})");
    EXPECT_EQ(got["code"], json::value(-EEXIST));
    got = co_await call(f, "accel_crypto_key_destroy", R"({"key_name":"k"})");
    EXPECT_EQ(got["code"], json::value(invalid_params)) << "it is in use";
    got = co_await call(f, "accel_crypto_key_destroy", R"({"key_name":"none"})");
    EXPECT_TRUE(got["message"].as_string()->starts_with("No key object found"));
    got = co_await call(f, "bdev_crypto_delete", R"({"name":"n"})");
    EXPECT_EQ(got["code"], json::value(-ENODEV));
    got = co_await call(f, "bdev_crypto_delete", R"({"name":"c"})");
    EXPECT_EQ(got, json::value(true));
    got = co_await call(f, "accel_crypto_key_destroy", R"({"key_name":"k"})");
    EXPECT_EQ(got, json::value(true));
}
TEST(rpc_crypto, answers_with_spdks_results_and_codes) { fixture().run(&answers_as_spdk); }

struct sample {
    const char* method;
    const char* params;  // {1} and {2} stand for the halves of the key
};
constexpr sample samples[] = {
    {"accel_crypto_key_create", R"({"name":"k","cipher":"AES_XTS","key":"{1}","key2":"{2}"})"},
    {"accel_crypto_key_create", R"({"name":"k","cipher":"AES_XTS","key":"{1}","key2":"{2}"})"},
    {"accel_crypto_key_create", R"({"name":"l","cipher":"AES_XTS","key":"{1}","key2":"{1}"})"},
    {"accel_crypto_key_create", R"({"name":"l","cipher":"AES_XTS","key":"{1}"})"},
    {"accel_crypto_key_create", R"({"name":"l","cipher":"AES_CBC","key":"{1}"})"},
    {"accel_crypto_key_create", R"({"name":"l","cipher":"AES_XTS","key":{1},"key2":"{2}"})"},
    {"accel_crypto_key_create", R"({"name":"l","cipher":"AES_XTS","key":["{1}"]})"},
    {"accel_crypto_key_create", R"({"name":"l","cipher":"AES_XTS","key":"{1}{2}{1}"})"},
    {"accel_crypto_key_create", R"({"cipher":"AES_XTS","key":"{1}","key2":"{2}"})"},
    {"accel_crypto_key_create", R"({"name":"l","cipher":"AES_XTS","key":"{1}x"})"},
    {"accel_crypto_key_load", R"({"name":"l","file":"/bad.key"})"},
    {"accel_crypto_key_load", R"({"name":"f","file":"/f.key"})"},
    {"accel_crypto_keys_get", "{}"},
    {"accel_crypto_keys_get", R"({"key_name":"{1}"})"},
    {"bdev_null_create", R"({"name":"n","num_blocks":64,"block_size":512})"},
    {"bdev_crypto_create", R"({"base_bdev_name":"n","name":"c","key_name":"{1}"})"},
    {"bdev_crypto_create", R"({"base_bdev_name":"n","name":"c","key":"{1}"})"},
    {"bdev_crypto_create",
     R"({"base_bdev_name":"n","name":"c","cipher":"AES_XTS","key":"{1}","key2":"{2}"})"},
    {"bdev_crypto_create",
     R"({"base_bdev_name":"n","name":"d","cipher":"AES_XTS","key":"{1}","key2":"{2}"})"},
    {"bdev_get_bdevs", "{}"},
    {"save_config", "{}"},
    {"accel_crypto_key_destroy", R"({"key_name":"k"})"},
    {"bdev_crypto_delete", R"({"name":"c"})"},
    {"accel_crypto_key_destroy", R"({"key_name":"f"})"},
};

std::string filled(std::string text) {
    for (const auto& [mark, half] : {std::pair{"{1}", first_half}, std::pair{"{2}", second_half}})
        for (std::size_t at = 0; (at = text.find(mark)) != text.npos;) text.replace(at, 3, half);
    return text;
}

task<void> shows_no_key(fixture& f) {
    const log_capture log;
    const std::string both = filled("{1} {2}");
    EXPECT_TRUE(f.outside.write_text("/f.key", both));
    EXPECT_TRUE(f.outside.write_text("/bad.key", both + both));
    for (const sample& s : samples) {
        const std::string request = R"({"jsonrpc":"2.0","id":7,"method":")" +
                                    std::string(s.method) + R"(","params":)" + filled(s.params) +
                                    "}";
        std::string answered = co_await f.ask(request);
        EXPECT_FALSE(shows_a_key(answered)) << s.method << s.params << " gave " << answered;
    }
    // Text that is no JSON just where the key stands.
    raw_client client(f);
    co_await client.send(filled(R"({"method":"accel_crypto_key_create","params":{"key" "{1}"}})"));
    std::string answered = co_await client.to_end();
    EXPECT_FALSE(shows_a_key(answered)) << answered;
    const outcome<configuration> broken = configuration::parse(
        filled(R"({"subsystems":[{"subsystem":"bdev","config":["{1}" "{2}"]}]})"), "nacre.json");
    EXPECT_FALSE(broken);
    EXPECT_FALSE(shows_a_key(broken.error().message)) << broken.error().message;
    EXPECT_FALSE(log.text().empty());
    EXPECT_FALSE(shows_a_key(log.text())) << log.text();
}
TEST(rpc_crypto, shows_no_key_in_answers_logs_messages_or_configuration) {
    fixture().run(&shows_no_key);
}

std::string saved_by_the_first;

task<void> is_saved(fixture& f) {
    EXPECT_TRUE(f.outside.write_text("/f.key", filled("{1}{2}\n")));
    json::value got =
        co_await call(f, "accel_crypto_key_create", key_params("k", first_half, second_half));
    got = co_await call(f, "accel_crypto_key_load", R"({"name":"f","file":"/f.key"})");
    EXPECT_EQ(got, json::value(true));
    for (const char* base : {"n", "m"}) {
        const std::string id =
            std::string("22b5352d-a22d-4c68-84d9-614d347073c") + (*base == 'n' ? "9" : "a");
        const json::object params{
            {"name", base}, {"num_blocks", 64}, {"block_size", 512}, {"uuid", id}};
        const std::string text = json::value(params).dump();
        got = co_await call(f, "bdev_null_create", text);
        EXPECT_EQ(got, json::value(base));
    }
    got = co_await call(f, "bdev_crypto_create",
                        R"({"base_bdev_name":"n","name":"by_file","key_name":"f"})");
    got = co_await call(f, "bdev_crypto_create",
                        R"({"base_bdev_name":"m","name":"by_request","key_name":"k"})");
    EXPECT_EQ(got, json::value("by_request"));
    saved_by_the_first = co_await save_text(f.here);
    EXPECT_FALSE(shows_a_key(saved_by_the_first)) << saved_by_the_first;
}

task<void> is_restarted(fixture& f) {
    EXPECT_TRUE(f.outside.write_text("/f.key", filled("{1}{2}\n")));
    outcome<configuration> saved = configuration::parse(saved_by_the_first, "saved");
    EXPECT_TRUE(saved);
    outcome<> applied = co_await apply(*saved, f.target);
    EXPECT_TRUE(applied) << applied.error().message;
    EXPECT_NE(f.registry.find("by_file"), nullptr);
    EXPECT_EQ(f.registry.find("by_request"), nullptr) << "its key is only expected";
    std::string again = co_await save_text(f.here);
    EXPECT_EQ(again, saved_by_the_first);
    json::value got =
        co_await call(f, "accel_crypto_key_create", key_params("k", first_half, second_half));
    EXPECT_EQ(got, json::value(true));
    EXPECT_NE(f.registry.find("by_request"), nullptr);
    again = co_await save_text(f.here);
    EXPECT_EQ(again, saved_by_the_first);
}

TEST(rpc_crypto, survives_a_restart_without_a_key_in_the_configuration) {
    fixture().run(&is_saved);
    fixture().run(&is_restarted);
}

}  // namespace
}  // namespace nacre::rpc
