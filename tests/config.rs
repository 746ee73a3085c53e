//! The command line from outside: what `init`, `settings` and `server` say, and the code they end with.
//!
//! Every run has a folder of its own as its working folder and its home, and an environment of its own.
//! `server` is only run with what it refuses; that it serves is for the other tests.

use std::fs::{self, Permissions};
use std::io::Write;
use std::os::unix::fs::{MetadataExt, PermissionsExt, chown};
use std::os::unix::process::CommandExt;
use std::path::Path;
use std::process::{Command, Output, Stdio};

const PUBLISHED: &str = "03dfe6e600e2620388311955ab3bee32cd6cbb8aca75dace6cfc2e2a43db5dfd";
const SECRET: &str = "5ec2e7 of more than thirty-two bytes";

/// A folder to run the program in.
struct Place {
    folder: tempfile::TempDir,
    variables: Vec<(&'static str, String)>,
}

/// How a run ended.
#[derive(Debug)]
struct Ended {
    code: i32,
    stdout: String,
    stderr: String,
}

impl Place {
    fn new() -> Place {
        Place { folder: tempfile::tempdir().expect("a temporary folder"), variables: Vec::new() }
    }

    fn with(text: &str) -> Place {
        let place = Place::new();
        place.write("lucid.yml", text);
        place
    }

    fn variable(mut self, name: &'static str, value: &str) -> Place {
        self.variables.push((name, value.into()));
        self
    }

    fn write(&self, name: &str, text: &str) {
        let path = self.folder.path().join(name);
        fs::create_dir_all(path.parent().expect("a folder")).expect("a folder");
        fs::write(&path, text).expect("a file");
        self.mode(name, 0o600);
    }

    fn mode(&self, name: &str, mode: u32) {
        fs::set_permissions(self.folder.path().join(name), Permissions::from_mode(mode)).expect("a mode");
    }

    fn read(&self, name: &str) -> String {
        fs::read_to_string(self.folder.path().join(name)).expect("a text file")
    }

    fn command(&self, program: &Path, arguments: &[&str]) -> Command {
        let mut command = Command::new(program);
        command.args(arguments).current_dir(self.folder.path()).env_clear().env("HOME", self.folder.path());
        command.envs(self.variables.iter().map(|(name, value)| (name, value))).stdin(Stdio::null());
        command
    }

    fn run(&self, arguments: &[&str]) -> Ended {
        ended(self.command(Path::new(env!("CARGO_BIN_EXE_lucid")), arguments).output())
    }

    /// Runs a line whose words are parted by blanks.
    fn line(&self, line: &str) -> Ended {
        self.run(&line.split(' ').collect::<Vec<_>>())
    }
}

fn ended(output: std::io::Result<Output>) -> Ended {
    let output = output.expect("the program starts");
    let text = |bytes| String::from_utf8(bytes).expect("text");
    let (stdout, stderr) = (text(output.stdout), text(output.stderr));
    let ended = Ended { code: output.status.code().unwrap_or(-1), stdout, stderr };
    assert!(ended.stderr.lines().all(|line| line.starts_with("lucid: ")), "{ended:?}");
    ended
}

impl Ended {
    /// Ended with this code, said this to the operator, and nothing to a script.
    fn refused(&self, code: i32, says: &str) {
        let right = self.code == code && self.stderr.contains(says) && self.stdout.is_empty();
        assert!(right, "{code} {says:?}: {self:?}");
    }
}

#[test]
fn init_writes_a_file_for_its_owner_alone_and_shows_the_token_once() {
    let place = Place::new();
    let ended = place.run(&["init"]);
    assert_eq!((ended.code, ended.stderr.as_str()), (0, ""));
    let file = fs::metadata(place.folder.path().join("lucid.yml")).expect("a file");
    assert_eq!(file.permissions().mode() & 0o777, 0o600);
    let text = place.read("lucid.yml");
    let secret = text.split('"').nth(1).expect("a secret");
    assert!(secret.len() == 64 && secret.bytes().all(|byte| b"0123456789abcdef".contains(&byte)), "{secret}");
    let tokens: Vec<_> = ended.stdout.lines().filter(|line| line.starts_with("eyJ")).collect();
    assert!(tokens.len() == 1 && tokens[0].split('.').count() == 3, "{}", ended.stdout);
    assert!(!text.contains(tokens[0]) && !ended.stdout.contains(secret));
    assert!(ended.stdout.trim_end().ends_with("lucid server"), "{}", ended.stdout);
    let check = place.run(&["settings", "--check"]);
    assert_eq!((check.code, check.stderr.as_str()), (0, ""));
}

#[test]
fn the_token_of_init_is_signed_with_the_text_of_its_secret() {
    let place = Place::new();
    let ended = place.run(&["-c", "own.yml", "init", "--secret", SECRET]);
    let token = ended.stdout.lines().find(|line| line.starts_with("eyJ")).expect("a token");
    let rules = jsonwebtoken::Validation::new(jsonwebtoken::Algorithm::HS256);
    let key = jsonwebtoken::DecodingKey::from_secret(SECRET.as_bytes());
    let claims =
        jsonwebtoken::decode::<serde_json::Value>(token, &key, &rules).expect("a valid token").claims;
    assert_eq!(claims["sub"], "Lucid Root Token");
    let lifetime = claims["exp"].as_u64().expect("exp") - claims["iat"].as_u64().expect("iat");
    assert_eq!(lifetime, 3 * 52 * 7 * 86_400);
    assert!(ended.stdout.contains("--config own.yml server"), "{}", ended.stdout);
}

#[test]
fn init_keeps_what_is_there_unless_forced() {
    let place = Place::new();
    assert_eq!(place.run(&["init"]).code, 0);
    let first = place.read("lucid.yml");
    let again = place.run(&["init"]);
    again.refused(1, "lucid: The Lucid node has already been initialized.\n");
    assert!(again.stderr.contains("init --force"), "{}", again.stderr);
    assert_eq!(place.read("lucid.yml"), first);
    assert_eq!(place.run(&["init", "--force"]).code, 0);
    assert_ne!(place.read("lucid.yml"), first);
    assert_eq!(fs::read_dir(place.folder.path()).expect("a folder").count(), 3);
}

#[test]
fn init_makes_a_certificate_whose_key_is_for_its_owner_alone() {
    let place = Place::new();
    let mode =
        |name| fs::metadata(place.folder.path().join(name)).expect("a file").permissions().mode() & 0o777;
    let said = place.run(&["init"]).stdout;
    assert!(said.contains("--cacert") && said.contains("lucid-cert.pem"), "{said}");
    assert_eq!((mode("lucid-key.pem"), mode("lucid-cert.pem") & 0o400), (0o600, 0o400));
    let first = place.read("lucid-key.pem");
    assert!(first.starts_with("-----BEGIN PRIVATE KEY-----"));
    // Found from anywhere, and refused when it is not what it was.
    let elsewhere = tempfile::tempdir().expect("a folder");
    let config = place.folder.path().join("lucid.yml");
    let check = |folder: &Path| {
        let mut command = place.command(Path::new(env!("CARGO_BIN_EXE_lucid")), &["-c"]);
        ended(command.arg(&config).args(["settings", "--check"]).current_dir(folder).output())
    };
    assert_eq!(check(elsewhere.path()).code, 0);
    fs::remove_file(&config).expect("a file");
    // A pair that is there is somebody's.
    place.run(&["init"]).refused(1, "lucid-key.pem is there, and init does not replace it");
    assert!(!config.exists() && place.read("lucid-key.pem") == first);
    assert_eq!(place.run(&["init", "--force"]).code, 0);
    assert_ne!(place.read("lucid-key.pem"), first);
    assert_eq!(check(elsewhere.path()).code, 0);
    fs::write(place.folder.path().join("lucid-key.pem"), &first).expect("room");
    check(elsewhere.path()).refused(78, "this private key does not belong to the certificate");
    fs::remove_file(place.folder.path().join("lucid-cert.pem")).expect("a file");
    check(elsewhere.path()).refused(78, "lucid-cert.pem: the file is not there");
}

#[test]
fn init_refuses_a_secret_that_is_none() {
    for (secret, says) in [("", "empty"), ("secret", "shorter than 32 bytes"), (PUBLISHED, "published")] {
        let place = Place::new();
        place.run(&["init", "-s", secret]).refused(2, says);
        assert!(!place.folder.path().join("lucid.yml").exists());
    }
}

#[test]
fn init_says_when_there_is_no_folder_to_write_to() {
    Place::new().line("-c no/such/lucid.yml init").refused(1, "its folder is not there");
}

#[test]
fn a_line_that_is_no_call_ends_with_2() {
    let place = Place::new();
    for (line, says) in [
        ("sever", "'server'"),
        ("server --port 65536", "65535"),
        ("server --port http", "http"),
        ("server --workers=-1", "-1"),
        ("server --log-format xml", "text, json"),
        ("settings --chek", "--check"),
        ("init --config", "--config"),
    ] {
        place.line(line).refused(2, says);
    }
}

#[test]
fn of_a_flag_given_twice_the_last_one_counts() {
    Place::new().line("-c a -c b settings").refused(78, "lucid: b: ");
}

#[test]
fn help_has_an_example_for_each_verb_and_the_version_is_one_line() {
    let place = Place::new();
    for line in ["--help", "-h", "help", "init --help", "server -h", "help settings"] {
        let ended = place.line(line);
        assert!(ended.code == 0 && ended.stdout.contains("Example") && ended.stderr.is_empty(), "{ended:?}");
    }
    let version = place.run(&["-V"]);
    assert_eq!((version.code, version.stdout), (0, format!("lucid {}\n", env!("CARGO_PKG_VERSION"))));
    let nothing = Command::new(env!("CARGO_BIN_EXE_lucid")).output().expect("the program starts");
    assert_eq!(nothing.status.code(), Some(2));
    assert!(String::from_utf8_lossy(&nothing.stderr).contains("Usage: lucid"));
}

#[test]
fn mistakes_in_the_file_end_with_78_and_are_all_named() {
    let text = "general:\n  prot: 7020\n  show_banner: perhaps\nstores:\n  max_limit: 1\n";
    for line in ["server", "settings", "settings --check"] {
        let ended = Place::with(text).line(line);
        ended
            .refused(78, "lucid: lucid.yml:2:3: general.prot: no such setting; did you mean general.port?\n");
        ended.refused(78, "lucid: lucid.yml:3:16: general.show_banner: expected true or false\n");
        ended.refused(78, "lucid: lucid.yml:4:1: stores: no such section; did you mean store?\n");
    }
    let twice = "general:\n  port: 1\n  port: 2\n";
    Place::with(twice).line("server").refused(78, "lucid: lucid.yml:3:3: `port` is given twice");
}

#[test]
fn a_document_that_grows_without_end_is_refused_at_once() {
    let mut bomb = String::from("a0: &a0 [x, x, x, x, x, x, x, x, x, x]\n");
    for level in 1..20 {
        bomb.push_str(&format!("a{level}: &a{level} [{}]\n", format!("*a{}, ", level - 1).repeat(10)));
    }
    Place::with(&bomb).line("server").refused(78, "than a configuration file may have");
}

#[test]
fn a_server_refuses_what_is_unsafe_or_not_there_yet() {
    let good = format!("authentication: {{secret_key: {SECRET}}}\n");
    let open = "general: {bind_address: 0.0.0.0}\nauthentication: {enabled: false}";
    for (text, says) in [
        (String::new(), "authentication.secret_key: authentication is on and there is no secret"),
        ("authentication: {secret_key: ''}".into(), "there is no secret"),
        (format!("authentication: {{secret_key: {PUBLISHED}}}"), "published"),
        ("authentication: {secret_key: secret}".into(), "shorter than 32 bytes"),
        (open.into(), "general.bind_address: other machines could reach this address"),
        (
            format!("{good}general: {{use_ssl: true}}"),
            "general.use_ssl: TLS is on and general.ssl_certificate",
        ),
        (format!("{good}persistence: {{enabled: true}}"), "there is no persistence.location"),
        (format!("{good}encryption: {{enabled: true}}"), "there is no encryption.private_key"),
        (
            format!("{good}store: {{memory_limit: 8MiB, max_limit: 7MiB}}"),
            "store.memory_limit (8388608 bytes)",
        ),
    ] {
        let place = Place::with(&format!("{text}\nruntime: {{workers: 1}}\n"));
        place.line("server --port 0").refused(78, says);
        place.line("settings --check").refused(78, says);
        // Shown all the same, so that one can see what is wrong with it.
        let settings = place.line("settings");
        let shown = settings.code == 0 && settings.stdout.contains("runtime.workers = 1");
        assert!(shown && settings.stderr.contains("a server would refuse this: "), "{settings:?}");
    }
}

#[test]
fn the_place_of_the_file_is_before_or_after_the_verb() {
    let place = Place::new();
    place.write("own.yml", "general: {prot: 1}");
    for line in ["-c own.yml settings", "settings -c own.yml", "--config=own.yml --no-banner settings"] {
        place.line(line).refused(78, "own.yml:1:11: general.prot");
    }
    place.line("-c absent.yml server").refused(78, "absent.yml: Configuration file not found.");
    place.line("-c . server").refused(78, "folder");
}

#[test]
fn files_are_looked_for_here_and_then_at_home() {
    let place = Place::new();
    place.write(".config/lucid/lucid.yml", "general: {port: 2}");
    assert!(place.line("settings").stdout.contains("general.port = 2 "));
    place.write("lucid.yml", "general: {port: 1}");
    let settings = place.line("settings");
    assert!(settings.stdout.contains("general.port = 1 "), "{settings:?}");
    assert!(settings.stdout.contains("(lucid.yml:1:17)"), "{settings:?}");
}

#[test]
fn settings_name_the_origin_of_each_value_and_mask_secrets() {
    let text = format!(
        "general: {{port: 1, port_ssl: 2}}\n\
         authentication: {{secret_key: {SECRET}, root_token: r00t, previous_secret_key: 0lder}}\n\
         encryption: {{private_key: pr1vate}}\n\
         databases: {{password_hash: \"$argon2id$v=19$m=64,t=2,p=1$c29tZXNhbHQ$CTFhFdXPJO1aFaMaO6Mm5c8y7cJHAph8ArZWb2GRPPc\"}}\n"
    );
    let place = Place::with(&text).variable("LUCID_DATABASES__PASSWORD_FILE", "pw");
    place.write("pw", "passw0rd\n");
    place.line("settings").refused(78, "lucid.yml:4:28: databases.password_hash: given together");
    let place = Place::with(&text).variable("LUCID_GENERAL__PORT", "3");
    let settings = place.line("--no-banner settings");
    assert_eq!(settings.code, 0, "{settings:?}");
    let line = |path: &str| {
        let line = settings.stdout.lines().find(|line| line.starts_with(&format!("{path} = "))).expect(path);
        line.split_whitespace().skip(2).collect::<Vec<_>>().join(" ")
    };
    assert_eq!(line("general.port"), "3 (environment LUCID_GENERAL__PORT)");
    assert_eq!(line("general.port_ssl"), "2 (lucid.yml:1:30)");
    assert_eq!(line("general.show_banner"), "false (--no-banner)");
    assert_eq!(line("http.idle_timeout"), "75 s (default)");
    assert_eq!(line("authentication.secret_key"), "******** (lucid.yml:2:30)");
    for secret in [SECRET, "r00t", "0lder", "pr1vate", "CTFhFdXP"] {
        assert!(!settings.stdout.contains(secret) && !settings.stderr.contains(secret), "{settings:?}");
    }
}

#[test]
fn settings_come_as_json_for_scripts() {
    let text =
        format!("general: {{port: 1}}\nauthentication: {{secret_key: {SECRET}}}\nsse: {{enabled: false}}\n");
    let place = Place::with(&text).variable("LUCID_RUNTIME__WORKERS", "2");
    let ended = place.line("settings --json");
    assert_eq!((ended.code, ended.stderr.as_str()), (0, ""));
    let json: serde_json::Value = serde_json::from_str(&ended.stdout).expect("JSON");
    assert_eq!(json["file"], "lucid.yml");
    for (path, value, origin) in [
        ("general.port", serde_json::json!(1), "lucid.yml:1:17"),
        ("general.bind_address", "127.0.0.1".into(), "default"),
        ("runtime.workers", 2.into(), "environment LUCID_RUNTIME__WORKERS"),
        ("authentication.secret_key", "********".into(), "lucid.yml:2:30"),
        ("sse.enabled", false.into(), "lucid.yml:3:16"),
        ("http.max_connections", serde_json::Value::Null, "default"),
    ] {
        assert_eq!(json["settings"][path], serde_json::json!({"value": value, "origin": origin}), "{path}");
    }
    assert_eq!(json["refusals"], serde_json::json!([]));
    let refused = Place::with("authentication: {secret_key: short}").line("settings --json");
    let json: serde_json::Value = serde_json::from_str(&refused.stdout).expect("JSON");
    assert_eq!(json["refusals"].as_array().map(Vec::len), Some(1), "{json}");
    place.line("settings --json --check").refused(2, "cannot be used with");
}

#[test]
fn variables_that_are_no_settings_end_with_78() {
    let place = Place::new().variable("LUCID_GENERAL__PROT", "1").variable("LUCID_STORE_MAX_LIMIT", "1");
    let ended = place.line("server");
    ended.refused(78, "lucid: LUCID_GENERAL__PROT: no such setting; did you mean LUCID_GENERAL__PORT?\n");
    ended
        .refused(78, "lucid: LUCID_STORE_MAX_LIMIT: no such setting; did you mean LUCID_STORE__MAX_LIMIT?\n");
    let fine =
        Place::new().variable("LUCID_URL", "x").variable("LUCID_TOKEN", "x").variable("LUCID_LOG", "warn");
    assert_eq!(fine.line("settings --check").code, 0);
}

#[test]
fn a_file_that_others_can_read_is_warned_about() {
    let place = Place::with(&format!("authentication: {{secret_key: {SECRET}}}"));
    place.mode("lucid.yml", 0o644);
    let check = place.line("settings --check");
    assert!(
        check.code == 0 && check.stderr.starts_with("lucid: warning: lucid.yml can be read by"),
        "{check:?}"
    );
}

#[test]
fn what_the_system_does_not_allow_ends_with_77() {
    const NOBODY: u32 = 65_534;
    let place = Place::with("general: {port: 1}");
    place.write("secret", SECRET);
    place.write("own.yml", "");
    fs::copy(env!("CARGO_BIN_EXE_lucid"), place.folder.path().join("program")).expect("a copy");
    place.mode("program", 0o755);
    fs::create_dir(place.folder.path().join("locked")).expect("a folder");
    for (name, mode) in [("lucid.yml", 0o000), ("secret", 0o000), ("own.yml", 0o644), ("locked", 0o555)] {
        place.mode(name, mode);
    }
    // Root may read everything, so the program runs as somebody else, from where that one can reach it.
    let root = fs::metadata(place.folder.path()).expect("a folder").uid() == 0;
    if root {
        chown(place.folder.path(), Some(NOBODY), None).expect("an owner");
    }
    let run = |line: &str, variable: Option<&str>| {
        let mut command =
            place.command(&place.folder.path().join("program"), &line.split(' ').collect::<Vec<_>>());
        if root {
            command.uid(NOBODY).gid(NOBODY);
        }
        ended(command.envs(variable.map(|name| (name, "secret"))).output())
    };
    run("server", None).refused(77, "lucid.yml: this process may not read the file");
    run("settings", None).refused(77, "lucid.yml: this process may not read the file");
    run("-c locked/lucid.yml init", None).refused(77, "cannot write locked/lucid.yml");
    run("-c own.yml server", Some("LUCID_AUTHENTICATION__SECRET_KEY_FILE"))
        .refused(77, "LUCID_AUTHENTICATION__SECRET_KEY_FILE secret: this process may not read the file");
}

#[test]
fn a_reader_that_has_seen_enough_is_no_failure() {
    let place = Place::new();
    let mut command = place.command(Path::new(env!("CARGO_BIN_EXE_lucid")), &["settings"]);
    let mut child =
        command.stdout(Stdio::piped()).stderr(Stdio::piped()).spawn().expect("the program starts");
    drop(child.stdout.take());
    let ended = ended(child.wait_with_output());
    assert_eq!((ended.code, ended.stderr.as_str()), (0, ""));
}

/// A pipe in the place's folder.
fn pipe(place: &Place, name: &str) -> std::path::PathBuf {
    let path = place.folder.path().join(name);
    let made = Command::new("mkfifo").arg(&path).status().expect("mkfifo");
    assert!(made.success());
    path
}

#[test]
fn a_pipe_is_read_to_its_end_and_one_that_nobody_writes_to_is_refused() {
    let place = Place::new();
    let path = pipe(&place, "pipe.yml");
    place
        .line("-c pipe.yml settings --check")
        .refused(78, "pipe.yml: this is a pipe, and nobody has written");
    let writer = std::thread::spawn(move || {
        // In pieces, so that the reader finds the pipe empty in between.
        let mut pipe = fs::OpenOptions::new().write(true).open(path).expect("the reader");
        pipe.write_all(b"authentication: {secret_key: '").expect("room");
        std::thread::yield_now();
        pipe.write_all(format!("{SECRET}'}}\ngeneral: {{port: 1234}}\n").as_bytes()).expect("room");
    });
    let said = place.line("-c pipe.yml settings");
    assert!(said.code == 0 && said.stdout.contains("general.port = 1234"), "{said:?}");
    writer.join().expect("the writer");
    // What `<(…)` of a shell makes.
    let script = format!("'{}' -c <(echo 'general: {{port: 4321}}') settings", env!("CARGO_BIN_EXE_lucid"));
    let said =
        ended(place.command(Path::new("bash"), &["-c", &script]).env("PATH", "/usr/bin:/bin").output());
    assert!(said.code == 0 && said.stdout.contains("general.port = 4321"), "{said:?}");
}

#[test]
fn a_device_as_a_file_is_not_to_have_its_mode_changed() {
    let place = Place::new().variable("LUCID_AUTHENTICATION__SECRET_KEY", SECRET);
    let said = place.line("-c /dev/null settings --check");
    assert_eq!((said.code, said.stderr.as_str()), (0, ""));
}

#[test]
fn init_replaces_files_only() {
    let place = Place::new();
    pipe(&place, "pipe");
    fs::create_dir(place.folder.path().join("folder")).expect("a folder");
    for name in ["pipe", "folder"] {
        for force in ["init", "init --force"] {
            let refused = place.line(&format!("-c {name} {force}"));
            assert_eq!(refused.code, 1, "{refused:?}");
        }
        let refused = place.line(&format!("-c {name} init --force"));
        assert!(
            refused.stderr.starts_with(&format!("lucid: cannot write {name}: it is a folder, a device")),
            "{refused:?}"
        );
        assert!(!place.folder.path().join(name).is_file());
    }
}

#[test]
fn a_log_that_is_a_pipe_without_a_reader_is_refused() {
    let place = Place::with(&format!(
        "authentication: {{secret_key: '{SECRET}'}}\nlogging: {{outputs: ['file:pipe']}}\n"
    ));
    pipe(&place, "pipe");
    place
        .line("server --port 0")
        .refused(78, "cannot open the log file pipe of logging.outputs: it is a pipe that nobody reads");
}
