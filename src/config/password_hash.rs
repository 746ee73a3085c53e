//! A password as a file may hold it: hashed by Argon2id, in the form that other tools write too.
//!
//! ```text
//! $argon2id$v=19$m=19456,t=2,p=1$<salt>$<hash>      base64 without padding
//! ```
//!
//! Memory and passes are bounded, since whoever shows a password has the node go through them.

use std::fmt;

use argon2::{Algorithm, Argon2, Params, Version};
use base64::Engine;
use base64::engine::general_purpose::STANDARD_NO_PAD;

use crate::constant_time;

/// Most memory that a check may take, in KiB.
const MEMORY_KIB_MAX: u32 = 64 * 1_024;

/// Most passes over it.
const PASSES_MAX: u32 = 16;

/// Most lanes.
const LANES_MAX: u32 = 16;

/// What a hash that is made here takes: the least that OWASP recommends, and 27 ms of a core.
const USUAL: (u32, u32, u32) = (19 * 1_024, 2, 1);

/// Length of the salt and the hash of one that is made here, in bytes.
pub const SALT_BYTES: usize = 16;
const HASH_BYTES: usize = 32;

/// A hashed password.
#[derive(Clone)]
pub struct PasswordHash {
    params: Params,
    salt: Vec<u8>,
    hash: Vec<u8>,
}

impl PasswordHash {
    /// Reads one.
    ///
    /// # Errors
    /// What is wrong with it, in words, and nothing of it.
    pub fn parse(text: &str) -> Result<PasswordHash, String> {
        const SHAPE: &str = "expected $argon2id$v=19$m=…,t=…,p=…$salt$hash, such as `lucid settings \
                             --hash-password` writes";
        let shape = || SHAPE.to_owned();
        let mut parts = text.strip_prefix('$').ok_or_else(shape)?.split('$');
        let mut part = || parts.next().ok_or_else(shape);
        if part()? != "argon2id" || part()? != "v=19" {
            return Err(shape());
        }
        let [mut memory_kib, mut passes, mut lanes] = [None; 3];
        for given in part()?.split(',') {
            let (name, number) = given.split_once('=').ok_or_else(shape)?;
            let slot = match name {
                "m" => &mut memory_kib,
                "t" => &mut passes,
                "p" => &mut lanes,
                _ => return Err(shape()),
            };
            if slot.replace(number.parse::<u32>().map_err(|_| shape())?).is_some() {
                return Err(shape());
            }
        }
        let (Some(memory_kib), Some(passes), Some(lanes)) = (memory_kib, passes, lanes) else {
            return Err(shape());
        };
        if memory_kib > MEMORY_KIB_MAX || passes > PASSES_MAX || lanes > LANES_MAX {
            return Err(format!(
                "a check of it would take too long: at most m={MEMORY_KIB_MAX}, t={PASSES_MAX} and p={LANES_MAX}"
            ));
        }
        let [salt, hash] = [part()?, part()?].map(|text| STANDARD_NO_PAD.decode(text));
        let (salt, hash) = (salt.map_err(|_| shape())?, hash.map_err(|_| shape())?);
        // As long as the algorithm asks for, and not so long that only its making could explain it.
        let is_good = (8..=64).contains(&salt.len()) && (16..=64).contains(&hash.len());
        if !is_good || parts.next().is_some() {
            return Err(shape());
        }
        let params = Params::new(memory_kib, passes, lanes, Some(hash.len())).map_err(|_| shape())?;
        Ok(PasswordHash { params, salt, hash })
    }

    /// Hashes a password, with a salt that was drawn for it.
    pub fn of(password: &[u8], salt: &[u8; SALT_BYTES]) -> PasswordHash {
        let (memory_kib, passes, lanes) = USUAL;
        let params = Params::new(memory_kib, passes, lanes, Some(HASH_BYTES)).expect("usual parameters");
        let mut made = PasswordHash { params, salt: salt.to_vec(), hash: Vec::new() };
        made.hash = made.hash_of(password, HASH_BYTES).unwrap_or_default();
        made
    }

    /// Whether it is of this password. Takes some milliseconds and the memory that it says.
    pub fn is_of(&self, password: &[u8]) -> bool {
        let hash = self.hash_of(password, self.hash.len());
        hash.is_some_and(|hash| constant_time::equal(&hash, &self.hash))
    }

    fn hash_of(&self, password: &[u8], length: usize) -> Option<Vec<u8>> {
        let mut hash = vec![0; length];
        let argon2 = Argon2::new(Algorithm::Argon2id, Version::V0x13, self.params.clone());
        argon2.hash_password_into(password, &self.salt, &mut hash).ok()?;
        Some(hash)
    }
}

impl fmt::Display for PasswordHash {
    fn fmt(&self, out: &mut fmt::Formatter<'_>) -> fmt::Result {
        let (params, base64) = (&self.params, |bytes: &[u8]| STANDARD_NO_PAD.encode(bytes));
        let (memory_kib, passes, lanes) = (params.m_cost(), params.t_cost(), params.p_cost());
        let (salt, hash) = (base64(&self.salt), base64(&self.hash));
        write!(out, "$argon2id$v=19$m={memory_kib},t={passes},p={lanes}${salt}${hash}")
    }
}

/// What it is a hash of could be guessed from it.
impl fmt::Debug for PasswordHash {
    fn fmt(&self, out: &mut fmt::Formatter<'_>) -> fmt::Result {
        out.write_str(super::secret::MASK)
    }
}

#[cfg(test)]
mod tests {
    use super::PasswordHash;

    /// Up to the hash.
    const KNOWN: &str = "$argon2id$v=19$m=64,t=2,p=1$c29tZXNhbHQ$";

    #[test]
    fn what_is_written_is_read_back_and_knows_its_password() {
        let made = PasswordHash::of(b"correct horse", b"0123456789abcdef");
        let read = PasswordHash::parse(&made.to_string()).unwrap();
        assert!(read.is_of(b"correct horse"));
        for wrong in ["", "correct hors", "correct horse ", "Correct horse"] {
            assert!(!read.is_of(wrong.as_bytes()), "{wrong}");
        }
        assert_eq!(read.to_string(), made.to_string());
        assert_eq!(format!("{read:?}"), "********");
    }

    #[test]
    fn a_hash_of_another_tool_is_known() {
        // Of the reference implementation's own tests.
        let text = "$argon2id$v=19$m=65536,t=2,p=1$c29tZXNhbHQ\
                    $CTFhFdXPJO1aFaMaO6Mm5c8y7cJHAph8ArZWb2GRPPc";
        let hash = PasswordHash::parse(text).unwrap();
        assert!(hash.is_of(b"password") && !hash.is_of(b"passwort"));
        assert_eq!(hash.to_string(), text);
    }

    #[test]
    fn what_is_no_such_hash_or_costs_too_much_is_refused_without_being_shown() {
        let hash = "CTFhFdXPJO1aFaMaO6Mm5c8y7cJHAph8ArZWb2GRPPc";
        assert!(PasswordHash::parse(&format!("{KNOWN}{hash}")).is_ok());
        for text in [
            "",
            "$",
            "password",
            "$2b$12$abcdefghijklmnopqrstuv",
            &format!("$argon2i$v=19$m=64,t=2,p=1$c29tZXNhbHQ${hash}"),
            &format!("$argon2id$v=16$m=64,t=2,p=1$c29tZXNhbHQ${hash}"),
            &format!("$argon2id$v=19$m=64,t=2$c29tZXNhbHQ${hash}"),
            &format!("$argon2id$v=19$m=64,t=2,p=1,p=1$c29tZXNhbHQ${hash}"),
            &format!("$argon2id$v=19$m=64,t=2,x=1$c29tZXNhbHQ${hash}"),
            &format!("$argon2id$v=19$m=7,t=2,p=1$c29tZXNhbHQ${hash}"),
            &format!("$argon2id$v=19$m=64,t=0,p=1$c29tZXNhbHQ${hash}"),
            &format!("$argon2id$v=19$m=64,t=2,p=0$c29tZXNhbHQ${hash}"),
            &format!("$argon2id$v=19$m=99999999999,t=2,p=1$c29tZXNhbHQ${hash}"),
            &format!("$argon2id$v=19$m=65537,t=2,p=1$c29tZXNhbHQ${hash}"),
            &format!("$argon2id$v=19$m=64,t=17,p=1$c29tZXNhbHQ${hash}"),
            &format!("$argon2id$v=19$m=1024,t=2,p=17$c29tZXNhbHQ${hash}"),
            &format!("$argon2id$v=19$m=64,t=2,p=1$c29tZQ${hash}"),
            &format!("{KNOWN}{hash}$"),
            &format!("{KNOWN}{hash}="),
            &format!("{KNOWN}CTFhFdXP"),
            KNOWN,
        ] {
            let why = PasswordHash::parse(text).unwrap_err();
            assert!(!why.contains(hash), "{why}");
        }
    }
}
