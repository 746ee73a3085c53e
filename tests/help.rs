//! Help, completions and the manual are there for every verb, and colour only where it is wanted.

mod common;

use common::cli::call;
use common::node::binary;
use std::process::Command;

const VERBS: [&str; 16] = [
    "init",
    "server",
    "api",
    "settings",
    "get",
    "put",
    "delete",
    "patch",
    "list",
    "execute",
    "token",
    "key",
    "app",
    "bench",
    "completions",
    "man",
];

#[test]
fn the_help_names_every_verb_and_every_exit_code() {
    let help = call(&["--help"]).said();
    for verb in VERBS {
        assert!(help.contains(&format!("\n  {verb} ")), "{verb}");
        assert!(!call(&[verb, "--help"]).said().contains("secret_key"), "{verb}");
    }
    for code in
        ["0 fine", "1 failed", "2 wrong usage", "3 absent", "4 refused", "5 conflict", "69", "77", "78"]
    {
        assert!(help.contains(code), "{code}");
    }
    assert!(help.lines().all(|line| line.chars().count() <= 100), "{help}");
}

#[test]
fn a_token_in_the_environment_is_in_no_help() {
    for verb in VERBS {
        let call =
            call(&[verb, "--help"]).variable("LUCID_TOKEN", "hush").variable("LUCID_URL", "http://private");
        let help = call.said();
        assert!(!help.contains("hush") && !help.contains("private"), "{help}");
    }
}

#[test]
fn every_shell_gets_completions_with_every_verb() {
    for shell in ["bash", "zsh", "fish", "powershell"] {
        let script = call(&["completions", shell]).said();
        for verb in VERBS {
            assert!(script.contains(verb), "{shell} {verb}");
        }
        assert!(script.contains("fencing-token"), "{shell}");
    }
    assert!(call(&["completions", "tcsh"]).failed(2).contains("bash"));
}

#[test]
fn bash_completes_verbs_and_flags() {
    let script = format!(
        "source <('{}' completions bash)\n\
         COMP_WORDS=(lucid ge); COMP_CWORD=1; _lucid lucid ge lucid; echo \"${{COMPREPLY[*]}}\"\n\
         COMP_WORDS=(lucid put k --ty); COMP_CWORD=3; _lucid lucid --ty k; echo \"${{COMPREPLY[*]}}\"\n\
         COMP_WORDS=(lucid patch k incr); COMP_CWORD=3; _lucid lucid incr k; echo \"${{COMPREPLY[*]}}\"\n",
        binary().display()
    );
    let output = Command::new("bash").args(["--norc", "-c", &script]).output().expect("bash");
    let said = String::from_utf8_lossy(&output.stdout);
    assert_eq!(said, "get\n--type\nincrement\n", "{}", String::from_utf8_lossy(&output.stderr));
}

#[test]
fn zsh_and_fish_take_their_completions_where_they_are_installed() {
    let folder = tempfile::tempdir().unwrap();
    for shell in ["zsh", "fish"] {
        std::fs::write(folder.path().join(shell), call(&["completions", shell]).said()).unwrap();
    }
    let zsh = "autoload -U compinit; compinit -u -D; source ./zsh && echo ${_comps[lucid]}";
    let fish = "source ./fish; complete -C 'lucid pat'; complete -C 'lucid token is'";
    for (shell, arguments, wanted) in [
        ("zsh", &["-f", "-c", zsh][..], "_lucid\n"),
        (
            "fish",
            &["-N", "-c", fish],
            "patch\tCount, lock or time a value where it lies\nissue\tSign a new token",
        ),
    ] {
        let mut command = Command::new(shell);
        command.args(arguments).current_dir(folder.path()).env("HOME", folder.path());
        match command.output() {
            Err(_) => println!("skipped: {shell} is not installed"),
            Ok(output) => {
                let said = String::from_utf8_lossy(&output.stdout);
                let stderr = String::from_utf8_lossy(&output.stderr);
                assert!(said.starts_with(wanted) && stderr.is_empty(), "{shell}: {said}{stderr}");
            }
        }
    }
}

#[test]
fn the_manual_has_a_page_of_every_verb() {
    let page = call(&["man"]).said();
    assert!(page.contains(".TH lucid 1") && page.contains("Exit codes"), "{page}");
    assert!(call(&["man", "get"]).said().contains(".TH lucid-get 1"));
    assert!(call(&["man", "token", "issue"]).said().contains(".TH lucid-token-issue 1"));
    assert!(call(&["man", "gte"]).failed(2).contains("there is no verb `gte`"));
    let folder = tempfile::tempdir().unwrap();
    call(&["man", "--dir", folder.path().to_str().unwrap()]).said();
    for verb in VERBS {
        let page = std::fs::read_to_string(folder.path().join(format!("lucid-{verb}.1"))).expect(verb);
        assert!(page.contains(".SH NAME"), "{verb}");
    }
    assert!(call(&["man", "--dir", "/proc/no"]).run().code.is_some_and(|code| code == 1 || code == 77));
}

#[test]
fn colour_is_for_terminals_that_want_it() {
    let has_script = Command::new("script").arg("--version").output().is_ok();
    if !has_script {
        return println!("skipped: script is not installed");
    }
    let on_a_terminal = |no_color: bool| {
        let mut command = Command::new("script");
        command.args(["-qec", &format!("'{}' --help", binary().display()), "/dev/null"]);
        command.env("TERM", "xterm-256color").env_remove("NO_COLOR");
        if no_color {
            command.env("NO_COLOR", "1");
        }
        String::from_utf8_lossy(&command.output().expect("script").stdout).into_owned()
    };
    assert!(on_a_terminal(false).contains("\u{1b}["));
    assert!(!on_a_terminal(true).contains("\u{1b}["));
    assert!(!call(&["--help"]).variable("TERM", "xterm-256color").said().contains('\u{1b}'));
}
