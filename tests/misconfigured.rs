//! Whatever is wrong with a configuration, the node refuses it at once, with its place and the mend, and
//! ends with 78.

use std::ffi::OsString;
use std::fs;
use std::os::unix::ffi::OsStringExt;
use std::os::unix::fs::PermissionsExt;
use std::path::Path;
use std::process::{Command, Output, Stdio};
use std::time::{Duration, Instant};

/// The promise.
const PATIENCE: Duration = Duration::from_millis(100);

/// How often a case is tried that took longer: the machine may have been busy with something else.
const TRIES: usize = 20;

const SECRET: &str = "5ec2e7 of more than thirty-two bytes";

/// How `lucid.yml` comes to be.
enum File {
    /// A good secret and this.
    Text(String),
    /// Nothing but this.
    Bytes(Vec<u8>),
    Folder,
    Absent,
    /// A link that leads to itself.
    Loop,
    Socket,
}

/// What is wrong, and what is said about it: where, and what to do.
struct Case {
    name: &'static str,
    file: File,
    variable: Option<(&'static str, OsString)>,
    flags: &'static str,
    says: &'static [&'static str],
}

fn text(name: &'static str, text: impl Into<String>, says: &'static [&'static str]) -> Case {
    Case { name, file: File::Text(text.into()), variable: None, flags: "", says }
}

fn file(name: &'static str, file: File, says: &'static [&'static str]) -> Case {
    Case { name, file, variable: None, flags: "", says }
}

fn variable(name: &'static str, value: impl Into<OsString>, says: &'static [&'static str]) -> Case {
    Case { name, file: File::Text(String::new()), variable: Some((name, value.into())), flags: "", says }
}

fn bomb() -> String {
    let mut bomb = String::from("a0: &a0 [x, x, x, x, x, x, x, x, x, x]\n");
    for level in 1..20 {
        bomb.push_str(&format!("a{level}: &a{level} [{}]\n", format!("*a{}, ", level - 1).repeat(10)));
    }
    bomb
}

fn cases() -> Vec<Case> {
    let many: String = (0..20_000).map(|key| format!("k{key}: 1\n")).collect();
    vec![
        // Wrong types and values.
        text("a word for a number", "general: {port: http}", &["lucid.yml:2:17: general.port", "from 0 to 65535"]),
        text("a number too large", "general: {port: 65536}", &["lucid.yml:2:17: general.port", "from 0 to 65535"]),
        text("a negative number", "runtime: {workers: -1}", &["lucid.yml:2:20: runtime.workers", "from 0 to 128"]),
        text("a fraction", "http: {max_connections: 1.5}", &["lucid.yml:2:25: http.max_connections", "whole number"]),
        text("a number for a switch", "general: {show_banner: 1}", &["lucid.yml:2:24: general.show_banner", "true or false"]),
        text("a list for a value", "general: {port: [7020]}", &["lucid.yml:2:17: general.port", "single value"]),
        text("a section for a value", "store: {max_limit: {bytes: 1}}", &["lucid.yml:2:20: store.max_limit", "single value"]),
        text("a value for a section", "general: 7020", &["lucid.yml:2:10: general", "expected settings below"]),
        text("a word that is none of a few", "store: {when_full: evicts}", &["lucid.yml:2:20", "evict, reject", "mean evict?"]),
        text("an address with a port", "general: {bind_address: '127.0.0.1:1'}", &["lucid.yml:2:25", "a setting of its own"]),
        text("an origin with a path", "http: {cors_origins: [http://a, http://b/c]}", &["lucid.yml:2:22", "member 2", "without a path"]),
        text("an output there is not", "logging: {outputs: [syslog]}", &["lucid.yml:2:20", "stderr, stdout or file:PATH"]),
        text("an output without its file", "logging: {outputs: [{type: file}]}", &["lucid.yml:2:21", "needs a path"]),
        // Bad units.
        text("a unit with two meanings", "store: {memory_limit: 512MB}", &["lucid.yml:2:23: store.memory_limit", "KiB, MiB, GiB or TiB"]),
        text("a unit there is not", "store: {max_limit: 7 pages}", &["lucid.yml:2:20: store.max_limit", "such as 512MiB"]),
        text("a time in weeks", "http: {idle_timeout: 1w}", &["lucid.yml:2:22: http.idle_timeout", "such as 500ms"]),
        text("a time too long", "shutdown: {grace: 2h}", &["lucid.yml:2:19: shutdown.grace", "from 0 s to 1 h"]),
        text("half a second of leeway", "store: {default_ttl: 1500ms}", &["lucid.yml:2:22: store.default_ttl", "whole seconds"]),
        // Names.
        text("a key mistyped", "general: {prot: 7020}", &["lucid.yml:2:11: general.prot", "did you mean general.port?"]),
        text("a key of another section", "general: {workers: 1}", &["lucid.yml:2:11", "did you mean runtime.workers?"]),
        text("a section mistyped", "loging: {level: info}", &["lucid.yml:2:1: loging", "did you mean logging?"]),
        text("a key without its section", "port: 7020", &["lucid.yml:2:1: port", "did you mean general.port?"]),
        text("a key in capitals", "general: {PORT: 7020}", &["lucid.yml:2:11", "did you mean general.port?"]),
        // The document.
        text("a key twice", "general:\n  port: 1\n  port: 2", &["lucid.yml:4:3: `port` is given twice, first in line 3"]),
        text("a section twice", "sse: {}\nsse: {}", &["lucid.yml:3:1: `sse` is given twice, first in line 2"]),
        text("a tab", "general:\n\tport: 7020", &["lucid.yml:3:2: tabs", "indent with spaces"]),
        text("a bracket left open", "general: {port: 1", &["lucid.yml:2:"]),
        text("an alias of nothing", "general: {port: *nothing}", &["lucid.yml:2:17", "anchor", "goes into quotes"]),
        text("a merge key", "sse: &a {enabled: true}\nwebui:\n  <<: *a", &["lucid.yml:4:3", "write the keys out"]),
        text("two documents", "---\nsse: {}", &["lucid.yml:2:"]),
        text("a bomb", bomb(), &["than a configuration file may have"]),
        text("too deep", format!("sse: {}", "[".repeat(10_000)), &["than a configuration file may have"]),
        text("too many keys", many, &["than a configuration file may have"]),
        file("a list of sections", File::Bytes(b"- general\n- store\n".into()), &["lucid.yml: expected sections such as"]),
        file("an empty file", File::Bytes(Vec::new()), &["authentication.secret_key", "no secret", "`lucid init`"]),
        file("not UTF-8", File::Bytes(b"general: {port: \xff}".into()), &["lucid.yml: not UTF-8 text"]),
        file("UTF-16", File::Bytes(vec![0xff, 0xfe, b'a', 0]), &["lucid.yml: not UTF-8 text"]),
        file("a program", File::Bytes(b"\x7fELF\x02\x01\x01\x00\x00".into()), &["lucid.yml"]),
        file("a huge file", File::Bytes(vec![b'#'; 64 << 20]), &["lucid.yml: larger than 256 KiB"]),
        file("a folder", File::Folder, &["lucid.yml: this is a folder", "Docker"]),
        file("no file", File::Absent, &["Configuration file not found.", "`lucid -c lucid.yml init`"]),
        file("a link to itself", File::Loop, &["lucid.yml: cannot be read"]),
        file("a socket", File::Socket, &["lucid.yml: cannot be read"]),
        // Combinations.
        text("values over the memory", "store: {memory_limit: 64MiB, max_limit: 32MiB}\nruntime: {workers: 1}", &["lucid.yml:2:41: store.max_limit", "lower this to 16777216"]),
        text("workers over the memory", "store: {memory_limit: 8MiB}\nruntime: {workers: 4}", &["lucid.yml:2:23", "give at least 16777216"]),
        text("more memory than the machine", "store: {memory_limit: 8192TiB}", &["lucid.yml:2:23: store.memory_limit", "this machine or container has"]),
        text("persistence without a place", "persistence: {enabled: true}", &["lucid.yml:2:24: persistence.enabled", "no persistence.location", "/var/lib/lucid"]),
        text("a place that is no folder", "persistence: {enabled: true, location: lucid.yml}", &["persistence.location: lucid.yml is not a folder", "belongs to the node alone"]),
        text("a mode of syncing there is not", "persistence: {sync: every_second}", &["lucid.yml:2:21: persistence.sync", "always, everysec, never"]),
        text("encryption without a key", "persistence: {enabled: true, location: data}\nencryption: {enabled: true}", &["lucid.yml:3:23: encryption.enabled", "openssl rand -hex 32"]),
        text("a short private key", "persistence: {enabled: true, location: data}\nencryption: {enabled: true, private_key: short}", &["lucid.yml:3:42: encryption.private_key", "shorter than 32 bytes"]),
        text("the published private key", "persistence: {enabled: true, location: data}\nencryption: {enabled: true, private_key: '123456789012345678901234123456789012345678901234'}", &["lucid.yml:3:42: encryption.private_key", "published"]),
        text("two passwords", "databases: {password: a, password_hash: b}", &["lucid.yml:2:41: databases.password_hash", "keep one of the two"]),
        file("a door without a lock", File::Bytes(b"general: {bind_address: 0.0.0.0}\nauthentication: {enabled: false}\n".into()), &["lucid.yml:1:25: general.bind_address", "--insecure"]),
        file("a short secret", File::Bytes(b"authentication: {secret_key: secret}".into()), &["lucid.yml:1:30: authentication.secret_key", "shorter than 32 bytes"]),
        file("the published secret", File::Bytes(b"authentication: {secret_key: 03dfe6e600e2620388311955ab3bee32cd6cbb8aca75dace6cfc2e2a43db5dfd}".into()), &["lucid.yml:1:30", "published"]),
        // The environment and the flags.
        variable("LUCID_GENERAL__PROT", "1", &["LUCID_GENERAL__PROT", "did you mean LUCID_GENERAL__PORT?"]),
        variable("LUCID_GENERAL_PORT", "1", &["LUCID_GENERAL_PORT", "did you mean LUCID_GENERAL__PORT?"]),
        variable("LUCID_STORE__MEMORY_LIMIT", "1G", &["environment LUCID_STORE__MEMORY_LIMIT", "KiB, MiB, GiB or TiB"]),
        variable("LUCID_GENERAL__PORT_FILE", "/nonexistent/port", &["LUCID_GENERAL__PORT_FILE /nonexistent/port", "no such file"]),
        variable("LUCID_AUTHENTICATION__SECRET_KEY_FILE", "/dev/zero", &["LUCID_AUTHENTICATION__SECRET_KEY_FILE /dev/zero", "larger than 256 KiB"]),
        variable("LUCID_LOGGING__LEVEL", OsString::from_vec(vec![0xff]), &["LUCID_LOGGING__LEVEL", "not UTF-8"]),
        Case { flags: "--bind 127.0.0.1:7020", ..text("a flag with a port", "", &["--bind: general.bind_address", "a setting of its own"]) },
        Case { flags: "--workers 129", ..text("a flag out of bounds", "", &["--workers: runtime.workers", "from 0 to 128"]) },
    ]
}

fn write(folder: &Path, file: &File) {
    let path = folder.join("lucid.yml");
    let secret = format!("authentication: {{secret_key: {SECRET}}}\n");
    match file {
        File::Text(text) => fs::write(&path, secret + text).expect("a file"),
        File::Bytes(bytes) => fs::write(&path, bytes).expect("a file"),
        File::Folder => fs::create_dir(&path).expect("a folder"),
        File::Absent => return,
        File::Loop => std::os::unix::fs::symlink("lucid.yml", &path).expect("a link"),
        File::Socket => drop(std::os::unix::net::UnixListener::bind(&path).expect("a socket")),
    }
    if path.is_file() {
        fs::set_permissions(&path, fs::Permissions::from_mode(0o600)).expect("a mode");
    }
}

fn run(folder: &Path, case: &Case) -> (Output, Duration) {
    let mut command = Command::new(env!("CARGO_BIN_EXE_lucid"));
    command.args(["-c", "lucid.yml", "server"]).args(case.flags.split_whitespace());
    command.current_dir(folder).env_clear().env("HOME", folder).stdin(Stdio::null());
    command.envs(case.variable.iter().map(|(name, value)| (name, value)));
    let began = Instant::now();
    let output = command.output().expect("the program starts");
    (output, began.elapsed())
}

#[test]
fn every_misconfiguration_is_refused_at_once_with_its_place_and_the_mend() {
    let cases = cases();
    assert!(cases.len() >= 40, "{}", cases.len());
    let mut wrong = String::new();
    let mut slowest = (Duration::ZERO, "");
    for case in &cases {
        let folder = tempfile::tempdir().expect("a temporary folder");
        write(folder.path(), &case.file);
        let (output, mut elapsed) = run(folder.path(), case);
        for _ in 1..TRIES {
            if elapsed >= PATIENCE {
                elapsed = elapsed.min(run(folder.path(), case).1);
            }
        }
        slowest = slowest.max((elapsed, case.name));
        let stderr = String::from_utf8_lossy(&output.stderr);
        let said = case.says.iter().all(|words| stderr.contains(words));
        let named = stderr.lines().all(|line| line.starts_with("lucid: ")) && !stderr.contains(SECRET);
        let right = output.status.code() == Some(78) && output.stdout.is_empty() && said && named;
        if !right || elapsed >= PATIENCE {
            wrong.push_str(&format!(
                "{}: {:?} after {elapsed:?}\n{stderr}\n",
                case.name,
                output.status.code()
            ));
        }
    }
    println!("{} cases, the slowest took {slowest:?}", cases.len());
    assert!(wrong.is_empty(), "{wrong}");
}
