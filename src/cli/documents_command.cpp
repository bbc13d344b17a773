// SPDX-License-Identifier: BSD-3-Clause
//
// `nacre completion` and `nacre man`: what people want beside the program, generated from its own
// options and its table of methods, so that neither can be stale.
#include <fmt/format.h>
#include <fmt/ranges.h>

#include <CLI/CLI.hpp>
#include <algorithm>
#include <functional>
#include <memory>

#include "commands.hpp"
#include "known_methods.hpp"
#include "nacre/rpc/documents.hpp"

namespace nacre::cli {
namespace {

template <typename T>
bool every(const T*) {
    return true;
}

std::vector<const CLI::App*> commands_of(const CLI::App& app) {
    return app.get_subcommands(&every<CLI::App>);
}
std::vector<const CLI::Option*> options_of(const CLI::App& app) {
    return app.get_options(&every<CLI::Option>);
}

/// "-s --socket"; empty for what stands by position.
std::string names_of(const CLI::Option& option) {
    std::vector<std::string> names;
    for (const std::string& name : option.get_snames()) names.push_back("-" + name);
    for (const std::string& name : option.get_lnames()) names.push_back("--" + name);
    return fmt::format("{}", fmt::join(names, " "));
}

/// "case $1 in", one line for each of `words` that has any.
std::string bash_table(std::string_view function,
                       const std::vector<std::pair<std::string, std::string>>& words) {
    std::string text = fmt::format("{}() {{\n    case $1 in\n", function);
    for (const auto& [key, list] : words)
        if (!list.empty()) text += fmt::format("        {}) echo \"{}\" ;;\n", key, list);
    return text + "        *) ;;\n    esac\n}\n\n";
}

constexpr std::string_view bash_logic = R"bash(_nacre() {
    local cur=${COMP_WORDS[COMP_CWORD]} command='' method='' parameter='' skip='' i word
    COMPREPLY=()
    for ((i = 1; i < COMP_CWORD; i++)); do
        word=${COMP_WORDS[i]}
        if [[ $skip ]]; then
            skip=''
            continue
        fi
        case $word in
            -*) [[ " $(_nacre_valued "$command") " == *" $word "* ]] && skip=$word ;;
            =) ;;
            *)
                if [[ ! $command ]]; then
                    command=$word
                elif [[ ! $method ]]; then
                    method=$word
                fi
                ;;
        esac
    done
    # bash breaks words at =, unless COMP_WORDBREAKS says otherwise.
    if [[ $cur == '=' ]]; then
        parameter=${COMP_WORDS[COMP_CWORD - 1]} cur=''
    elif ((COMP_CWORD > 1)) && [[ ${COMP_WORDS[COMP_CWORD - 1]} == '=' ]]; then
        parameter=${COMP_WORDS[COMP_CWORD - 2]}
    fi
    local words=''
    if [[ $skip ]]; then
        compopt -o filenames 2>/dev/null
        mapfile -t COMPREPLY < <(compgen -f -- "$cur")
        return
    elif [[ $parameter ]]; then
        words=$(_nacre_values "$method.$parameter")
    elif [[ $cur == -* ]]; then
        words=$(_nacre_options "$command")
    elif [[ ! $command ]]; then
        words=$(_nacre_commands)
    elif [[ ! $method ]]; then
        words=$(_nacre_subjects "$command")
    elif [[ $command == rpc ]]; then
        compopt -o nospace 2>/dev/null
        words=$(_nacre_parameters "$method")
    fi
    mapfile -t COMPREPLY < <(compgen -W "$words" -- "$cur")
}
complete -o default -F _nacre nacre
)bash";

using word_table = std::vector<std::pair<std::string, std::string>>;

void add_words(std::string& to, std::string_view word) {
    if (word.empty()) return;
    if (!to.empty()) to += ' ';
    to += word;
}

/// With those of the commands within, each once.
void collect_options(const CLI::App& app, std::vector<std::string>& all,
                     std::vector<std::string>& with_value) {
    const auto once = [](std::vector<std::string>& to, const CLI::Option& option) {
        const std::string names = names_of(option);
        if (std::ranges::find(to, names) == to.end()) to.push_back(names);
    };
    for (const CLI::Option* option : options_of(app)) {
        once(all, *option);
        if (option->get_items_expected_max() != 0) once(with_value, *option);
    }
    for (const CLI::App* inner : commands_of(app)) collect_options(*inner, all, with_value);
}

void add_command(const CLI::App& app, const std::string& name, bool with_inner, word_table& options,
                 word_table& valued) {
    std::vector<std::string> names;
    std::vector<std::string> with_values;
    std::string all;
    std::string with_value;
    if (with_inner) collect_options(app, names, with_values);
    for (const CLI::Option* option : options_of(app)) {
        if (with_inner) break;
        names.push_back(names_of(*option));
        if (option->get_items_expected_max() != 0) with_values.push_back(names_of(*option));
    }
    for (const std::string& each : names) add_words(all, each);
    for (const std::string& each : with_values) add_words(with_value, each);
    options.emplace_back(name, all);
    valued.emplace_back(name, with_value);
}

std::string words_of(const json::value& parameter) {
    std::string words;
    if (const json::array* choices = parameter["choices"].if_array())
        for (const json::value& each : *choices) add_words(words, *each.as_string());
    if (parameter["type"] == json::value("boolean")) words = "true false";
    return words;
}

std::string bash_completion(const CLI::App& program, const rpc::method_table& known) {
    std::string commands;
    word_table options;
    word_table valued;
    add_command(program, "''", false, options, valued);
    word_table subjects{{"man", "nacre nacre-rpc"}, {"completion", "bash"}};
    for (const CLI::App* command : commands_of(program)) {
        add_words(commands, command->get_name());
        add_command(*command, command->get_name(), true, options, valued);
        std::string inner;
        for (const CLI::App* each : commands_of(*command)) add_words(inner, each->get_name());
        subjects.emplace_back(command->get_name(), inner);
    }
    std::string methods;
    word_table parameters;
    word_table values;
    for (const json::value& m : rpc::schemas(known)) {
        const std::string name(*m["method"].as_string());
        add_words(methods, name);
        std::string of_method;
        for (const json::value& p : *m["parameters"].if_array()) {
            const std::string parameter(*p["name"].as_string());
            add_words(of_method, parameter + "=");
            values.emplace_back(name + "." + parameter, words_of(p));
        }
        parameters.emplace_back(name, of_method);
    }
    subjects.emplace_back("rpc", methods);
    return "# bash completion of nacre, generated by `nacre completion bash`: do not edit.\n\n" +
           fmt::format("_nacre_commands() {{\n    echo \"{}\"\n}}\n\n", commands) +
           bash_table("_nacre_options", options) + bash_table("_nacre_valued", valued) +
           bash_table("_nacre_subjects", subjects) + bash_table("_nacre_parameters", parameters) +
           bash_table("_nacre_values", values) + std::string(bash_logic);
}

int print_completion(const CLI::App& program, const rpc::method_table& known,
                     const std::string& shell) {
    if (shell != "bash") {
        report_failure(shell + ": no completion for this shell; there is bash");
        return 2;
    }
    fmt::print("{}", bash_completion(program, known));
    return 0;
}

// --- Manual -------------------------------------------------------------------------------------

std::string manual_options(const CLI::App& app) {
    std::string text;
    for (const CLI::Option* option : options_of(app)) {
        const std::string names = names_of(*option);
        std::string heading = "\\fB" + rpc::roff(names.empty() ? "" : names) + "\\fR";
        const std::string type =
            option->get_items_expected_max() != 0
                ? (names.empty() ? option->get_name() : option->get_type_name())
                : "";
        if (!type.empty()) heading += (names.empty() ? "\\fI" : " \\fI") + rpc::roff(type) + "\\fR";
        text += fmt::format(".TP\n{}\n{}", heading, rpc::roff(option->get_description()));
        if (const std::string is = option->get_default_str(); !is.empty())
            text += rpc::roff(fmt::format(" ({} if absent)", is));
        text += "\n";
    }
    return text;
}

std::string manual_command(const CLI::App& command, const std::string& of) {
    const std::string name = of + " " + command.get_name();
    std::string text =
        fmt::format(".SS {}\n{}.\n", rpc::roff(name), rpc::roff(command.get_description()));
    text += manual_options(command);
    if (!command.get_footer().empty())
        text += ".PP\n.nf\n" + rpc::roff(command.get_footer()) + "\n.fi\n";
    for (const CLI::App* inner : commands_of(command)) text += manual_command(*inner, name);
    return text;
}

std::string manual(const CLI::App& program) {
    std::string text = fmt::format(
        ".TH NACRE 1 \"\" \"nacre {}\" \"nacre\"\n"
        ".SH NAME\nnacre \\- a user\\-space storage stack\n"
        ".SH SYNOPSIS\n.B nacre\n.I COMMAND\n.RI [ OPTIONS ]\n"
        ".SH DESCRIPTION\n{}\n.SH COMMANDS\n",
        NACRE_VERSION, rpc::roff(program.get_description()));
    for (const CLI::App* command : commands_of(program)) text += manual_command(*command, "nacre");
    return text +
           ".SH EXIT STATUS\n0: done. 1: failed; a sentence on standard error says why. 2: wrong "
           "usage.\n.SH SEE ALSO\n.BR nacre\\-rpc (7)\n";
}

int print_manual(const CLI::App& program, const rpc::method_table& known, const std::string& page) {
    if (page == "nacre") {
        fmt::print("{}", manual(program));
        return 0;
    }
    if (page == "nacre-rpc") {
        fmt::print("{}", rpc::manual_page(rpc::schemas(known), NACRE_VERSION));
        return 0;
    }
    report_failure(page + ": no such page; there are nacre and nacre-rpc");
    return 2;
}

}  // namespace

void add_documents(CLI::App& program, action& chosen, const bdev_kinds& kinds) {
    CLI::App& completion = *program.add_subcommand("completion", "Print a shell's completion");
    completion.footer("Example:\n  source <(nacre completion bash)");
    auto shell = std::make_shared<std::string>();
    completion.add_option("SHELL", *shell, "Which shell; bash")->required();
    completion.callback([&program, &chosen, shell, kinds] {
        chosen = [&program, shell, kinds] {
            return print_completion(program, known_methods(kinds).table(), *shell);
        };
    });

    CLI::App& man = *program.add_subcommand("man", "Print a manual page");
    man.footer("Example:\n  nacre man nacre-rpc | man -l -");
    auto page = std::make_shared<std::string>("nacre");
    man.add_option("PAGE", *page, "nacre, or nacre-rpc: the methods of `nacre rpc`")
        ->capture_default_str();
    man.callback([&program, &chosen, page, kinds] {
        chosen = [&program, page, kinds] {
            return print_manual(program, known_methods(kinds).table(), *page);
        };
    });
}

}  // namespace nacre::cli
