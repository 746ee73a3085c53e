//! Holds the tree to its own rules: who may use whom, where `unsafe`, time and certain crates may stand,
//! how files begin and how long they get.
//!
//! Each rule is a function from a source to what it finds there. The first test runs them all over the
//! tree; the others show that each can fail. Comments and texts are blanked out before a rule looks at
//! code, so that words in them count only for the rules about words.

use std::fs;
use std::path::Path;

/// The modules at the root of the crate, and which others each may name. Every module may name itself.
const LAYERS: &[(&str, &[&str])] = &[
    ("limits", &[]),
    ("clock", BASE),
    ("constant_time", BASE),
    ("doorbell", BASE),
    ("etag", BASE),
    ("op", BASE),
    ("primitive", &[]),
    ("raw", BASE),
    ("memory", BASE),
    ("metrics", BASE),
    ("config", BASE),
    ("http", &["limits", "clock", "constant_time", "etag", "raw", "memory", "metrics"]),
    ("store", BASE),
    ("journal", &[BASE_AND, "store"]),
    ("shard", &[BASE_AND, "store", "journal"]),
    ("auth", &[BASE_AND, "config"]),
    ("api", &[BASE_AND, "http", "shard", "auth", "config"]),
    ("net", &[BASE_AND, "api", "http", "shard", "auth", "config"]),
    ("server", &[ALL]),
    ("cli", &[ALL]),
    ("main", &[ALL]),
    ("lib", &[ALL]),
];

const BASE: &[&str] =
    &["limits", "clock", "constant_time", "doorbell", "etag", "op", "primitive", "raw", "memory", "metrics"];

/// Stands for all of [`BASE`] in [`LAYERS`].
const BASE_AND: &str = "(base)";

/// Stands for every module in [`LAYERS`].
const ALL: &str = "(all)";

/// Crates that stand behind one module, and the files that may name them.
const CRATES: &[(&str, &[&str])] = &[
    ("mio", &["src/net/"]),
    ("rustls", &["src/net/tls/", "src/cli/client/trust.rs"]),
    ("rcgen", &["src/cli/certificate.rs"]),
    ("httparse", &["src/http/"]),
    ("hashbrown", &["src/store/"]),
    ("ring", &["src/auth/", "src/api/databases/", "src/cli/random.rs", "src/journal/seal.rs"]),
    ("argon2", &["src/config/password_hash.rs"]),
    ("serde_saphyr", &["src/config/"]),
    ("clap", &["src/cli/"]),
    ("listenfd", &["src/cli/"]),
    ("sd_notify", &["src/server/"]),
];

/// The only file that reads time.
const CLOCK: &str = "src/clock.rs";

/// The only folder with `unsafe` in it.
const RAW: &str = "src/raw/";

/// Longest file, without its tests. Above it, look whether it holds more than one concept.
const LINES_MAX: usize = 600;

/// Files that are longer, each with its reason beside it.
const LONG_FILES: &[&str] = &[];

/// Folders with sources of ours.
const FOLDERS: [&str; 4] = ["src", "tests", "benches", "loadtest"];

/// One file of the tree.
struct Source {
    /// From the root of the tree: `src/net/mod.rs`.
    path: String,
    text: String,
    /// The text with comments and literals blanked out.
    code: String,
    /// The text with everything but comments blanked out.
    comments: String,
}

/// What a rule found, as `path:line: what`.
type Findings = Vec<String>;

const RULES: &[fn(&Source) -> Findings] =
    &[layers, crates, time, unsafe_code, safety_comments, unfinished, module_docs, sleeps, lengths];

#[test]
fn the_tree_is_tidy() {
    let root = Path::new(env!("CARGO_MANIFEST_DIR"));
    let mut sources = Vec::new();
    FOLDERS.iter().for_each(|folder| collect(root, Path::new(folder), &mut sources));
    assert!(sources.len() > 10, "only {} sources found below {}", sources.len(), root.display());
    let findings: Findings =
        sources.iter().flat_map(|source| RULES.iter().flat_map(|rule| rule(source))).collect();
    assert!(findings.is_empty(), "\n{}\n", findings.join("\n"));
}

fn collect(root: &Path, folder: &Path, sources: &mut Vec<Source>) {
    let Ok(entries) = fs::read_dir(root.join(folder)) else { return };
    let mut names: Vec<_> = entries.map(|entry| entry.expect("an entry").file_name()).collect();
    names.sort();
    for path in names.iter().map(|name| folder.join(name)) {
        if root.join(&path).is_dir() {
            if !path.ends_with("target") {
                collect(root, &path, sources);
            }
        } else if path.extension().is_some_and(|extension| extension == "rs") {
            let text = fs::read_to_string(root.join(&path)).expect("a source");
            sources.push(Source::new(path.to_str().expect("a plain name"), &text));
        }
    }
}

impl Source {
    fn new(path: &str, text: &str) -> Source {
        let (code, comments) = separate(text);
        Source { path: path.into(), text: text.into(), code, comments }
    }

    fn is_program(&self) -> bool {
        self.path.starts_with("src/") && !self.path.ends_with("tests.rs")
    }

    /// The code without the tests at its end.
    fn program(&self) -> &str {
        let start = self.code.find("#[cfg(test)]\nmod tests {").unwrap_or(self.code.len());
        &self.code[..start]
    }

    /// The module at the root of the crate that the file belongs to.
    fn module(&self) -> &str {
        let name = self.path.trim_start_matches("src/").split('/').next().unwrap_or_default();
        name.trim_end_matches(".rs")
    }

    /// How far below the root of the crate the file's module is.
    fn depth(&self) -> usize {
        self.path.matches('/').count() - usize::from(self.path.ends_with("/mod.rs"))
    }

    fn finding(&self, at: usize, what: impl std::fmt::Display) -> String {
        format!("{}:{}: {what}", self.path, self.text[..at].matches('\n').count() + 1)
    }
}

/// A module names only those that the table allows it.
fn layers(source: &Source) -> Findings {
    if !source.is_program() {
        return Vec::new();
    }
    let Some((_, allowed)) = LAYERS.iter().find(|(module, _)| *module == source.module()) else {
        return vec![
            source.finding(0, format!("the module `{}` is not in the table of layers", source.module())),
        ];
    };
    let may = |name: &str| {
        let base = allowed.contains(&BASE_AND) && BASE.contains(&name);
        name == source.module() || base || allowed.contains(&ALL) || allowed.contains(&name)
    };
    let up = "super::".repeat(source.depth());
    let mut findings = Vec::new();
    for root in ["crate::", up.as_str()] {
        for at in words(source.program(), root) {
            // A longer way up goes above the root; a shorter one has been a match of its own.
            let names = first_names(&source.program()[at + root.len()..]);
            for name in names.iter().filter(|name| LAYERS.iter().any(|(module, _)| module == *name)) {
                if !may(name) {
                    findings.push(source.finding(at, format!("`{}` may not name `{name}`", source.module())));
                }
            }
        }
    }
    findings
}

/// The first segments of a path, of which a group in braces has several.
fn first_names(path: &str) -> Vec<String> {
    let name = |text: &str| -> String {
        text.trim_start().chars().take_while(|letter| letter.is_alphanumeric() || *letter == '_').collect()
    };
    let Some(group) = path.strip_prefix('{') else { return vec![name(path)] };
    let (mut depth, mut names, mut start) = (0, Vec::new(), 0);
    for (at, letter) in group.char_indices() {
        match letter {
            '{' => depth += 1,
            '}' if depth == 0 => {
                names.push(name(&group[start..at]));
                break;
            }
            '}' => depth -= 1,
            ',' if depth == 0 => {
                names.push(name(&group[start..at]));
                start = at + 1;
            }
            _ => {}
        }
    }
    names
}

/// A crate stands behind its module.
fn crates(source: &Source) -> Findings {
    let mut findings = Vec::new();
    for (name, files) in CRATES {
        if !source.path.starts_with("src/") || files.iter().any(|file| source.path.starts_with(file)) {
            continue;
        }
        for at in words(source.program(), name) {
            let (before, after) = (&source.program()[..at], &source.program()[at + name.len()..]);
            let is_path = after.starts_with("::") && !before.ends_with("::");
            let is_use = before.trim_end().ends_with("use") && !after.starts_with("::");
            if is_path || is_use {
                findings.push(source.finding(at, format!("{name} is only for {}", files.join(", "))));
            }
        }
    }
    findings
}

/// Time is read in one place.
fn time(source: &Source) -> Findings {
    let reads = ["Instant::now", "SystemTime::now", ".elapsed()", "clock_gettime"];
    if !source.is_program() || source.path == CLOCK {
        return Vec::new();
    }
    let program = source.program();
    reads
        .iter()
        .flat_map(|read| program.match_indices(read))
        .map(|(at, read)| source.finding(at, format!("`{read}`: time is read only in {CLOCK}")))
        .collect()
}

/// `unsafe` stands in one folder.
fn unsafe_code(source: &Source) -> Findings {
    if !source.path.starts_with("src/") || source.path.starts_with(RAW) {
        return Vec::new();
    }
    let uses =
        words(&source.code, "unsafe").chain(source.code.match_indices("allow(unsafe").map(|(at, _)| at));
    uses.map(|at| source.finding(at, format!("`unsafe` is only for {RAW}"))).collect()
}

/// Each unsafe block and implementation says on whose promise it rests.
fn safety_comments(source: &Source) -> Findings {
    if !source.path.starts_with(RAW) {
        return Vec::new();
    }
    let code: Vec<&str> = source.code.lines().collect();
    let comments: Vec<&str> = source.comments.lines().collect();
    let mut findings = Vec::new();
    for at in words(&source.code, "unsafe") {
        let rest = source.code[at + "unsafe".len()..].trim_start();
        if !rest.starts_with('{') && !rest.starts_with("impl") {
            continue;
        }
        let line = source.text[..at].matches('\n').count();
        let ends_statement = |line: &str| line.trim_end().ends_with([';', '{', '}']);
        // Up through the statement that the block is part of, and the comment above it.
        let begin = (0..line).rev().find(|line| ends_statement(code[*line])).map_or(0, |line| line + 1);
        let said =
            comments.get(begin..=line).is_some_and(|lines| lines.iter().any(|line| line.contains("SAFETY:")));
        if !said {
            findings.push(source.finding(at, "an unsafe block without a SAFETY comment"));
        }
    }
    findings
}

/// Nothing is left for later.
fn unfinished(source: &Source) -> Findings {
    let marks = [["TO", "DO"].concat(), ["FIX", "ME"].concat(), ["XX", "X"].concat()];
    let macros = ["todo!", "unimplemented!"];
    let marked = marks.iter().flat_map(|mark| {
        words(&source.comments, mark).map(move |at| (at, mark.as_str())).collect::<Vec<_>>()
    });
    let called = macros.iter().flat_map(|call| source.code.match_indices(call));
    marked.chain(called).map(|(at, mark)| source.finding(at, format!("`{mark}` in the tree"))).collect()
}

/// A file begins with what it owns.
fn module_docs(source: &Source) -> Findings {
    let exempt = source.path.starts_with("tests/fuzz/") || source.text.starts_with("//!");
    if exempt { Vec::new() } else { vec![source.finding(0, "the file does not begin with `//!`")] }
}

/// Nobody waits for time to pass.
fn sleeps(source: &Source) -> Findings {
    let call = if source.path.starts_with("tests/") { "sleep(" } else { "thread::sleep" };
    source
        .code
        .match_indices(call)
        .map(|(at, _)| source.finding(at, "wait for what is awaited, do not sleep"))
        .collect()
}

/// A file holds one concept.
fn lengths(source: &Source) -> Findings {
    let lines = source.program().lines().count();
    if !source.is_program() || lines <= LINES_MAX || LONG_FILES.contains(&source.path.as_str()) {
        return Vec::new();
    }
    vec![source.finding(0, format!("{lines} lines without tests, over {LINES_MAX}"))]
}

/// Where a word stands by itself. A word may end in `::`.
fn words<'t>(text: &'t str, word: &'t str) -> impl Iterator<Item = usize> + 't {
    let part = |letter: char| letter.is_alphanumeric() || letter == '_';
    text.match_indices(word).map(|(at, _)| at).filter(move |at| {
        let before = text[..*at].chars().next_back();
        let after = text[at + word.len()..].chars().next();
        // A word that ends in `::` is the beginning of a path, not its middle.
        let is_path = word.ends_with("::");
        let within = before.is_some_and(part) || is_path && text[..*at].ends_with("::");
        !within && (is_path || !after.is_some_and(part))
    })
}

/// Splits a source into its code and its comments. Both keep their place: what is not theirs is blank.
fn separate(text: &str) -> (String, String) {
    let (mut code, mut comments) = (String::with_capacity(text.len()), String::with_capacity(text.len()));
    let mut rest = text;
    while let Some(letter) = rest.chars().next() {
        let (length, is_comment, is_code) = if rest.starts_with("//") {
            (rest.find('\n').unwrap_or(rest.len()), true, false)
        } else if rest.starts_with("/*") {
            (block_comment(rest), true, false)
        } else if let Some(length) = literal(rest, code.chars().next_back()) {
            (length, false, false)
        } else {
            (letter.len_utf8(), false, true)
        };
        let (part, after) = rest.split_at(length);
        let blank: String = part
            .chars()
            .flat_map(|letter| if letter == '\n' { vec![letter] } else { vec![' '; letter.len_utf8()] })
            .collect();
        code.push_str(if is_code { part } else { &blank });
        comments.push_str(if is_comment { part } else { &blank });
        rest = after;
    }
    (code, comments)
}

fn block_comment(text: &str) -> usize {
    let (mut depth, mut at) = (0, 0);
    while at < text.len() {
        if text[at..].starts_with("/*") {
            depth += 1;
            at += 2;
        } else if text[at..].starts_with("*/") {
            depth -= 1;
            at += 2;
            if depth == 0 {
                return at;
            }
        } else {
            at += text[at..].chars().next().map_or(1, char::len_utf8);
        }
    }
    text.len()
}

/// The length of the text or character literal that begins here, if one does.
fn literal(text: &str, before: Option<char>) -> Option<usize> {
    let within_word = before.is_some_and(|letter| letter.is_alphanumeric() || letter == '_');
    let marks =
        if within_word { "" } else { &text[..text.len() - text.trim_start_matches(['b', 'c']).len()] };
    let marks = if marks.len() > 1 { "" } else { marks };
    let body = &text[marks.len()..];
    if let Some(raw) = body.strip_prefix('r').filter(|_| !within_word) {
        let hashes = raw.len() - raw.trim_start_matches('#').len();
        let open = raw[hashes..].strip_prefix('"')?;
        let end = format!("\"{}", "#".repeat(hashes));
        let length = open.find(&end).map_or(open.len(), |at| at + end.len());
        return Some(marks.len() + 1 + hashes + 1 + length);
    }
    if let Some(open) = body.strip_prefix('"') {
        return Some(marks.len() + 1 + quoted(open, '"'));
    }
    let open = body.strip_prefix('\'')?;
    // A lifetime has no closing quote behind its first letter.
    let mut letters = open.chars();
    let is_character = match letters.next()? {
        '\\' => true,
        _ => letters.next() == Some('\''),
    };
    is_character.then(|| marks.len() + 1 + quoted(open, '\''))
}

/// The length up to and with the closing quote.
fn quoted(text: &str, quote: char) -> usize {
    let mut escaped = false;
    for (at, letter) in text.char_indices() {
        match letter {
            _ if escaped => escaped = false,
            '\\' => escaped = true,
            letter if letter == quote => return at + letter.len_utf8(),
            _ => {}
        }
    }
    text.len()
}

/// Runs one rule over one snippet.
fn found(rule: fn(&Source) -> Findings, path: &str, text: &str) -> Findings {
    rule(&Source::new(path, text))
}

/// Asserts that a rule finds something in each bad snippet and nothing in each good one.
fn assert_rule(rule: fn(&Source) -> Findings, bad: &[(&str, &str)], good: &[(&str, &str)]) {
    for (path, text) in bad {
        assert_eq!(found(rule, path, text).len(), 1, "{path}: {text:?} should be found once");
    }
    for (path, text) in good {
        assert_eq!(found(rule, path, text), Findings::new(), "{path}: {text:?}");
    }
}

#[test]
fn a_module_that_names_one_above_it_is_found() {
    assert_rule(
        layers,
        &[
            ("src/http/request.rs", "use crate::op::Operation;"),
            ("src/http/mod.rs", "fn f() { crate::store::g() }"),
            ("src/store/mod.rs", "use crate::{limits, http::Request};"),
            ("src/store/mod.rs", "use crate::{\n    limits::{A, B},\n    http,\n};"),
            ("src/store/mod.rs", "use super::http;"),
            ("src/store/log.rs", "use super::super::http;"),
            ("src/limits.rs", "use crate::clock::Now;"),
            ("src/config/mod.rs", "use crate::auth::sign;"),
            ("src/shard/mod.rs", "pub(in crate::api) fn f() {}"),
            ("src/surprise.rs", ""),
            ("src/surprise/mod.rs", ""),
        ],
        &[
            ("src/http/request.rs", "use crate::limits::HEAD_BYTES_MAX; // not crate::op"),
            ("src/http/request.rs", "/// See [`crate::op::Operation`].\nuse crate::http::Field;"),
            ("src/store/log.rs", "use super::http; use crate::{clock::Now, op::{self, Key}};"),
            ("src/net/reactor.rs", "use crate::{api, http, shard, auth, config, limits, op};"),
            ("src/cli/mod.rs", "use crate::{server, net, store};"),
            ("src/http/mod.rs", "fn f() {}\n\n#[cfg(test)]\nmod tests {\n    use crate::store;\n}\n"),
            ("src/shard/apply_tests.rs", "use crate::api;"),
            ("tests/kv.rs", "use crate::store;"),
        ],
    );
}

#[test]
fn a_crate_outside_its_module_is_found() {
    assert_rule(
        crates,
        &[
            ("src/api/mod.rs", "use mio::Token;"),
            ("src/net/mod.rs", "let x = httparse::parse_chunk_size(b\"\");"),
            ("src/api/mod.rs", "use hashbrown::HashMap;"),
            ("src/config/mod.rs", "use ring;"),
            ("src/cli/init.rs", "use ring::rand::SystemRandom;"),
            ("src/auth/mod.rs", "type A = serde_saphyr::Spanned<u8>;"),
        ],
        &[
            ("src/net/mod.rs", "use mio::Token;"),
            ("src/api/mod.rs", "let s = string::x(); self.ring.push(1); shard::ring::f(); // mio::x"),
            ("src/auth/jwt.rs", "use ring::hmac;"),
            ("src/cli/random.rs", "use ring::rand::SystemRandom;"),
            ("tests/load.rs", "use mio::Poll;"),
        ],
    );
}

#[test]
fn time_read_outside_the_clock_is_found() {
    assert_rule(
        time,
        &[
            ("src/net/mod.rs", "let now = Instant::now();"),
            ("src/net/mod.rs", "let now = std::time::SystemTime::now();"),
            ("src/net/mod.rs", "let ms = started.elapsed().as_millis();"),
        ],
        &[
            ("src/clock.rs", "Instant::now()"),
            ("src/net/mod.rs", "// Instant::now() is slow\nlet s = \"SystemTime::now\";"),
            ("tests/kv.rs", "Instant::now()"),
        ],
    );
}

#[test]
fn unsafe_outside_its_folder_and_without_its_comment_is_found() {
    assert_rule(
        unsafe_code,
        &[("src/store/mod.rs", "unsafe { f() }"), ("src/store/mod.rs", "#![allow(unsafe_code)]")],
        &[
            ("src/raw/region.rs", "unsafe { f() }"),
            ("src/store/mod.rs", "#![deny(unsafe_code)] // unsafe\nconst A: &str = \"unsafe {\";"),
            ("tests/zero_alloc.rs", "unsafe impl GlobalAlloc for A {}"),
        ],
    );
    assert_rule(
        safety_comments,
        &[
            ("src/raw/a.rs", "fn f() {\n    unsafe { g() }\n}"),
            ("src/raw/a.rs", "// SAFETY: far away.\nfn f() {\n    h();\n    unsafe { g() }\n}"),
            ("src/raw/a.rs", "const S: &str = \"SAFETY:\"; unsafe impl Send for A {}"),
        ],
        &[
            ("src/raw/a.rs", "fn f() {\n    // SAFETY: `g` keeps it.\n    unsafe { g() }\n}"),
            (
                "src/raw/a.rs",
                "fn f() {\n    // SAFETY: kept,\n    // as said.\n    let x =\n        unsafe { g() };\n}",
            ),
            ("src/raw/a.rs", "/// # Safety\n/// Mind it.\npub unsafe fn f() {}"),
            ("src/raw/a.rs", "// SAFETY: no shared state.\nunsafe impl Send for A {}"),
        ],
    );
}

#[test]
fn what_is_left_for_later_is_found() {
    let (later, broken) = (["// TO", "DO: more"].concat(), ["/* FIX", "ME */"].concat());
    let call = ["to", "do!()"].concat();
    assert_rule(
        unfinished,
        &[("src/a.rs", &later), ("tests/a.rs", &broken), ("src/a.rs", &call)],
        &[("src/a.rs", "// a method, %XX, autodo\nlet s = \"mastodon\";")],
    );
}

#[test]
fn a_file_without_its_doc_a_sleep_and_a_long_file_are_found() {
    assert_rule(
        module_docs,
        &[("src/a.rs", "use std::fs;"), ("tests/a.rs", "\n//! Late.")],
        &[("src/a.rs", "//! Owns a."), ("tests/fuzz/fuzz_targets/head.rs", "#![no_main]")],
    );
    assert_rule(
        sleeps,
        &[
            ("tests/a.rs", "std::thread::sleep(Duration::from_secs(1));"),
            ("tests/common/mod.rs", "sleep(a);"),
            ("src/a.rs", "thread::sleep(a);"),
        ],
        &[("src/net/reactor.rs", "self.sleep(now);"), ("tests/a.rs", "// sleep(1)\nlet s = \"sleep(1)\";")],
    );
    let lines = |count: usize| "let x = 1;\n".repeat(count);
    let tests = format!("{}#[cfg(test)]\nmod tests {{\n{}}}\n", lines(LINES_MAX), lines(LINES_MAX));
    assert_rule(
        lengths,
        &[("src/a.rs", &lines(LINES_MAX + 1))],
        &[("src/a.rs", &lines(LINES_MAX)), ("src/a.rs", &tests), ("tests/a.rs", &lines(LINES_MAX + 1))],
    );
}

#[test]
fn code_and_comments_are_told_apart() {
    for (text, code, comments) in [
        ("a // b\nc", "a     \nc", "  // b\n "),
        ("a /* b /* c */ d */ e", "a                   e", "  /* b /* c */ d */  "),
        ("\"a // b\" c", "         c", "          "),
        (r##"r#"a " // b"# c"##, "              c", "               "),
        ("b\"x\" br\"y\" b'z' c", "                c", "                 "),
        ("'\\'' '\"' a: &'b str // c", "         a: &'b str     ", "                    // c"),
        ("\"\\\"\" a // é", "     a      ", "       // é"),
        ("for_b'a' r#type", "for_b    r#type", "               "),
    ] {
        assert_eq!(separate(text), (code.to_owned(), comments.to_owned()), "{text}");
    }
    let own = include_str!("tidy.rs");
    let (code, comments) = separate(own);
    assert!(
        code.len() == own.len() && comments.len() == own.len() && code.lines().count() == own.lines().count()
    );
}
