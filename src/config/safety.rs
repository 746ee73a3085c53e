//! What a server must not run with although each setting by itself has a meaning: secrets that
//! others know or can guess, and doors without locks.

use super::machine::Machine;
use super::problem::Problem;
use super::reader::Reader;
use super::secret::Secret;
use super::settings::Settings;

/// The secret in the sample file of the original, which is public.
const PUBLISHED_SECRET: &str = "03dfe6e600e2620388311955ab3bee32cd6cbb8aca75dace6cfc2e2a43db5dfd";

/// The private key in the same file.
const PUBLISHED_PRIVATE_KEY: &str = "123456789012345678901234123456789012345678901234";

/// Shortest secret that cannot be guessed from one token: the output size of its hash (RFC 7518,
/// section 3.2).
pub const SECRET_BYTES_MIN: usize = 32;

/// Why a text is no good as a secret, if it is not.
pub enum Weakness {
    /// There is none.
    Empty,
    /// Everybody knows it.
    Published,
    /// It can be guessed.
    Short,
}

/// Judges a secret by itself.
pub fn weakness(secret: &str) -> Option<Weakness> {
    match secret {
        "" => Some(Weakness::Empty),
        PUBLISHED_SECRET | PUBLISHED_PRIVATE_KEY => Some(Weakness::Published),
        secret if secret.len() < SECRET_BYTES_MIN => Some(Weakness::Short),
        _ => None,
    }
}

/// The settings that a refusal of this one also hangs on. If one of them has no meaning, the refusal may
/// be about a default that nobody meant.
pub fn causes(path: &str) -> &'static [&'static str] {
    match path {
        "store.memory_limit" | "store.max_limit" => {
            &["store.memory_limit", "store.max_limit", "runtime.workers"]
        }
        "authentication.secret_key" => {
            &["authentication.secret_key", "authentication.enabled", "authentication.allow_weak_secret"]
        }
        "persistence.enabled" => &["persistence.enabled", "persistence.location"],
        "encryption.enabled" => &["encryption.enabled", "encryption.private_key"],
        "encryption.private_key" => {
            &["encryption.private_key", "encryption.enabled", "authentication.allow_weak_secret"]
        }
        "general.bind_address" => &["general.bind_address", "authentication.enabled"],
        _ => &[],
    }
}

/// Adds refusals, and warnings to the settings.
pub fn check(
    reader: &mut Reader<'_>,
    mut settings: Settings,
    machine: &Machine,
    insecure: bool,
    refusals: &mut Vec<Problem>,
) -> Settings {
    let allow_weak =
        reader.one("authentication.allow_weak_secret", false, super::value::boolean, bool::to_string);
    let authentication = &settings.authentication;
    if authentication.enabled {
        let secrets = [
            ("authentication.secret_key", Some(&authentication.secret_key)),
            ("authentication.previous_secret_key", authentication.previous_secret_key.as_ref()),
        ];
        for (path, secret) in secrets {
            let what = secret.and_then(|secret| secret_refusal(secret, allow_weak));
            refusals.extend(what.map(|what| reader.problem(path, what)));
        }
    } else if !settings.general.listen.ip().to_canonical().is_loopback() {
        if insecure {
            settings.warnings.push(format!(
                "authentication is off and {} is reachable from other machines: they may read and change everything",
                settings.general.listen
            ));
        } else {
            refusals.push(reader.problem(
                "general.bind_address",
                "other machines could reach this address, and authentication is off; set \
                 authentication.enabled: true, bind to 127.0.0.1, or start the server with --insecure",
            ));
        }
    }
    let of_journal = settings.persistence.as_ref().and_then(|persistence| persistence.private_key.as_ref());
    let of_snapshot = settings.snapshot.as_ref().and_then(|snapshot| snapshot.private_key.as_ref());
    let private_key = of_journal.or(of_snapshot);
    let what = private_key.and_then(|key| private_key_refusal(key, allow_weak));
    refusals.extend(what.map(|what| reader.problem("encryption.private_key", what)));
    let memory_bytes = settings.store.memory_bytes;
    let machine_bytes = machine.memory_bytes.filter(|bytes| memory_bytes > *bytes);
    if let Some(machine_bytes) = machine_bytes.filter(|_| reader.is_given("store.memory_limit")) {
        refusals.push(reader.problem(
            "store.memory_limit",
            format!(
                "{memory_bytes} bytes are more than the {machine_bytes} that this machine or container has, so \
                 the system would kill the node when it fills; leave it out for {}, or give the container more",
                (machine_bytes / 2).min(1 << 30)
            ),
        ));
    }
    let warnings = more_warnings(&settings, machine);
    settings.warnings.extend(warnings);
    settings
}

fn secret_refusal(secret: &Secret, allow_weak: bool) -> Option<String> {
    match weakness(secret.expose())? {
        Weakness::Empty => Some(
            "authentication is on and there is no secret; write one with `lucid init`, or set \
             LUCID_AUTHENTICATION__SECRET_KEY"
                .into(),
        ),
        Weakness::Published => Some(
            "this secret stands in a published sample file, so everybody can make tokens with it; \
             use another one, such as `lucid init` draws"
                .into(),
        ),
        Weakness::Short if allow_weak => None,
        Weakness::Short => Some(format!(
            "shorter than {SECRET_BYTES_MIN} bytes and can be guessed from a token; use a longer one, such \
             as `lucid init` draws, or set authentication.allow_weak_secret: true"
        )),
    }
}

fn private_key_refusal(key: &Secret, allow_weak: bool) -> Option<String> {
    match weakness(key.expose())? {
        // That there is none is told where encryption is turned on.
        Weakness::Empty => None,
        Weakness::Published => Some(
            "this key stands in a published sample file, so everybody can read what is sealed with it; make \
             another one with `openssl rand -hex 32`"
                .into(),
        ),
        Weakness::Short if allow_weak => None,
        Weakness::Short => Some(format!(
            "shorter than {SECRET_BYTES_MIN} bytes and can be guessed from a copy of the folder; make another \
             one with `openssl rand -hex 32`, or set authentication.allow_weak_secret: true"
        )),
    }
}

fn more_warnings(settings: &Settings, machine: &Machine) -> Vec<String> {
    let mut warnings = Vec::new();
    let (store, http) = (&settings.store, &settings.http);
    if store.value_bytes_max > http.request_bytes_max {
        warnings.push(format!(
            "values over {} bytes cannot be sent: http.request_size_limit is below store.max_limit ({})",
            http.request_bytes_max, store.value_bytes_max
        ));
    }
    if settings.runtime.workers > machine.cores {
        warnings.push(format!(
            "runtime.workers is {} on {} cores: workers will wait for each other",
            settings.runtime.workers, machine.cores
        ));
    }
    warnings
}
