//! Gives what was typed its meaning: texts become [`Settings`], settings nobody gave get their
//! defaults, some of them from the machine.
//!
//! Three kinds of complaint come of it. *Problems* are values without meaning: there are no settings.
//! *Refusals* are settings that a server must not run with. *Warnings* let it run.

use std::net::{IpAddr, Ipv4Addr, SocketAddr};
use std::path::PathBuf;
use std::sync::Arc;
use std::time::Duration;

use super::doors;
use super::durability;
use super::machine::Machine;
use super::password_hash::PasswordHash;
use super::problem::Problem;
use super::reader::Reader;
use super::secret::Secret;
use super::settings::{
    Authentication, DATABASE_ACTIONS, Databases, Format, General, Http, Logging, Output, Runtime, Settings,
    Shown, Shutdown, Store, WhenFull,
};
use super::typed::Typed;
use super::value::{boolean, duration, shown, size, web_origin, whole, word};
use crate::limits::{TTL_SECONDS_MAX, VALUES_IN_FLIGHT_MIN, WORKER_MEMORY_BYTES_MIN, WORKERS_MAX};

const PORT: u64 = 7_020;
const VALUE_BYTES_MAX: u64 = 7_340_032;
const REQUEST_BYTES_MAX: u64 = 8_388_608;
const HEADER_TIMEOUT: Duration = Duration::from_secs(10);
const IDLE_TIMEOUT: Duration = Duration::from_secs(75);
const GRACE: Duration = Duration::from_secs(10);
const LEEWAY_MAX: Duration = Duration::from_secs(300);
const MILLISECOND: Duration = Duration::from_millis(1);
const HOUR: Duration = Duration::from_secs(3_600);
const WEEK: Duration = Duration::from_secs(7 * 86_400);
const GIB: u64 = 1 << 30;

/// The memory limit of a node on a machine that does not say what it has.
const MEMORY_BYTES_UNKNOWN: u64 = 256 << 20;

/// What came of it all.
#[derive(Debug)]
pub struct Resolved {
    /// What the program runs on. Not to be used if there are problems.
    pub settings: Settings,
    /// Every setting as it is shown.
    pub listing: Vec<Shown>,
    /// The secrets that were given, which the listing hides.
    pub secrets: Vec<(&'static str, Secret)>,
    /// Values without meaning.
    pub problems: Vec<Problem>,
    /// Why a server must not run with these settings.
    pub refusals: Vec<Problem>,
}

/// What the settings hang on beside what was typed.
#[derive(Debug)]
pub struct Surroundings {
    /// The file that was read.
    pub file: Option<PathBuf>,
    /// The machine.
    pub machine: Machine,
    /// The secret to use if there is no file and nobody gave one.
    pub fresh_secret: Secret,
    /// Whether `--insecure` was given.
    pub insecure: bool,
}

/// Resolves everything.
pub fn resolve(typed: &Typed, surroundings: Surroundings) -> Resolved {
    let Surroundings { file, machine, fresh_secret, insecure } = surroundings;
    let mut reader = Reader::new(typed);
    let (mut refusals, mut warnings) = (Vec::new(), Vec::new());
    let (unix_socket, local_uids) = doors::unix_socket(&mut reader, &mut warnings);
    let general = general(&mut reader, &machine, unix_socket, &mut refusals);
    let authentication = authentication(&mut reader, local_uids, file.is_none().then_some(fresh_secret));
    let workers_typed =
        reader.one("runtime.workers", 0, |text| whole(text, 0, WORKERS_MAX as u64), u64::to_string);
    let pin_cores = switch(&mut reader, "runtime.pin_cores", false);
    let (persistence, snapshot) = durability::durability(&mut reader, &mut refusals, &mut warnings);
    let when_full = when_full(&mut reader, persistence.is_some());
    let (workers, store) = store(&mut reader, &machine, workers_typed as usize, when_full, &mut refusals);
    let http = http(&mut reader);
    let logging = logging(&mut reader);
    let grace = span(&mut reader, "shutdown.grace", GRACE, Duration::ZERO, HOUR);
    let databases = databases(&mut reader);
    later(&mut reader, &mut warnings);
    let settings = Settings {
        file,
        general,
        runtime: Runtime { workers, pin_cores },
        authentication,
        store,
        persistence,
        snapshot,
        http,
        databases,
        logging,
        shutdown: Shutdown { grace },
        warnings,
    };
    let settings = super::safety::check(&mut reader, settings, &machine, insecure, &mut refusals);
    let (listing, secrets, problems) = reader.finish();
    Resolved { settings, listing, secrets, problems, refusals }
}

fn general(
    reader: &mut Reader<'_>,
    machine: &Machine,
    unix_socket: Option<PathBuf>,
    refusals: &mut Vec<Problem>,
) -> General {
    let loopback = IpAddr::V4(Ipv4Addr::LOCALHOST);
    let address = reader.one(
        "general.bind_address",
        loopback,
        |text| address(text, machine),
        |address| address.to_string(),
    );
    let port = reader.one("general.port", PORT, |text| whole(text, 0, 65_535), u64::to_string);
    General {
        listen: SocketAddr::new(address, port as u16),
        tls: doors::tls(reader, address, port, refusals),
        unix_socket,
        show_banner: switch(reader, "general.show_banner", true),
    }
}

/// The address that a text is or names. Of a name's addresses, one of version 4 is taken first: that
/// is where clients look that know no other.
fn address(text: &str, machine: &Machine) -> Result<IpAddr, String> {
    let bare = text.strip_prefix('[').and_then(|text| text.strip_suffix(']')).unwrap_or(text);
    if let Ok(address) = bare.parse::<IpAddr>() {
        return Ok(address);
    }
    let name = |byte: u8| byte.is_ascii_alphanumeric() || b"-._".contains(&byte);
    if text.is_empty() || !text.bytes().all(name) {
        return Err("expected an address or a host name, such as 127.0.0.1, ::1 or localhost; \
                    the port is a setting of its own"
            .into());
    }
    match (machine.addresses)(text) {
        Ok(addresses) => addresses
            .iter()
            .find(|address| address.is_ipv4())
            .or(addresses.first())
            .copied()
            .ok_or_else(|| format!("the host name {text} has no address")),
        Err(error) => Err(format!("the host name {text} cannot be resolved: {error}")),
    }
}

/// `fresh_secret` is there when the node runs without a file.
fn authentication(
    reader: &mut Reader<'_>,
    local_uids: Vec<u32>,
    fresh_secret: Option<Secret>,
) -> Authentication {
    let enabled = switch(reader, "authentication.enabled", true);
    let given = reader.secret("authentication.secret_key");
    let fresh = fresh_secret.filter(|_| enabled && !reader.is_given("authentication.secret_key"));
    let ephemeral_secret = fresh.is_some();
    if ephemeral_secret {
        reader.derived(
            "authentication.secret_key",
            super::secret::MASK.into(),
            Some("drawn at random for each run"),
        );
    }
    let leeway = span(reader, "authentication.leeway", Duration::ZERO, Duration::ZERO, LEEWAY_MAX);
    if leeway.subsec_millis() != 0 {
        reader.refuse("authentication.leeway", "expected whole seconds, since the times in a token are");
    }
    Authentication {
        enabled,
        secret_key: given.or(fresh).unwrap_or_else(|| Secret::new("")),
        previous_secret_key: reader.secret("authentication.previous_secret_key"),
        ephemeral_secret,
        leeway_seconds: leeway.as_secs(),
        require_exp: switch(reader, "authentication.require_exp", true),
        anonymous_head: switch(reader, "authentication.anonymous_head", false),
        local_uids,
    }
}

/// The store and the number of workers, which share the memory.
fn store(
    reader: &mut Reader<'_>,
    machine: &Machine,
    workers_typed: usize,
    when_full: WhenFull,
    refusals: &mut Vec<Problem>,
) -> (usize, Store) {
    let at_least_one = |text: &str| size(text).and_then(|bytes| positive(bytes, "expected a size above 0"));
    let memory_typed = reader.optional("store.memory_limit", at_least_one, u64::to_string);
    let memory_bytes = memory_typed.unwrap_or_else(|| {
        machine
            .memory_bytes
            .map_or(MEMORY_BYTES_UNKNOWN, |bytes| (bytes / 2).min(GIB))
            .max(WORKER_MEMORY_BYTES_MIN)
    });
    if memory_typed.is_none() {
        reader.derived(
            "store.memory_limit",
            memory_bytes.to_string(),
            Some("half of the memory, at most 1 GiB"),
        );
    }
    let workers = match workers_typed {
        0 => {
            let room = (memory_bytes / WORKER_MEMORY_BYTES_MIN).max(1) as usize;
            let workers = machine.cores.min(WORKERS_MAX).min(room);
            let how = if workers == machine.cores { "one for each core" } else { "as many as limits allow" };
            reader.derived("runtime.workers", workers.to_string(), Some(how));
            workers
        }
        workers => workers,
    };
    let least = workers as u64 * WORKER_MEMORY_BYTES_MIN;
    if memory_bytes < least {
        refusals.push(reader.problem(
            "store.memory_limit",
            format!(
                "{memory_bytes} bytes are too few for {workers} workers; give at least {least}, or set fewer runtime.workers"
            ),
        ));
    }
    let value_typed = reader.optional("store.max_limit", at_least_one, u64::to_string);
    let fits = (memory_bytes / (workers as u64 * VALUES_IN_FLIGHT_MIN)).max(1);
    let value_bytes_max = value_typed.unwrap_or(VALUE_BYTES_MAX.min(fits));
    if value_typed.is_none() {
        let shrunk = (fits < VALUE_BYTES_MAX).then_some("shrunk to fit store.memory_limit");
        reader.derived("store.max_limit", value_bytes_max.to_string(), shrunk);
    } else if value_bytes_max > fits {
        refusals.push(reader.problem(
            "store.max_limit",
            format!(
                "store.memory_limit ({memory_bytes} bytes) must hold {VALUES_IN_FLIGHT_MIN} values of {value_bytes_max} bytes \
                 for each of {workers} workers; lower this to {fits}, raise store.memory_limit, or set fewer \
                 runtime.workers"
            ),
        ));
    }
    let default_ttl_seconds = reader.optional("store.default_ttl", ttl, |seconds| format!("{seconds} s"));
    (workers, Store { memory_bytes, when_full, value_bytes_max, default_ttl_seconds })
}

/// What is on disk is meant to stay, so it is not evicted unless that is said.
fn when_full(reader: &mut Reader<'_>, is_durable: bool) -> WhenFull {
    let default = if is_durable { "reject" } else { "evict" };
    let parse = |text: &str| word(text, &["evict", "reject"]);
    match reader.one("store.when_full", default, parse, |word| word.to_string()) {
        "reject" => WhenFull::Reject,
        _ => WhenFull::Evict,
    }
}

fn ttl(text: &str) -> Result<u32, String> {
    let bounds = format!("expected whole seconds from 1 to {TTL_SECONDS_MAX}; leave it out for no default");
    let most = Duration::from_secs(TTL_SECONDS_MAX);
    match duration(text, Duration::from_secs(1), most) {
        Ok(duration) if duration.subsec_millis() == 0 => {
            u32::try_from(duration.as_secs()).map_err(|_| bounds)
        }
        _ => Err(bounds),
    }
}

fn positive(number: u64, what: &str) -> Result<u64, String> {
    if number == 0 { Err(what.to_owned()) } else { Ok(number) }
}

fn databases(reader: &mut Reader<'_>) -> Databases {
    let password = reader.secret("databases.password");
    let hash = reader.secret("databases.password_hash").map(|hash| match password {
        None => PasswordHash::parse(hash.expose()).map(Arc::new),
        Some(_) => Err("given together with databases.password; keep one of the two".into()),
    });
    let password_hash = match hash.transpose() {
        Ok(hash) => hash,
        Err(what) => {
            reader.refuse("databases.password_hash", what);
            None
        }
    };
    let action = |text: &str| word(text, &DATABASE_ACTIONS);
    let restricted = reader.list("databases.restricted", Vec::new(), action, |action| action.to_string());
    Databases { password, password_hash, restricted: restricted.into_iter().map(Box::from).collect() }
}

fn http(reader: &mut Reader<'_>) -> Http {
    let request_size = |text: &str| size(text).and_then(|bytes| positive(bytes, "expected a size above 0"));
    let most = u64::from(u32::MAX);
    let connections = |text: &str| whole(text, 1, most).map(|number| number as u32);
    Http {
        request_bytes_max: reader.one(
            "http.request_size_limit",
            REQUEST_BYTES_MAX,
            request_size,
            u64::to_string,
        ),
        header_timeout: span(reader, "http.header_timeout", HEADER_TIMEOUT, MILLISECOND, HOUR),
        idle_timeout: span(reader, "http.idle_timeout", IDLE_TIMEOUT, MILLISECOND, WEEK),
        connections_max: reader.optional("http.max_connections", connections, u32::to_string),
        cors_origins: reader.list("http.cors_origins", Vec::new(), web_origin, String::clone),
    }
}

fn logging(reader: &mut Reader<'_>) -> Logging {
    let levels = ["off", "error", "warn", "info", "debug", "trace"];
    let level = reader.one("logging.level", "info", |text| word(text, &levels), |word| word.to_string());
    let outputs = reader.list("logging.outputs", vec![Output::Stderr { colored: false }], output, |output| {
        let (stream, colored) = match output {
            Output::Stderr { colored } => ("stderr", *colored),
            Output::Stdout { colored } => ("stdout", *colored),
            Output::File(path) => return format!("file:{}", path.display()),
        };
        if colored { format!("{stream}:colored") } else { stream.to_owned() }
    });
    let format =
        reader.one("logging.format", "text", |text| word(text, &["text", "json"]), |word| word.to_string());
    Logging {
        level: level.parse().unwrap_or(log::LevelFilter::Info),
        outputs,
        format: if format == "json" { Format::Json } else { Format::Text },
    }
}

fn output(text: &str) -> Result<Output, String> {
    match text {
        "stderr" => Ok(Output::Stderr { colored: false }),
        "stderr:colored" => Ok(Output::Stderr { colored: true }),
        "stdout" => Ok(Output::Stdout { colored: false }),
        "stdout:colored" => Ok(Output::Stdout { colored: true }),
        _ => match text.strip_prefix("file:") {
            Some(path) if !path.is_empty() => Ok(Output::File(PathBuf::from(path))),
            _ => Err("expected stderr, stdout or file:PATH; :colored may follow a stream".into()),
        },
    }
}

/// Settings of later versions and of earlier ones: read, so that a file with them loads.
fn later(reader: &mut Reader<'_>, warnings: &mut Vec<String>) {
    switch(reader, "http.compression", false);
    switch(reader, "sse.enabled", true);
    switch(reader, "webui.enabled", true);
    if reader.text("encryption.iv").is_some() {
        warnings.push("encryption.iv is ignored: every record gets a nonce of its own; remove it".into());
    }
    if reader.secret("authentication.root_token").is_some() {
        warnings.push(
            "authentication.root_token is not used, since tokens are verified by the secret alone; remove it"
                .into(),
        );
    }
}

fn switch(reader: &mut Reader<'_>, path: &'static str, default: bool) -> bool {
    reader.one(path, default, boolean, bool::to_string)
}

fn span(
    reader: &mut Reader<'_>,
    path: &'static str,
    default: Duration,
    least: Duration,
    most: Duration,
) -> Duration {
    reader.one(path, default, |text| duration(text, least, most), |duration| shown(*duration))
}
