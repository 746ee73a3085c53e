//! What the whole of [`load`] promises: origins, defaults, and a named place for every mistake.

use std::ffi::OsString;
use std::io;
use std::net::IpAddr;
use std::path::{Path, PathBuf};
use std::time::Duration;

use super::keys::KEYS;
use super::machine::Machine;
use super::problem::LoadError;
use super::resolve::{Surroundings, resolve};
use super::typed::Typed;
use super::{Loaded, Secret, Sources, SyncMode, WhenFull, load, search_paths};

const SECRET: &str = "a secret of more than thirty-two bytes";

/// The sample file of the original, but for its root token.
const ORIGINAL: &str = r#"---
general:
  bind_address: 127.0.0.1
  port: 7020
  port_ssl: 7021
  use_ssl: false
  ssl_certificate: "tls/cert.pem"
  ssl_certificate_key: "tls/key.rsa"
  show_banner: false
authentication:
  enabled: false
  root_token: eyJ0eXAiOiJKV1QiLCJhbGciOiJIUzI1NiJ9.e30.AAAA
  secret_key: 03dfe6e600e2620388311955ab3bee32cd6cbb8aca75dace6cfc2e2a43db5dfd
persistence:
  enabled: false
  location: ""
encryption:
  enabled: false
  private_key: "123456789012345678901234123456789012345678901234"
  iv: "f0f1f2f3f4f5f6f7f8f9fafbfcfdfeff"
sse:
  enabled: false
webui:
  enabled: false
store:
  max_limit: 7340032
http:
  compression: false
  request_size_limit: 8388608
logging:
  level: INFO
  outputs:
    - type: stderr
      colored: true
"#;

fn addresses(host: &str) -> io::Result<Vec<IpAddr>> {
    match host {
        "localhost" => Ok(vec!["::1".parse().unwrap(), "127.0.0.1".parse().unwrap()]),
        "six.example" => Ok(vec!["2001:db8::1".parse().unwrap()]),
        "empty.example" => Ok(Vec::new()),
        _ => Err(io::Error::other("no such name")),
    }
}

/// A case: a file, variables and flags on a machine of four cores and 8 GiB.
struct Case {
    sources: Sources,
    folder: tempfile::TempDir,
}

impl Case {
    fn new() -> Case {
        let folder = tempfile::tempdir().unwrap();
        let machine = Machine { cores: 4, memory_bytes: Some(8 << 30), addresses };
        let sources = Sources {
            config: None,
            search: search_paths(Some(folder.path())).into_iter().skip(1).take(1).collect(),
            environment: Vec::new(),
            flags: Vec::new(),
            insecure: false,
            machine,
            fresh_secret: Secret::new("f".repeat(64)),
        };
        Case { sources, folder }
    }

    fn file(mut self, text: &str) -> Case {
        use std::os::unix::fs::PermissionsExt;
        let path = self.folder.path().join("lucid.yml");
        std::fs::write(&path, text).unwrap();
        std::fs::set_permissions(&path, std::fs::Permissions::from_mode(0o600)).unwrap();
        self.sources.config = Some(path);
        self
    }

    /// A file with a good secret and these lines.
    fn with(self, text: &str) -> Case {
        self.file(&format!("{text}\nauthentication: {{secret_key: {SECRET}}}\n"))
    }

    fn variable(mut self, name: &str, value: &str) -> Case {
        self.sources.environment.push((OsString::from(name), OsString::from(value)));
        self
    }

    fn flag(mut self, path: &'static str, value: &str, flag: &'static str) -> Case {
        self.sources.flags.push((path, value.into(), flag));
        self
    }

    fn memory(mut self, bytes: Option<u64>) -> Case {
        self.sources.machine.memory_bytes = bytes;
        self
    }

    fn load(self) -> Result<Loaded, LoadError> {
        load(self.sources)
    }

    fn loaded(self) -> Loaded {
        self.load().unwrap()
    }

    /// Every complaint in a line, the folder left out.
    fn complaints(self) -> Vec<String> {
        let folder = format!("{}/", self.folder.path().display());
        let problems = match load(self.sources) {
            Ok(loaded) => loaded.refusals,
            Err(error) => error.problems,
        };
        problems.iter().map(|problem| problem.to_string().replace(&folder, "")).collect()
    }
}

fn shown<'l>(loaded: &'l Loaded, path: &str) -> (&'l str, &'l str) {
    let line = loaded.listing.iter().find(|line| line.path == path).unwrap();
    (&line.value, &line.origin)
}

#[test]
fn every_setting_of_the_table_is_resolved_and_listed_once_in_order() {
    let loaded = Case::new().with("").loaded();
    let listed: Vec<_> = loaded.listing.iter().map(|line| line.path).collect();
    assert_eq!(listed, KEYS.iter().map(|key| key.path).collect::<Vec<_>>());
}

#[test]
fn without_a_file_the_node_is_local_and_has_a_secret_of_its_own() {
    let loaded = Case::new().loaded();
    assert!(loaded.refusals.is_empty() && loaded.settings.warnings.is_empty());
    let settings = loaded.settings;
    assert_eq!(settings.file, None);
    assert_eq!(settings.general.listen, "127.0.0.1:7020".parse().unwrap());
    assert!(settings.authentication.enabled && settings.authentication.ephemeral_secret);
    assert_eq!(settings.authentication.secret_key.expose(), "f".repeat(64));
}

#[test]
fn the_defaults_are_those_of_the_contract() {
    let loaded = Case::new().with("").loaded();
    let settings = &loaded.settings;
    assert!(settings.general.show_banner && settings.authentication.require_exp);
    assert_eq!(settings.runtime.workers, 4);
    assert_eq!(settings.store.memory_bytes, 1 << 30);
    assert_eq!(settings.store.value_bytes_max, 7_340_032);
    assert_eq!(settings.store.when_full, WhenFull::Evict);
    assert_eq!(settings.store.default_ttl_seconds, None);
    assert_eq!(settings.http.request_bytes_max, 8_388_608);
    assert_eq!(settings.http.header_timeout, Duration::from_secs(10));
    assert_eq!(settings.http.idle_timeout, Duration::from_secs(75));
    assert_eq!(settings.shutdown.grace, Duration::from_secs(10));
    assert_eq!(settings.logging.level, log::LevelFilter::Info);
    for (path, value) in [
        ("store.max_limit", "7340032"),
        ("general.port_ssl", "7021"),
        ("general.use_ssl", "false"),
        ("runtime.pin_cores", "false"),
        ("authentication.enabled", "true"),
        ("authentication.leeway", "0 s"),
        ("authentication.anonymous_head", "false"),
        ("http.max_connections", "unset"),
        ("http.cors_origins", "none"),
        ("persistence.enabled", "false"),
        ("persistence.sync", "everysec"),
        ("encryption.enabled", "false"),
        ("sse.enabled", "true"),
        ("webui.enabled", "true"),
        ("logging.outputs", "stderr"),
        ("logging.format", "text"),
    ] {
        assert_eq!(shown(&loaded, path), (value, "default"), "{path}");
    }
    assert_eq!(shown(&loaded, "runtime.workers"), ("4", "default: one for each core"));
}

#[test]
fn the_file_of_the_original_loads_as_it_is() {
    let loaded = Case::new().file(ORIGINAL).loaded();
    assert_eq!(loaded.refusals, []);
    assert!(!loaded.settings.authentication.enabled && !loaded.settings.general.show_banner);
    assert!(!loaded.settings.authentication.ephemeral_secret);
    assert_eq!(loaded.settings.warnings.len(), 2, "{:?}", loaded.settings.warnings);
    assert!(loaded.settings.warnings[0].contains("encryption.iv is ignored"));
    assert_eq!(shown(&loaded, "logging.outputs").0, "stderr:colored");
    for secret in ["authentication.root_token", "authentication.secret_key", "encryption.private_key"] {
        assert_eq!(shown(&loaded, secret).0, "********");
    }
    let everything = format!("{loaded:?}");
    assert!(
        !everything.contains("03dfe6e6")
            && !everything.contains("123456789012")
            && !everything.contains("eyJ0")
    );
}

#[test]
fn every_value_remembers_where_it_came_from() {
    let case = Case::new()
        .with("general:\n  port: 1\n  bind_address: localhost\n  show_banner: no\nstore: {memory_limit: 512MiB}")
        .variable("LUCID_GENERAL__PORT", "2")
        .variable("LUCID_RUNTIME__WORKERS", "2")
        .variable("LUCID_LOG", "debug")
        .variable("LUCID_URL", "http://x")
        .variable("LUCID_TOKEN", "x")
        .variable("PATH", "/bin")
        .flag("runtime.workers", "3", "--workers");
    let file = case.folder.path().join("lucid.yml").display().to_string();
    let loaded = case.loaded();
    assert_eq!(loaded.settings.general.listen, "127.0.0.1:2".parse().unwrap());
    for (path, value, origin) in [
        ("general.port", "2", "environment LUCID_GENERAL__PORT".to_owned()),
        ("general.bind_address", "127.0.0.1", format!("{file}:3:17")),
        ("general.show_banner", "false", format!("{file}:4:16")),
        ("runtime.workers", "3", "--workers".into()),
        ("store.memory_limit", "536870912", format!("{file}:5:23")),
        ("logging.level", "debug", "environment LUCID_LOG".into()),
        ("logging.format", "text", "default".into()),
    ] {
        assert_eq!(shown(&loaded, path), (value, origin.as_str()), "{path}");
    }
}

#[test]
fn the_variable_of_the_level_wins_over_its_short_form() {
    let loaded = Case::new().variable("LUCID_LOGGING__LEVEL", "warn").variable("LUCID_LOG", "trace").loaded();
    assert_eq!(loaded.settings.logging.level, log::LevelFilter::Warn);
}

#[test]
fn a_secret_may_come_from_the_environment_without_a_file() {
    let loaded = Case::new().variable("LUCID_AUTHENTICATION__SECRET_KEY", SECRET).loaded();
    assert!(loaded.refusals.is_empty() && !loaded.settings.authentication.ephemeral_secret);
    assert_eq!(loaded.settings.authentication.secret_key.expose(), SECRET);
    let refused = Case::new().variable("LUCID_AUTHENTICATION__SECRET_KEY", "").complaints();
    assert!(refused[0].starts_with("environment LUCID_AUTHENTICATION__SECRET_KEY: "), "{refused:?}");
}

#[test]
fn the_first_file_there_is_counts_and_the_rest_is_not_looked_at() {
    let folder = tempfile::tempdir().unwrap();
    let (first, second) = (folder.path().join("a.yml"), folder.path().join("b.yml"));
    std::fs::write(&second, "general: {port: 2}").unwrap();
    let mut case = Case::new();
    case.sources.search = vec![first.clone(), second.clone()];
    assert_eq!(case.loaded().settings.general.listen.port(), 2);
    std::fs::write(&first, "general: {port: 1}").unwrap();
    std::fs::write(&second, "not: [valid").unwrap();
    let mut case = Case::new();
    case.sources.search = vec![first.clone(), second];
    let loaded = case.loaded();
    assert_eq!((loaded.settings.general.listen.port(), loaded.settings.file), (1, Some(first)));
    // The home of a system user is often no folder at all.
    let mut case = Case::new();
    case.sources.search = search_paths(Some(&PathBuf::from("/dev/null"))).split_off(1);
    assert_eq!(case.loaded().settings.file, None);
    let usual = search_paths(Some(&PathBuf::from("/home/x")));
    assert_eq!(
        usual,
        ["lucid.yml", "/home/x/.config/lucid/lucid.yml", "/etc/lucid/lucid.yml"].map(PathBuf::from)
    );
}

#[test]
fn the_memory_of_the_node_follows_the_machine_and_the_largest_value_follows_the_memory() {
    let sized = |case: Case| {
        let loaded = case.loaded();
        assert_eq!(loaded.refusals, []);
        (
            loaded.settings.store.memory_bytes,
            loaded.settings.store.value_bytes_max,
            loaded.settings.runtime.workers,
        )
    };
    const MIB: u64 = 1 << 20;
    assert_eq!(sized(Case::new()), (1_024 * MIB, 7_340_032, 4));
    assert_eq!(sized(Case::new().memory(Some(512 * MIB))), (256 * MIB, 7_340_032, 4));
    assert_eq!(sized(Case::new().memory(Some(64 * MIB))), (32 * MIB, 2 * MIB, 4));
    assert_eq!(sized(Case::new().memory(Some(16 * MIB))), (8 * MIB, MIB, 2));
    assert_eq!(sized(Case::new().memory(Some(1))), (4 * MIB, MIB, 1));
    assert_eq!(sized(Case::new().memory(None)), (256 * MIB, 7_340_032, 4));
    // At the edge: four values for each of four workers.
    assert_eq!(
        sized(Case::new().with("store: {memory_limit: 64MiB, max_limit: 4MiB}")),
        (64 * MIB, 4 * MIB, 4)
    );
    assert_eq!(Case::new().with("store: {memory_limit: 64MiB, max_limit: 4194305}").complaints().len(), 1);
    assert_eq!(Case::new().with("store: {memory_limit: 16MiB}").complaints().len(), 0);
    assert_eq!(
        Case::new().with("store: {memory_limit: 16777215}\nruntime: {workers: 4}").complaints().len(),
        1
    );
}

#[test]
fn secrets_at_below_and_above_the_shortest() {
    let secret = |bytes: usize, more: &str| {
        let text = format!("authentication: {{secret_key: {}{more}}}", "s".repeat(bytes));
        Case::new().file(&text).complaints().len()
    };
    assert_eq!([secret(31, ""), secret(32, ""), secret(33, "")], [1, 0, 0]);
    assert_eq!([secret(1, ", allow_weak_secret: true"), secret(31, ", enabled: false")], [0, 0]);
}

#[test]
fn other_machines_are_served_with_authentication_or_on_demand() {
    let open = "general: {bind_address: 0.0.0.0}\nauthentication: {enabled: false}";
    let refused = Case::new().file(open).complaints();
    assert!(refused[0].starts_with("lucid.yml:1:25: general.bind_address: "), "{refused:?}");
    let mut case = Case::new().file(open);
    case.sources.insecure = true;
    let loaded = case.loaded();
    assert!(loaded.refusals.is_empty() && loaded.settings.warnings.len() == 1);
    for address in ["0.0.0.0", "'::'", "192.0.2.1", "six.example", "'::ffff:10.0.0.1'"] {
        let text = format!("general: {{bind_address: {address}}}\nauthentication: {{enabled: false}}");
        assert_eq!(Case::new().file(&text).complaints().len(), 1, "{address}");
        assert_eq!(Case::new().with(&format!("general: {{bind_address: {address}}}")).complaints().len(), 0);
    }
    for address in ["127.0.0.1", "127.9.9.9", "'::1'", "'[::1]'", "localhost", "'::ffff:127.0.0.1'"] {
        let text = format!("general: {{bind_address: {address}}}\nauthentication: {{enabled: false}}");
        assert_eq!(Case::new().file(&text).complaints().len(), 0, "{address}");
    }
}

#[test]
fn what_is_on_disk_is_not_evicted_unless_that_is_said() {
    let when_full = |text: &str| {
        let loaded = Case::new().with(text).loaded();
        assert_eq!(loaded.refusals, []);
        (loaded.settings.store.when_full, shown(&loaded, "store.when_full").0.to_owned())
    };
    assert_eq!(when_full(""), (WhenFull::Evict, "evict".into()));
    let on = "persistence: {enabled: true, location: data}";
    assert_eq!(when_full(on), (WhenFull::Reject, "reject".into()));
    assert_eq!(when_full(&format!("{on}\nstore: {{when_full: evict}}")), (WhenFull::Evict, "evict".into()));
    assert_eq!(when_full("persistence: {location: data}").0, WhenFull::Evict);
}

#[test]
fn persistence_is_where_and_how_and_under_which_key_it_says() {
    let persistence = |text: &str| Case::new().with(text).loaded().settings.persistence;
    assert!(persistence("").is_none());
    assert!(persistence("persistence: {location: data, sync: always}").is_none());
    let plain = persistence("persistence: {enabled: true, location: data}").unwrap();
    assert_eq!((plain.location, plain.sync), (PathBuf::from("data"), SyncMode::EverySecond));
    assert!(plain.private_key.is_none());
    for (text, sync) in
        [("always", SyncMode::Always), ("everysec", SyncMode::EverySecond), ("never", SyncMode::Never)]
    {
        let text = format!("persistence: {{enabled: true, location: data, sync: {text}}}");
        assert_eq!(persistence(&text).unwrap().sync, sync);
    }
    let key = "k".repeat(32);
    let sealed = |enabled| {
        let text = format!(
            "persistence: {{enabled: true, location: data}}\nencryption: {{enabled: {enabled}, private_key: {key}}}"
        );
        persistence(&text).unwrap().private_key.map(|key| key.expose().to_owned())
    };
    assert_eq!(sealed(true), Some(key.clone()));
    assert_eq!(sealed(false), None);
}

#[test]
fn a_snapshot_is_a_file_that_counts_without_persistence() {
    let snapshot = |text: &str| Case::new().with(text).loaded().settings.snapshot;
    assert!(snapshot("").is_none());
    for off in ["false", "no", "''"] {
        assert!(snapshot(&format!("persistence: {{snapshot_on_exit: {off}}}")).is_none(), "{off}");
    }
    let plain = snapshot("persistence: {snapshot_on_exit: warm/cache}").unwrap();
    assert!(plain.file == *"warm/cache" && plain.private_key.is_none());
    let key = "k".repeat(32);
    let sealed =
        format!("persistence: {{snapshot_on_exit: warm}}\nencryption: {{enabled: true, private_key: {key}}}");
    assert_eq!(snapshot(&sealed).unwrap().private_key.unwrap().expose(), key);
    assert!(Case::new().with(&sealed).loaded().settings.warnings.is_empty());
    let both = "persistence: {enabled: true, location: data, snapshot_on_exit: warm}";
    let loaded = Case::new().with(both).loaded();
    assert!(loaded.settings.snapshot.is_none());
    assert!(loaded.settings.warnings.join("\n").contains("snapshot_on_exit has no effect"));
}

#[test]
fn what_deserves_a_warning_gets_one() {
    let warned = |case: Case| case.loaded().settings.warnings.join("\n");
    assert!(warned(Case::new().with("store: {max_limit: 16MiB}")).contains("http.request_size_limit"));
    assert!(warned(Case::new().with("runtime: {workers: 5}")).contains("runtime.workers"));
    assert!(warned(Case::new().with("encryption: {iv: f0}")).contains("encryption.iv"));
    let sealed = format!("encryption: {{enabled: true, private_key: {SECRET}}}");
    assert!(warned(Case::new().with(&sealed)).contains("persistence is off"));
    assert!(
        warned(Case::new().with("").variable("LUCID_AUTHENTICATION__LOCAL_UIDS", "0")).contains("local_uids")
    );
    let case = Case::new().with("");
    let path = case.sources.config.clone().unwrap();
    use std::os::unix::fs::PermissionsExt;
    std::fs::set_permissions(&path, std::fs::Permissions::from_mode(0o644)).unwrap();
    assert!(warned(case).contains("chmod 600"));
    // Its own group may read it, another one is warned about.
    let case = Case::new().with("");
    let path = case.sources.config.clone().unwrap();
    std::fs::set_permissions(&path, std::fs::Permissions::from_mode(0o640)).unwrap();
    assert_eq!(warned(case), "");
}

#[test]
fn all_mistakes_are_told_in_one_run() {
    let case = Case::new()
        .with("general:\n  prot: 1\n  port: x\nstores: {}\nstore:\n  max_limit: 7MB")
        .variable("LUCID_GENERAL_PORT", "1")
        .flag("general.bind_address", "a b", "--bind");
    let complaints = case.complaints();
    assert_eq!(complaints.len(), 6, "{complaints:#?}");
}

#[test]
fn mistakes_of_every_source_and_kind_come_together() {
    let case = Case::new()
        .file(
            "general: {port: x, port: 1, use_ssl: true}\nstore: {max_limit: 1GiB, memory_limit: 9GiB}\n\
             authentication: {secret_key: short}\nhttp: {cors_origins: [a, http://b, c]}",
        )
        .variable("LUCID_RUNTIME__PIN_CORES", "2")
        .variable("LUCID_RUNTIME__PIN_CORE", "true")
        .variable("LUCID_HTTP__IDLE_TIMEOUT_FILE", "/nonexistent/x")
        .flag("runtime.workers", "999", "--workers");
    let complaints = case.complaints();
    for what in [
        "lucid.yml:1:20: `port` is given twice",
        "lucid.yml:1:17: general.port: expected a whole number",
        "LUCID_HTTP__IDLE_TIMEOUT_FILE /nonexistent/x: no such file",
        "LUCID_RUNTIME__PIN_CORE: no such setting",
        "environment LUCID_RUNTIME__PIN_CORES: runtime.pin_cores: expected true or false",
        "--workers: runtime.workers: expected a whole number from 0 to 128",
        "lucid.yml:4:22: http.cors_origins: member 1 of the list",
        "lucid.yml:4:22: http.cors_origins: member 3 of the list",
        "lucid.yml:1:38: general.use_ssl: TLS is on and general.ssl_certificate is not given",
        "lucid.yml:3:30: authentication.secret_key: shorter than 32 bytes",
    ] {
        assert!(complaints.iter().any(|line| line.starts_with(what)), "{what} is not in {complaints:#?}");
    }
    // What hangs on the number of workers is not judged while that has no meaning.
    assert_eq!(complaints.len(), 11, "{complaints:#?}");
}

#[test]
fn a_file_that_cannot_be_read_does_not_hide_what_is_wrong_elsewhere() {
    let mut case = Case::new().variable("LUCID_GENERAL__PORT", "x").flag("runtime.workers", "x", "--workers");
    case.sources.config = Some(case.folder.path().join("absent.yml"));
    let complaints = case.complaints();
    assert_eq!(complaints.len(), 3, "{complaints:#?}");
    assert!(complaints[0].contains("Configuration file not found."), "{complaints:#?}");
}

#[test]
fn marks_and_line_ends_of_other_editors_do_no_harm() {
    let text =
        format!("\u{feff}general:\r\n  port: 1 # one\r\nauthentication:\r\n  secret_key: {SECRET}\r\n");
    let loaded = Case::new().file(&text).loaded();
    assert_eq!(loaded.settings.general.listen.port(), 1);
    assert_eq!(loaded.settings.authentication.secret_key.expose(), SECRET);
}

#[test]
fn scripts_get_numbers_switches_lists_and_null() {
    let loaded = Case::new()
        .with("general: {port: 1, ssl_certificate: '12'}\nhttp: {cors_origins: [http://a], idle_timeout: 75}")
        .loaded();
    let json = |path: &str| loaded.listing.iter().find(|line| line.path == path).unwrap().json.to_string();
    for (path, value) in [
        ("general.port", "1"),
        ("general.show_banner", "true"),
        ("general.ssl_certificate", "\"12\""),
        ("general.unix_socket", "null"),
        ("runtime.workers", "4"),
        ("authentication.secret_key", "\"********\""),
        ("http.cors_origins", "[\"http://a\"]"),
        ("http.max_connections", "null"),
        ("http.idle_timeout", "\"75 s\""),
        ("databases.restricted", "[]"),
    ] {
        assert_eq!(json(path), value, "{path}");
    }
}

#[test]
fn a_reload_takes_on_what_is_live_and_names_what_needs_a_restart() {
    let mut running = Case::new().with("general: {port: 1}\nhttp: {idle_timeout: 5}").loaded();
    let other = SECRET.replace('a', "b");
    let changed = |running: &mut Loaded| {
        let text = format!(
            "general: {{port: 2}}\nhttp: {{idle_timeout: 6, cors_origins: [http://a]}}\nlogging: {{level: warn}}\n\
             store: {{default_ttl: 9}}\nshutdown: {{grace: 1}}\nauthentication: {{secret_key: {other}}}"
        );
        running.adopt(Case::new().file(&text).loaded())
    };
    let first = changed(&mut running);
    let paths = |live: bool, changes: &[super::Change]| -> Vec<&str> {
        changes.iter().filter(|change| change.live == live).map(|change| change.path).collect()
    };
    assert_eq!(paths(false, &first), ["general.port", "authentication.secret_key"]);
    assert_eq!(
        paths(true, &first),
        ["store.default_ttl", "http.idle_timeout", "http.cors_origins", "logging.level", "shutdown.grace"]
    );
    assert!(first.iter().any(|change| change.before == "5 s" && change.after == "6 s"));
    assert!(!format!("{first:?}").contains(&other));
    let settings = &running.settings;
    assert_eq!(settings.http.idle_timeout, Duration::from_secs(6));
    assert_eq!(
        (settings.store.default_ttl_seconds, settings.shutdown.grace),
        (Some(9), Duration::from_secs(1))
    );
    assert_eq!((settings.general.listen.port(), settings.authentication.secret_key.expose()), (1, SECRET));
    // What is in force is no change any more; what waits for a restart goes on waiting.
    let second = changed(&mut running);
    assert_eq!(paths(true, &second), [""; 0]);
    assert_eq!(paths(false, &second), ["general.port", "authentication.secret_key"]);
    let back = running.adopt(Case::new().with("general: {port: 1}").loaded());
    assert_eq!(paths(false, &back), [""; 0]);
}

#[test]
fn every_live_setting_is_in_the_table() {
    assert!(super::LIVE.iter().all(|path| KEYS.iter().any(|key| key.path == *path)));
}

/// Each mistake with the place and words that its complaint must have.
#[test]
fn every_mistake_in_a_file_is_refused_with_its_place() {
    for (text, at, what) in [
        ("general: {prot: 1}", "1:11: general.prot", "did you mean general.port?"),
        ("general: {Port: 1}", "1:11: general.Port", "did you mean general.port?"),
        ("general:\n  workers: 1", "2:3: general.workers", "did you mean runtime.workers?"),
        ("generall: {port: 1}", "1:1: generall", "did you mean general?"),
        ("port: 7020", "1:1: port", "did you mean general.port?"),
        ("colours: {}", "1:1: colours", "no such section"),
        ("general: 1", "1:10: general", "expected settings below"),
        ("general: [port]", "1:10: general", "expected settings below"),
        ("general: {port: 65536}", "1:17: general.port", "from 0 to 65535"),
        ("general: {port: -1}", "1:17: general.port", "whole number"),
        ("general: {port: 70.20}", "1:17: general.port", "whole number"),
        ("general: {port: ''}", "1:17: general.port", "whole number"),
        ("general: {port: [1]}", "1:17: general.port", "expected a single value"),
        ("general: {port: {a: 1}}", "1:17: general.port", "expected a single value"),
        ("general: {port: 1, port: 2}", "1:20", "`port` is given twice, first in line 1"),
        ("general: {port: 1}\ngeneral: {}", "2:1", "given twice"),
        ("logging: {outputs: [{type: file, path: a, path: b}]}", "1:43", "given twice"),
        ("http: {cors_origins: [null, x, http://a]}", "1:23: http.cors_origins", "member of this list"),
        ("http: {cors_origins: [http://a, x]}", "1:22: http.cors_origins", "member 2 of the list"),
        ("general: {port_ssl: tls}", "1:21: general.port_ssl", "whole number"),
        ("general: {bind_address: 127.0.0.1:7020}", "1:25: general.bind_address", "a setting of its own"),
        ("general: {bind_address: nowhere.example}", "1:25: general.bind_address", "cannot be resolved"),
        ("general: {bind_address: empty.example}", "1:25: general.bind_address", "has no address"),
        ("general: {bind_address: ''}", "1:25: general.bind_address", "expected an address"),
        ("general: {bind_address: 'http://a'}", "1:25: general.bind_address", "expected an address"),
        ("general: {show_banner: maybe}", "1:24: general.show_banner", "true or false"),
        ("general: {use_ssl: yes please}", "1:20: general.use_ssl", "true or false"),
        (
            "general: {use_ssl: true, ssl_certificate: a}",
            "1:20: general.use_ssl",
            "ssl_certificate_key is not given",
        ),
        (
            "general: {use_ssl: true, ssl_certificate_key: a}",
            "1:20: general.use_ssl",
            "ssl_certificate is not given",
        ),
        (
            "general: {use_ssl: true, ssl_certificate: a, ssl_certificate_key: b, port_ssl: 7020}",
            "1:80: general.port_ssl",
            "the same as general.port",
        ),
        (
            &format!("general: {{unix_socket: {}}}", "s".repeat(108)),
            "1:24: general.unix_socket",
            "at most 107",
        ),
        ("runtime: {workers: 129}", "1:20: runtime.workers", "from 0 to 128"),
        ("runtime: {workers: all}", "1:20: runtime.workers", "whole number"),
        ("runtime: {pin_cores: 1}", "1:22: runtime.pin_cores", "true or false"),
        ("store: {memory_limit: 1GB}", "1:23: store.memory_limit", "could mean"),
        ("store: {memory_limit: 0}", "1:23: store.memory_limit", "above 0"),
        ("store: {memory_limit: 1.5GiB}", "1:23: store.memory_limit", "expected a size"),
        ("store: {memory_limit: 8MiB}\nruntime: {workers: 4}", "1:23: store.memory_limit", "too few"),
        (
            "store: {memory_limit: 9GiB}",
            "1:23: store.memory_limit",
            "more than the 8589934592 that this machine",
        ),
        ("store: {max_limit: 0}", "1:20: store.max_limit", "above 0"),
        ("store: {max_limit: 1GiB}", "1:20: store.max_limit", "4 values of 1073741824 bytes"),
        ("store: {when_full: drop}", "1:20: store.when_full", "evict, reject"),
        ("store: {when_full: rejects}", "1:20: store.when_full", "did you mean reject?"),
        ("store: {default_ttl: 0}", "1:22: store.default_ttl", "from 1 to 4294967295"),
        ("store: {default_ttl: 1500ms}", "1:22: store.default_ttl", "whole seconds"),
        ("store: {default_ttl: 4294967296}", "1:22: store.default_ttl", "from 1 to 4294967295"),
        ("http: {request_size_limit: 0}", "1:28: http.request_size_limit", "above 0"),
        ("http: {compression: gzip}", "1:21: http.compression", "true or false"),
        ("http: {header_timeout: 0}", "1:24: http.header_timeout", "from 1 ms to 1 h"),
        ("http: {header_timeout: 2h}", "1:24: http.header_timeout", "from 1 ms to 1 h"),
        ("http: {idle_timeout: forever}", "1:22: http.idle_timeout", "expected a time"),
        ("http: {max_connections: 0}", "1:25: http.max_connections", "from 1"),
        ("http: {cors_origins: [https://a.example/]}", "1:22: http.cors_origins", "without a path"),
        ("http: {cors_origins: {a: 1}}", "1:22: http.cors_origins", "expected a list"),
        ("http: {cors_origins: [[a]]}", "1:23: http.cors_origins", "member of this list"),
        ("persistence: {enabled: true}", "1:24: persistence.enabled", "no persistence.location"),
        (
            "persistence: {enabled: true, location: ''}",
            "1:24: persistence.enabled",
            "no persistence.location",
        ),
        ("persistence: {sync: sometimes}", "1:21: persistence.sync", "always, everysec, never"),
        ("persistence: {snapshot_on_exit: true}", "1:33: persistence.snapshot_on_exit", "the name of a file"),
        ("encryption: {enabled: true}", "1:23: encryption.enabled", "no encryption.private_key"),
        (
            "persistence: {enabled: true, location: d}\nencryption: {enabled: true, private_key: short}",
            "2:42: encryption.private_key",
            "shorter than 32 bytes",
        ),
        (
            "persistence: {enabled: true, location: d}\n\
             encryption: {enabled: true, private_key: '123456789012345678901234123456789012345678901234'}",
            "2:42: encryption.private_key",
            "published",
        ),
        ("databases: {password_hash: x}", "1:28: databases.password_hash", "expected $argon2id$"),
        (
            "databases: {password: x, password_hash: y}",
            "1:41: databases.password_hash",
            "keep one of the two",
        ),
        ("databases: {restricted: [delete]}", "1:25: databases.restricted", "controller/delete"),
        ("sse: {enabled: 3}", "1:16: sse.enabled", "true or false"),
        ("webui: {enable: true}", "1:9: webui.enable", "did you mean webui.enabled?"),
        ("logging: {level: loud}", "1:18: logging.level", "off, error, warn"),
        ("logging: {format: xml}", "1:19: logging.format", "text, json"),
        ("logging: {outputs: [syslog]}", "1:20: logging.outputs", "expected stderr, stdout or file:PATH"),
        ("logging: {outputs: [{type: syslog}]}", "1:28: logging.outputs.type", "stderr, stdout, file"),
        ("logging: {outputs: [{type: file}]}", "1:21: logging.outputs", "needs a path"),
        ("logging: {outputs: [{path: x}]}", "1:21: logging.outputs", "needs a type"),
        (
            "logging: {outputs: [{type: stderr, coloured: true}]}",
            "1:36: logging.outputs.coloured",
            "mean colored?",
        ),
        ("shutdown: {grace: 2h}", "1:19: shutdown.grace", "from 0 s to 1 h"),
        ("- a\n- b", "", "expected sections"),
        ("just a text", "", "expected sections"),
        ("general: {port: 1", "1:10", "bracket"),
        ("general: {port: *p}", "1:17", "anchor"),
        ("<<: {a: 1}", "1:1", "not for settings"),
    ] {
        let at = if at.is_empty() { "lucid.yml: ".into() } else { format!("lucid.yml:{at}: ") };
        let complaints = Case::new().file(text).complaints();
        let found = complaints.iter().any(|line| line.starts_with(&at) && line.contains(what));
        assert!(found, "{text:?} should say {at}…{what}…, but says {complaints:#?}");
    }
}

#[test]
fn every_mistake_about_credentials_is_refused_with_its_place() {
    const PUBLISHED: &str = "03dfe6e600e2620388311955ab3bee32cd6cbb8aca75dace6cfc2e2a43db5dfd";
    for (text, at, what) in [
        ("enabled: true", "authentication.secret_key", "there is no secret"),
        ("secret_key: ''", "lucid.yml:1:30: authentication.secret_key", "there is no secret"),
        ("secret_key:", "authentication.secret_key", "there is no secret"),
        ("secret_key: short", "lucid.yml:1:30: authentication.secret_key", "shorter than 32 bytes"),
        (&format!("secret_key: {PUBLISHED}"), "lucid.yml:1:30: authentication.secret_key", "published"),
        (
            &format!("secret_key: {PUBLISHED}, allow_weak_secret: true"),
            "lucid.yml:1:30: authentication.secret_key",
            "published",
        ),
        (&format!("secret_key: [{SECRET}]"), "lucid.yml:1:30: authentication.secret_key", "a single value"),
        ("enabled: sure", "lucid.yml:1:27: authentication.enabled", "true or false"),
        ("leeway: 301", "lucid.yml:1:26: authentication.leeway", "from 0 s to 5 m"),
        ("leeway: 1500ms", "lucid.yml:1:26: authentication.leeway", "whole seconds"),
        ("require_exp: 1", "lucid.yml:1:31: authentication.require_exp", "true or false"),
        ("anonymous_head: x", "lucid.yml:1:34: authentication.anonymous_head", "true or false"),
        ("allow_weak_secret: x", "lucid.yml:1:37: authentication.allow_weak_secret", "true or false"),
        ("local_uids: [root]", "lucid.yml:1:30: authentication.local_uids", "whole number"),
        ("local_uids: [4294967295]", "lucid.yml:1:30: authentication.local_uids", "4294967294"),
        (
            "previous_secret_key: x",
            "lucid.yml:1:39: authentication.previous_secret_key",
            "shorter than 32 bytes",
        ),
        (
            &format!("previous_secret_key: {PUBLISHED}, allow_weak_secret: true"),
            "lucid.yml:1:39: authentication.previous_secret_key",
            "published",
        ),
        (
            "secretkey: x",
            "lucid.yml:1:18: authentication.secretkey",
            "did you mean authentication.secret_key?",
        ),
    ] {
        let complaints = Case::new().file(&format!("authentication: {{{text}}}")).complaints();
        let found = complaints.iter().any(|line| line.starts_with(at) && line.contains(what));
        assert!(found, "{text:?} should say {at}…{what}…, but says {complaints:#?}");
        assert!(complaints.iter().all(|line| !line.contains(SECRET) && !line.contains(PUBLISHED)));
    }
}

#[test]
fn every_mistake_in_the_environment_is_refused_with_the_variable() {
    for (name, value, at, what) in [
        ("LUCID_GENERAL__PROT", "1", "LUCID_GENERAL__PROT", "did you mean LUCID_GENERAL__PORT?"),
        ("LUCID_GENERAL_PORT", "1", "LUCID_GENERAL_PORT", "did you mean LUCID_GENERAL__PORT?"),
        ("LUCID_PORT", "7020", "LUCID_PORT", "no such setting"),
        ("LUCID_", "", "LUCID_", "no such setting"),
        ("LUCID_general__port", "1", "LUCID_general__port", "did you mean LUCID_GENERAL__PORT?"),
        ("LUCID_GENERAL__PORT", "x", "environment LUCID_GENERAL__PORT: general.port", "whole number"),
        ("LUCID_GENERAL__PORT", "", "environment LUCID_GENERAL__PORT: general.port", "whole number"),
        ("LUCID_LOG", "loud", "environment LUCID_LOG: logging.level", "off, error"),
        ("LUCID_LOGGING__OUTPUTS", "stderr,void", "environment LUCID_LOGGING__OUTPUTS", "expected stderr"),
        ("LUCID_GENERAL__USE_SSL", "true", "environment LUCID_GENERAL__USE_SSL", "is not given"),
        (
            "LUCID_GENERAL__PORT_FILE",
            "/nonexistent/x",
            "LUCID_GENERAL__PORT_FILE /nonexistent/x",
            "no such file",
        ),
        ("LUCID_GENERAL__PORT_FILE", "/", "LUCID_GENERAL__PORT_FILE /", "folder"),
        ("LUCID_\u{1b}[2J", "1", "LUCID_\\u{1b}[2J", "no such setting"),
    ] {
        let complaints = Case::new().variable(name, value).complaints();
        let found = complaints.iter().any(|line| line.starts_with(at) && line.contains(what));
        assert!(found, "{name}={value} should say {at}…{what}…, but says {complaints:#?}");
    }
    let both = Case::new().variable("LUCID_GENERAL__PORT", "1").variable("LUCID_GENERAL__PORT_FILE", "/x");
    assert!(both.complaints()[0].contains("keep one of the two"));
}

#[test]
fn a_file_that_cannot_be_read_is_named() {
    let read = |path: PathBuf| {
        let mut case = Case::new();
        case.sources.config = Some(path);
        case.complaints().remove(0)
    };
    let folder = tempfile::tempdir().unwrap();
    assert!(read(folder.path().join("absent.yml")).contains("Configuration file not found."));
    assert!(read(folder.path().to_owned()).contains("folder"));
    let large = folder.path().join("large.yml");
    std::fs::write(&large, vec![b'#'; super::file::FILE_BYTES_MAX + 1]).unwrap();
    assert!(read(large.clone()).contains("larger than 256 KiB"));
    std::fs::write(&large, vec![b'#'; super::file::FILE_BYTES_MAX]).unwrap();
    assert!(read(large).contains("no secret"));
    let binary = folder.path().join("binary.yml");
    std::fs::write(&binary, [0xff, 0xfe]).unwrap();
    assert!(read(binary).contains("not UTF-8"));
    assert!(read(PathBuf::from("/dev/zero")).contains("larger than"));
}

proptest::proptest! {
    #[test]
    fn no_text_makes_the_loader_panic(text in "\\PC{0,200}") {
        Typed::default().add_file(Path::new("lucid.yml"), &text);
    }

    #[test]
    fn no_damage_to_a_file_makes_the_loader_panic(
        damage in proptest::collection::vec((0..ORIGINAL.len(), "[-:{}\\[\\]&*!|>'\"%@`,? \n\ta1]{0,3}"), 1..6),
    ) {
        let mut text = ORIGINAL.to_owned();
        for (at, with) in damage {
            text.replace_range(at.min(text.len())..(at + 1).min(text.len()), &with);
        }
        let mut typed = Typed::default();
        typed.add_file(Path::new("lucid.yml"), &text);
        typed.add_environment(&[]);
        {
            let machine = Machine { cores: 4, memory_bytes: Some(8 << 30), addresses };
            let fresh_secret = Secret::new("");
            resolve(&typed, Surroundings { file: None, machine, fresh_secret, insecure: false });
        }
    }
}
