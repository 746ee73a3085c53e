//! Runs what documents say one should type, in one shell as a reader would, and compares what comes with
//! what they say will come.
//!
//! In a document, an ```` ```sh ```` block is typed, and a ```` ```text ```` block behind it is the
//! answer. A block without an answer must print nothing. In a verb's help, `  $ ` is typed and the lines
//! below it are the answer. `…` in an answer stands for anything within a line, alone on a line for any
//! number of lines; dates, entity tags, tokens and long numbers may differ. A comment before a block
//! changes that: `<!-- needs: PROGRAM -->` skips it where the program is not installed, `<!-- figures vary
//! -->` compares all but numbers, and `<!-- not run: WHY -->` is for what no test can do.

use std::io::{BufRead, BufReader, Write};
use std::net::TcpListener;
use std::os::unix::fs::PermissionsExt;
use std::path::Path;
use std::process::{Child, ChildStdin, Command, Stdio};
use std::sync::mpsc::{Receiver, channel};
use std::time::Duration;

use super::node::{Running, binary};

/// How long a block may take.
const PATIENCE: Duration = Duration::from_secs(60);

/// What is typed, and what is to come.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct Block {
    /// Where it stands.
    pub line: usize,
    /// What is typed.
    pub commands: String,
    /// What comes.
    pub answer: String,
    /// The program without which it is skipped.
    pub needs: Option<String>,
    /// Whether numbers may differ.
    pub figures_vary: bool,
    /// Why it is not run.
    pub not_run: Option<String>,
}

/// The blocks of a Markdown document.
pub fn blocks_of_document(text: &str) -> Vec<Block> {
    let mut blocks: Vec<Block> = Vec::new();
    let (mut marks, mut answerable) = (Block::default(), false);
    let mut lines = text.lines().enumerate();
    while let Some((at, line)) = lines.next() {
        if let Some(mark) = line.strip_prefix("<!-- ").and_then(|mark| mark.strip_suffix(" -->")) {
            match mark.split_once(": ") {
                Some(("needs", program)) => marks.needs = Some(program.into()),
                Some(("not run", why)) => marks.not_run = Some(why.into()),
                _ if mark == "figures vary" => marks.figures_vary = true,
                _ => panic!("line {}: the mark {mark:?} is not known", at + 1),
            }
        } else if let Some(language) = line.strip_prefix("```") {
            let body: String = lines
                .by_ref()
                .map(|(_, line)| line)
                .take_while(|line| *line != "```")
                .map(|line| format!("{line}\n"))
                .collect();
            match language {
                "sh" => {
                    blocks.push(Block { line: at + 1, commands: body, ..std::mem::take(&mut marks) });
                    answerable = true;
                }
                "text" if answerable => {
                    blocks.last_mut().expect("a block before").answer = body;
                    answerable = false;
                }
                _ => answerable = false,
            }
        } else if !line.trim().is_empty() {
            // Words between the two part an answer from its block unless they only introduce it.
            answerable &= line.ends_with(':') || !line.starts_with('#');
        }
    }
    blocks
}

/// The examples of a verb's help.
pub fn blocks_of_help(text: &str) -> Vec<Block> {
    let mut blocks: Vec<Block> = Vec::new();
    let examples = text.lines().enumerate().skip_while(|(_, line)| !line.starts_with("Example")).skip(1);
    for (at, line) in examples.take_while(|(_, line)| line.starts_with("  ") || line.is_empty()) {
        match line.strip_prefix("  $ ") {
            Some(command) => {
                blocks.push(Block { line: at + 1, commands: format!("{command}\n"), ..Block::default() });
            }
            None => {
                let block = blocks.last_mut().expect("a command before its answer");
                block.answer.push_str(&format!("{}\n", line.strip_prefix("  ").unwrap_or_default()));
            }
        }
    }
    for block in &mut blocks {
        block.answer = block.answer.trim_end().to_owned();
    }
    blocks
}

/// A shell in a folder of its own, where `lucid` is the program under test and listens on a free port
/// in place of 7020.
pub struct Session {
    folder: tempfile::TempDir,
    port: u16,
    shell: Child,
    typed: ChildStdin,
    said: Receiver<String>,
    server: Option<Running>,
    /// The last token that was shown in full.
    token: String,
    blocks: usize,
}

impl Session {
    /// Opens a shell.
    pub fn open() -> Session {
        let folder = tempfile::tempdir().expect("a temporary folder");
        let port = TcpListener::bind("127.0.0.1:0").expect("a free port").local_addr().expect("bound").port();
        let bin = folder.path().join("bin");
        for made in ["bin", "home", "etc/lucid"] {
            std::fs::create_dir_all(folder.path().join(made)).expect("a new folder");
        }
        let binary = binary().display().to_string();
        write_program(
            &bin.join("lucid"),
            &format!(
                "#!/bin/bash\nexport LUCID_URL=\"${{LUCID_URL:-http://127.0.0.1:{port}}}\"\n\
                 for word; do [ \"$word\" = server ] && export LUCID_GENERAL__PORT={port}; done\n\
                 exec -a lucid '{binary}' \"$@\"\n"
            ),
        );
        write_program(
            &bin.join("cargo"),
            "#!/bin/bash\n[ \"$1 $2 $3\" = 'run --release --' ] || { echo \"no such cargo: $*\"; exit 1; }\n\
             shift 3; exec lucid \"$@\"\n",
        );
        let mut shell = Command::new("bash");
        shell
            .args(["--noprofile", "--norc"])
            .stdin(Stdio::piped())
            .stdout(Stdio::piped())
            .stderr(Stdio::inherit());
        let mut shell = surrounded(shell, folder.path()).spawn().expect("bash");
        let typed = shell.stdin.take().expect("a pipe");
        let stdout = shell.stdout.take().expect("a pipe");
        let (sender, said) = channel();
        std::thread::spawn(move || {
            for line in BufReader::new(stdout).lines().map_while(Result::ok) {
                let _ = sender.send(line);
            }
        });
        Session { folder, port, shell, typed, said, server: None, token: String::new(), blocks: 0 }
    }

    /// Types a block and compares. Says what was skipped, and what is wrong.
    pub fn run(&mut self, block: &Block) -> Result<Option<String>, String> {
        if let Some(why) = &block.not_run {
            return Ok(Some(format!("line {} is not run: {why}", block.line)));
        }
        if let Some(program) = block.needs.as_ref().filter(|program| !is_installed(program)) {
            return Ok(Some(format!("line {} is skipped: {program} is not installed", block.line)));
        }
        let commands = self.localized(&block.commands);
        let (said, status) = match serves(&commands) {
            true => (self.serve(&commands, &block.answer)?, 0),
            false => self.type_in(&commands)?,
        };
        if let Some(token) = words(&said).find(|word| is_token(word)) {
            self.token = token.to_owned();
        }
        let said = self.generalized(&said);
        if !matches(&block.answer, &said, block.figures_vary) {
            return Err(format!(
                "line {}:\n{}\n--- should answer\n{}\n--- answered ({status})\n{said}\n",
                block.line, block.commands, block.answer
            ));
        }
        if block.answer.is_empty() && status != 0 {
            return Err(format!("line {}:\n{}\n--- ended with {status}", block.line, block.commands));
        }
        Ok(None)
    }

    /// Sets a variable of the shell.
    pub fn export(&mut self, name: &str, value: &str) {
        let (said, status) = self.type_in(&format!("export {name}='{value}'\n")).expect("a shell");
        assert_eq!((said.as_str(), status), ("", 0));
    }

    /// The folder that the shell is in.
    pub fn folder(&self) -> &Path {
        self.folder.path()
    }

    fn type_in(&mut self, commands: &str) -> Result<(String, i32), String> {
        self.blocks += 1;
        let script = self.folder.path().join(format!("bin/block-{}", self.blocks));
        let output = self.folder.path().join(format!("bin/block-{}.out", self.blocks));
        std::fs::write(&script, commands).expect("room for a file");
        let line = format!(
            "source '{}' > '{}' 2>&1 < /dev/null; echo \"ended $?\"\n",
            script.display(),
            output.display()
        );
        self.typed.write_all(line.as_bytes()).map_err(|error| format!("the shell has ended: {error}"))?;
        let ended = self.said.recv_timeout(PATIENCE).map_err(|_| {
            let so_far = std::fs::read_to_string(&output).unwrap_or_default();
            format!("{commands}\n--- does not end; so far:\n{so_far}")
        })?;
        let status = ended.strip_prefix("ended ").and_then(|status| status.parse().ok());
        let said = std::fs::read(&output).expect("the shell has made it");
        Ok((String::from_utf8_lossy(&said).into_owned(), status.ok_or(ended)?))
    }

    /// Starts a server in the place of the one before, and listens until it has said what it should.
    fn serve(&mut self, commands: &str, answer: &str) -> Result<String, String> {
        self.server = None;
        let mut command = Command::new("bash");
        command.args(["--noprofile", "--norc", "-c", &format!("exec {}", commands.trim())]);
        let mut running = Running::spawn(surrounded(command, self.folder.path()), &self.folder);
        let mut said = String::new();
        while !matches(answer, &self.generalized(&said), false) {
            let line = running.line_with("").map_err(|trouble| {
                format!("{commands}\n--- should say\n{answer}\n--- said\n{said}\n{trouble}")
            })?;
            said.push_str(&format!("{line}\n"));
        }
        self.server = Some(running);
        Ok(said)
    }

    /// What a document types, for this shell.
    fn localized(&self, commands: &str) -> String {
        let folder = self.folder.path().display();
        let short = ["-d5s", "-z 5s", "--duration 5s"]
            .into_iter()
            .fold(commands.to_owned(), |text, long| text.replace(long, &long.replace('5', "1")));
        let mut text = short
            .replace("7020", &self.port.to_string())
            .replace("/etc/lucid/", &format!("{folder}/etc/lucid/"));
        // A token that a document does not show in full is the one that was shown last.
        let short = text.find("eyJ").and_then(|at| {
            let end = at + text[at..].find('…')? + '…'.len_utf8();
            let shown = &text[at..end];
            (!self.token.is_empty() && !shown.contains(char::is_whitespace)).then_some(at..end)
        });
        if let Some(shown) = short {
            text.replace_range(shown, &self.token);
        }
        text
    }

    /// What this shell answered, as a document says it.
    fn generalized(&self, said: &str) -> String {
        let folder = self.folder.path().display().to_string();
        said.replace(&self.port.to_string(), "7020").replace(&folder, "")
    }
}

impl Drop for Session {
    fn drop(&mut self) {
        let _ = self.shell.kill();
        let _ = self.shell.wait();
    }
}

/// A command in the folder of a session, whose programs come first, without this process's `LUCID_*`.
fn surrounded(mut command: Command, folder: &Path) -> Command {
    for (name, _) in std::env::vars().filter(|(name, _)| name.starts_with("LUCID_")) {
        command.env_remove(name);
    }
    let path = std::env::var("PATH").unwrap_or_default();
    command.env("PATH", format!("{}:{path}", folder.join("bin").display()));
    command.env("HOME", folder.join("home")).env("NO_COLOR", "1").current_dir(folder);
    command
}

fn write_program(path: &Path, text: &str) {
    std::fs::write(path, text).expect("room for a file");
    std::fs::set_permissions(path, std::fs::Permissions::from_mode(0o755)).expect("a file of ours");
}

fn is_installed(program: &str) -> bool {
    let found = Command::new("sh").args(["-c", "command -v \"$0\""]).arg(program).output();
    found.is_ok_and(|output| output.status.success())
}

/// Whether a block starts a server, which does not end by itself.
fn serves(commands: &str) -> bool {
    let commands = commands.trim();
    let mut words = commands.split_whitespace();
    let program = words.next() == Some("lucid") || commands.starts_with("cargo run ");
    program && !commands.contains(['\n', '|', '&']) && words.any(|word| ["server", "api"].contains(&word))
}

fn words(text: &str) -> impl Iterator<Item = &str> {
    text.split(|letter: char| letter.is_whitespace() || "\"'=".contains(letter))
}

fn is_token(word: &str) -> bool {
    word.starts_with("eyJ") && word.matches('.').count() == 2
}

/// Whether what was said is what the answer says it would be.
pub fn matches(answer: &str, said: &str, figures_vary: bool) -> bool {
    let shape = |text: &str| -> Vec<String> {
        let text = plain(text);
        let line = |line: &str| match figures_vary {
            true => without_figures(line),
            false => line.trim_end().to_owned(),
        };
        // What tools add on a machine that is too busy for the load.
        let of_a_busy_machine =
            |line: &&str| ["unsent ", "  Socket errors: "].iter().any(|added| line.starts_with(added));
        let lines: Vec<String> = match figures_vary {
            true => text.lines().filter(|line| !of_a_busy_machine(line)).map(line).collect(),
            false => text.lines().map(line).collect(),
        };
        let length = lines.iter().rposition(|line| !line.is_empty()).map_or(0, |last| last + 1);
        lines[..length].to_vec()
    };
    lines_match(&shape(answer), &shape(said))
}

fn lines_match(answer: &[String], said: &[String]) -> bool {
    match answer {
        [] => said.is_empty(),
        [any, rest @ ..] if any.trim() == "…" => {
            (0..=said.len()).any(|skipped| lines_match(rest, &said[skipped..]))
        }
        [line, rest @ ..] => {
            said.first().is_some_and(|first| line_matches(line, first)) && lines_match(rest, &said[1..])
        }
    }
}

/// `…` stands for anything.
fn line_matches(line: &str, said: &str) -> bool {
    let mut parts = line.split('…');
    let first = parts.next().unwrap_or_default();
    let Some(mut rest) = said.strip_prefix(first) else { return false };
    let mut parts: Vec<&str> = parts.collect();
    let Some(last) = parts.pop() else { return rest.is_empty() };
    for part in parts {
        let Some(at) = rest.find(part) else { return false };
        rest = &rest[at + part.len()..];
    }
    rest.ends_with(last)
}

/// A text in which dates, tokens, entity tags and long numbers are all alike.
fn plain(text: &str) -> String {
    let mut result = String::with_capacity(text.len());
    let mut rest = text;
    while let Some(letter) = rest.chars().next() {
        let run = |within: fn(char) -> bool| rest.find(|letter| !within(letter)).unwrap_or(rest.len());
        let word = run(|letter| letter.is_ascii_alphanumeric());
        let date = "Sat, 21 Nov 2026 14:22:39 GMT";
        let (taken, shown) = if rest.starts_with("eyJ") {
            (run(|letter| letter.is_ascii_alphanumeric() || "-_.…".contains(letter)), "<token>")
        } else if rest.get(3..5) == Some(", ") && rest.get(date.len() - 4..date.len()) == Some(" GMT") {
            (date.len(), "<date>")
        } else if word >= 16 && rest[..word].bytes().all(|byte| byte.is_ascii_digit()) {
            (word, "<number>")
        } else if word == 24 && rest[..word].bytes().all(|byte| byte.is_ascii_hexdigit()) {
            (word, "<etag>")
        } else if word > 0 {
            (word, &rest[..word])
        } else {
            (letter.len_utf8(), &rest[..letter.len_utf8()])
        };
        result.push_str(shown);
        rest = &rest[taken..];
    }
    result
}

/// A line in which all numbers with their units are alike, and so is the room between words.
fn without_figures(line: &str) -> String {
    const UNITS: [&str; 14] =
        ["us", "ms", "s", "m", "k", "KiB", "MiB", "GiB", "B", "KB", "MB", "GB", "%", "M"];
    let figure = |word: &str| {
        let word = word.trim_end_matches([',', ':']);
        let digits = word.trim_start_matches(|letter: char| letter.is_ascii_digit() || ".,".contains(letter));
        digits.len() < word.len() && (digits.is_empty() || UNITS.contains(&digits))
    };
    let mut shown: Vec<&str> = Vec::new();
    for word in line.split_whitespace() {
        let unit = shown.last() == Some(&"#") && UNITS.contains(&word.trim_end_matches(','));
        if !unit {
            shown.push(if figure(word) { "#" } else { word });
        }
    }
    shown.join(" ")
}
