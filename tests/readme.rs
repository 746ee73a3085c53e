//! What the README and the help of every verb tell a reader to type does what they say it does.

mod common;

use common::node::binary;
use common::token;
use common::transcript::{Block, Session, blocks_of_document, blocks_of_help, matches};
use std::process::Command;

const README: &str = include_str!("../README.md");

/// Runs blocks in one session and panics with all that is wrong.
#[track_caller]
fn run(session: &mut Session, blocks: &[Block]) {
    let mut wrong = Vec::new();
    for block in blocks {
        match session.run(block) {
            Ok(None) => {}
            Ok(Some(skipped)) => println!("{skipped}"),
            Err(trouble) => wrong.push(trouble),
        }
    }
    assert!(wrong.is_empty(), "{}", wrong.join("\n"));
}

#[test]
fn everything_the_readme_says_to_type_does_what_it_says() {
    let blocks = blocks_of_document(README);
    assert!(blocks.len() > 10, "only {} blocks", blocks.len());
    let unrun: Vec<_> = blocks.iter().filter_map(|block| block.not_run.as_deref()).collect();
    assert!(unrun.len() <= 3, "too much is not run: {unrun:?}");
    run(&mut Session::open(), &blocks);
}

fn help(path: &[&str]) -> String {
    let output = Command::new(binary()).args(path).arg("--help").output().expect("the program");
    assert!(output.status.success() && output.stderr.is_empty(), "{path:?}");
    String::from_utf8(output.stdout).expect("text")
}

/// The verbs that a help lists.
fn verbs(help: &str) -> Vec<String> {
    let listed = help.lines().skip_while(|line| *line != "Commands:").skip(1);
    let names = listed.take_while(|line| line.starts_with("  ")).filter(|line| !line.starts_with("   "));
    names
        .filter_map(|line| line.split_whitespace().next())
        .filter(|name| *name != "help")
        .map(str::to_owned)
        .collect()
}

/// Every verb without verbs of its own.
fn leaves(path: &[&str]) -> Vec<Vec<String>> {
    let below = verbs(&help(path));
    match below.is_empty() {
        true => vec![path.iter().map(|name| (*name).to_owned()).collect()],
        false => below.iter().flat_map(|verb| leaves(&[path, &[verb.as_str()]].concat())).collect(),
    }
}

#[test]
fn every_example_of_every_help_does_what_it_says() {
    let leaves = leaves(&[]);
    assert!(leaves.len() >= 13, "{leaves:?}");
    for leaf in leaves {
        let path: Vec<&str> = leaf.iter().map(String::as_str).collect();
        let blocks = blocks_of_help(&help(&path));
        assert!(!blocks.is_empty(), "{path:?} has no example");
        // Every verb is tried by a reader who has a node and a token, and a picture.
        let mut session = Session::open();
        let folder = session.folder().to_owned();
        std::fs::write(folder.join("logo.png"), b"\x89PNG\r\n\x1a\n\0").expect("room for a file");
        session.export("LUCID_AUTHENTICATION__SECRET_KEY", token::SECRET);
        session.export("LUCID_TOKEN", &token::root());
        if !["server", "api", "init", "settings"].contains(&path[0]) {
            let line = "lucid server --port 7020".to_owned();
            let answer = "…\nlistening on http://127.0.0.1:7020\n…".into();
            let mut server = Block { commands: line, answer, ..Block::default() };
            std::fs::write(
                folder.join("lucid.yml"),
                format!("authentication:\n  secret_key: {}\n", token::SECRET),
            )
            .expect("room for a file");
            server.line = 0;
            run(&mut session, &[server]);
        }
        println!("{path:?}");
        run(&mut session, &blocks);
    }
}

/// The anchor of a heading, as a forge makes it.
fn anchor(heading: &str) -> String {
    let words = heading.trim_start_matches('#').trim().to_lowercase();
    let kept = words.chars().filter(|letter| letter.is_alphanumeric() || " -_".contains(*letter));
    kept.map(|letter| if letter == ' ' { '-' } else { letter }).collect()
}

#[test]
fn every_link_of_the_readme_leads_somewhere() {
    let root = std::path::Path::new(env!("CARGO_MANIFEST_DIR"));
    let links = README.split("](").skip(1).filter_map(|rest| rest.split(')').next());
    let local: Vec<&str> = links.filter(|link| !link.contains("://")).collect();
    assert!(local.len() > 5, "{local:?}");
    for link in local {
        let (path, wanted) = link.split_once('#').unwrap_or((link, ""));
        let path = if path.is_empty() { "README.md" } else { path };
        assert!(root.join(path).exists(), "{link}");
        if !wanted.is_empty() {
            let text = std::fs::read_to_string(root.join(path)).expect("a document");
            let mut headings = text.lines().filter(|line| line.starts_with('#'));
            assert!(headings.any(|heading| anchor(heading) == wanted), "{link}: there is no such heading");
        }
    }
}

#[test]
fn a_document_is_taken_apart_into_what_is_typed_and_what_comes() {
    let blocks = blocks_of_document(
        "# A\n```sh\none\n```\nsays:\n\n```text\n1\n```\n<!-- needs: wrk -->\n<!-- figures vary -->\n```sh\ntwo\nthree\n```\n\
         ```json\n{}\n```\n```text\nnobody's\n```\n<!-- not run: it is rude -->\n```sh\nfour\n```\n",
    );
    let block = |line, commands: &str, answer: &str| Block {
        line,
        commands: commands.into(),
        answer: answer.into(),
        ..Block::default()
    };
    let second = Block { needs: Some("wrk".into()), figures_vary: true, ..block(12, "two\nthree\n", "") };
    let third = Block { not_run: Some("it is rude".into()), ..block(23, "four\n", "") };
    assert_eq!(blocks, [block(2, "one\n", "1\n"), second, third]);
    let help = "Usage\n\nExample:\n  $ one\n  1\n  …\n  $ two\n\nThe end.\n  $ no\n";
    assert_eq!(blocks_of_help(help), [block(4, "one\n", "1\n…"), block(7, "two\n", "")]);
}

#[test]
#[should_panic(expected = "is not known")]
fn a_mistyped_mark_is_an_error() {
    blocks_of_document("<!-- need: wrk -->\n");
}

#[test]
fn answers_may_differ_in_what_must_differ_and_in_nothing_else() {
    for (answer, said) in [
        ("a\nb\n", "a\nb"),
        ("a … c", "a b b c"),
        ("…", ""),
        ("…", "a\nb"),
        ("a\n…\nc", "a\nb\nb\nc"),
        ("Date: Fri, 20 Nov 2026 19:17:21 GMT", "Date: Sat, 21 Nov 2026 01:02:03 GMT"),
        ("ETag: \"e312888b01a1fa64528f0000\"", "ETag: \"c9b9486701a1fe7ce2fe0000\""),
        ("token eyJ0eXAi…'", "token eyJhbGciOi.eyJz-_.x'"),
        ("X-Fencing-Token: 117650374081118208", "X-Fencing-Token: 117654877645111296"),
    ] {
        assert!(matches(answer, said, false), "{answer:?} {said:?}");
    }
    for (answer, said) in [
        ("a", "b"),
        ("a", ""),
        ("", "a"),
        ("a", "a\nb"),
        ("a\n…\nc", "a\nb"),
        ("a … c", "a b d"),
        ("42", "43"),
        ("Date: Fri, 20 Nov 2026 19:17:21 GMT", "Date: yesterday"),
        ("ETag: \"e312888b01a1fa64528f0000\"", "ETag: \"e312888b01a1\""),
    ] {
        assert!(!matches(answer, said, false), "{answer:?} {said:?}");
        assert!(!matches(answer, said, true) || answer == "42", "{answer:?} {said:?}");
    }
    let wrk = "  Thread Stats   Avg      Stdev\n    Latency   549.23us    1.2ms  97.1%\n  1,234 requests in 5.00s, 7.3MB read";
    let other = "  Thread Stats   Avg      Stdev\n    Latency    9.2ms   88.01us  9%\n  99 requests in 1.10s, 1.73MB read";
    assert!(matches(wrk, other, true) && !matches(wrk, other, false));
    assert!(matches("get 1.5 us 2 ms", "get   17 ms  4.1 us", true));
    assert!(!matches(wrk, &other.replace("requests", "errors"), true));
    assert!(matches("get 1", "get 2\n\nunsent   3   due but not sent", true));
    assert!(!matches("get 1", "get 1\n\nunsent   3   due but not sent", false));
}

#[test]
fn a_planted_error_is_caught() {
    let mut session = Session::open();
    let mut try_out = |commands: &str, answer: &str| {
        let block = Block { commands: commands.into(), answer: answer.into(), ..Block::default() };
        session.run(&block)
    };
    assert_eq!(try_out("x=1; echo one", "one"), Ok(None));
    assert_eq!(try_out("echo $x", "1"), Ok(None), "the blocks share a shell");
    assert!(try_out("echo one", "two").is_err(), "another answer");
    assert!(try_out("echo one", "").is_err(), "an answer where none is shown");
    assert!(try_out("true", "one").is_err(), "none where one is shown");
    assert!(try_out("false", "").is_err(), "a failure without a word");
    assert!(try_out("lucid gte x", "created").is_err(), "a verb that is not there");
    assert!(try_out("cargo run --release -- --version", "lucid 9.9.9").is_err(), "another version");
    assert_eq!(
        try_out("cargo run --release -- --version", &format!("lucid {}", env!("CARGO_PKG_VERSION"))),
        Ok(None)
    );
    assert!(try_out("lucid server --no-such-flag", "listening").is_err(), "a server that does not start");
    assert!(try_out("exit 3", "").is_err(), "a shell that ends");
}
