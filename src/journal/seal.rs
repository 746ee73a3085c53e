//! What keeps the folder unreadable for those without the key: AES-256-GCM over every record.
//!
//! Three layers of keys. The *master key* comes of the text of `encryption.private_key` by HKDF-SHA256 with
//! the salt in the manifest. It wraps the *folder key*, which is random and lies in the manifest. That wraps
//! the *data key* of each file, which is random too and lies in its head. A record's nonce is the
//! sequence of its group and its number in that; a file is written once, by one process, so no nonce is used
//! twice under a data key, but to write the same bytes once more. A new
//! master key changes the manifest alone: it wraps a new folder key for what is written from then on, and
//! the old one until compaction has replaced the last file under it.

use std::fmt;

use ring::aead::{AES_256_GCM, Aad, LessSafeKey, NONCE_LEN, Nonce, UnboundKey};
use ring::hkdf::{HKDF_SHA256, Salt};
use ring::rand::{SecureRandom, SystemRandom};
use zeroize::Zeroizing;

/// Bytes that a sealed record is longer than what is in it.
pub(super) const TAG_BYTES: usize = 16;

/// A salt of HKDF.
pub(super) const SALT_BYTES: usize = 16;

const KEY_BYTES: usize = 32;

/// A key wrapped by another: nonce, sealed key and tag.
pub(super) const WRAPPED_BYTES: usize = NONCE_LEN + KEY_BYTES + TAG_BYTES;

/// The text that the master key is derived from. Never shown, and wiped when it is dropped.
#[derive(Clone)]
pub struct MasterKey(Zeroizing<Vec<u8>>);

/// What wraps other keys.
#[derive(Clone)]
pub(super) struct Wrapping(std::sync::Arc<LessSafeKey>);

/// Seals or opens the records of one file.
pub(super) struct Sealer(Box<LessSafeKey>);

/// A key does not fit what was sealed, or that was changed.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) struct Unsealable;

impl MasterKey {
    /// The key that is derived from a text, whatever its form.
    pub fn from_text(text: &str) -> MasterKey {
        MasterKey(Zeroizing::new(text.as_bytes().to_vec()))
    }

    /// The wrapping key for a folder or file with this salt.
    pub(super) fn derive(&self, salt: &[u8; SALT_BYTES]) -> Wrapping {
        let secret = Salt::new(HKDF_SHA256, salt).extract(&self.0);
        let okm = secret.expand(&[b"lucid journal 1"], &AES_256_GCM).expect("32 bytes are not too many");
        Wrapping(std::sync::Arc::new(LessSafeKey::new(UnboundKey::from(okm))))
    }
}

impl Wrapping {
    /// A new random key, as what wraps further ones, and wrapped.
    pub(super) fn new_wrapping(&self) -> (Wrapping, [u8; WRAPPED_BYTES]) {
        let key = random_key();
        let wrapped = self.wrap(&key);
        (Wrapping(std::sync::Arc::new(aes(&key))), wrapped)
    }

    /// A new random key, as what seals the records of a file, and wrapped.
    pub(super) fn new_sealer(&self) -> (Sealer, [u8; WRAPPED_BYTES]) {
        let key = random_key();
        let wrapped = self.wrap(&key);
        (Sealer(Box::new(aes(&key))), wrapped)
    }

    /// The wrapped key as what wraps further ones.
    pub(super) fn unwrap_wrapping(&self, wrapped: &[u8; WRAPPED_BYTES]) -> Result<Wrapping, Unsealable> {
        Ok(Wrapping(std::sync::Arc::new(aes(&*self.unwrap(wrapped)?))))
    }

    /// The wrapped key as what opens the records of a file.
    pub(super) fn unwrap_sealer(&self, wrapped: &[u8; WRAPPED_BYTES]) -> Result<Sealer, Unsealable> {
        Ok(Sealer(Box::new(aes(&*self.unwrap(wrapped)?))))
    }

    /// Wraps again what another key wrapped.
    pub(super) fn rewrap(
        &self,
        from: &Wrapping,
        wrapped: &[u8; WRAPPED_BYTES],
    ) -> Result<[u8; WRAPPED_BYTES], Unsealable> {
        Ok(self.wrap(&*from.unwrap(wrapped)?))
    }

    fn wrap(&self, key: &[u8; KEY_BYTES]) -> [u8; WRAPPED_BYTES] {
        let mut wrapped = [0; WRAPPED_BYTES];
        let nonce: [u8; NONCE_LEN] = random();
        let (nonce_out, rest) = wrapped.split_at_mut(NONCE_LEN);
        let (key_out, tag_out) = rest.split_at_mut(KEY_BYTES);
        nonce_out.copy_from_slice(&nonce);
        key_out.copy_from_slice(key);
        let nonce = Nonce::assume_unique_for_key(nonce);
        let tag = self.0.seal_in_place_separate_tag(nonce, Aad::empty(), key_out);
        tag_out.copy_from_slice(tag.expect("32 bytes are not too many").as_ref());
        wrapped
    }

    fn unwrap(&self, wrapped: &[u8; WRAPPED_BYTES]) -> Result<Zeroizing<[u8; KEY_BYTES]>, Unsealable> {
        let (nonce, sealed) = wrapped.split_at(NONCE_LEN);
        let nonce = Nonce::try_assume_unique_for_key(nonce).map_err(|_| Unsealable)?;
        let mut sealed = Zeroizing::new(sealed.to_vec());
        let key = self.0.open_in_place(nonce, Aad::empty(), &mut sealed).map_err(|_| Unsealable)?;
        let mut out = Zeroizing::new([0; KEY_BYTES]);
        out.copy_from_slice(key);
        Ok(out)
    }
}

impl Sealer {
    /// Seals all of `bytes` from `from` on, at a place; what `aad` says is only vouched for.
    pub(super) fn seal(&self, place: Place, aad: &[u8], bytes: &mut Vec<u8>, from: usize) {
        let tag = self.0.seal_in_place_separate_tag(place.nonce(), Aad::from(aad), &mut bytes[from..]);
        bytes.extend_from_slice(tag.expect("a record is not too long").as_ref());
    }

    /// Opens a record where it lies, and answers what was in it.
    pub(super) fn open<'b>(
        &self,
        place: Place,
        aad: &[u8],
        bytes: &'b mut [u8],
    ) -> Result<&'b [u8], Unsealable> {
        self.0
            .open_in_place(place.nonce(), Aad::from(aad), bytes)
            .map(|bytes| &*bytes)
            .map_err(|_| Unsealable)
    }
}

/// Where a record is in its file.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) struct Place {
    /// The sequence of its group.
    pub group: u64,
    /// How many are before it in the group.
    pub piece: u32,
}

impl Place {
    fn nonce(self) -> Nonce {
        let mut nonce = [0; NONCE_LEN];
        nonce[..8].copy_from_slice(&self.group.to_le_bytes());
        nonce[8..].copy_from_slice(&self.piece.to_le_bytes());
        Nonce::assume_unique_for_key(nonce)
    }
}

/// Bytes that nobody can foresee.
pub(super) fn random<const COUNT: usize>() -> [u8; COUNT] {
    let mut bytes = [0; COUNT];
    // The system's generator fails only before it is ready, early in the start of the machine.
    SystemRandom::new().fill(&mut bytes).expect("the system gives random numbers");
    bytes
}

fn random_key() -> Zeroizing<[u8; KEY_BYTES]> {
    Zeroizing::new(random())
}

fn aes(key: &[u8; KEY_BYTES]) -> LessSafeKey {
    LessSafeKey::new(UnboundKey::new(&AES_256_GCM, key).expect("a key of 32 bytes"))
}

impl fmt::Debug for MasterKey {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str("MasterKey(********)")
    }
}

impl fmt::Debug for Wrapping {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str("Wrapping(********)")
    }
}

impl fmt::Debug for Sealer {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str("Sealer(********)")
    }
}

#[cfg(test)]
mod tests {
    use super::{MasterKey, Place, Unsealable};

    #[test]
    fn a_record_opens_only_with_its_key_at_its_place_and_unchanged() {
        let master = MasterKey::from_text("hush").derive(&[1; 16]);
        let (folder, wrapped_folder) = master.new_wrapping();
        let (sealer, wrapped) = folder.new_sealer();
        let mut one = b"__one".to_vec();
        sealer.seal(Place { group: 7, piece: 0 }, b"head", &mut one, 2);
        assert_eq!(one.len(), 5 + super::TAG_BYTES);
        assert!(one.starts_with(b"__") && !one.ends_with(b"one"));
        let again = MasterKey::from_text("hush").derive(&[1; 16]).unwrap_wrapping(&wrapped_folder).unwrap();
        let open = |(group, piece), aad: &[u8], bytes: &[u8]| {
            let opener = again.unwrap_sealer(&wrapped).unwrap();
            opener.open(Place { group, piece }, aad, &mut bytes.to_vec()).map(<[u8]>::to_vec)
        };
        assert_eq!(open((7, 0), b"head", &one[2..]), Ok(b"one".to_vec()));
        assert_eq!(open((8, 0), b"head", &one[2..]), Err(Unsealable));
        assert_eq!(open((7, 1), b"head", &one[2..]), Err(Unsealable));
        assert_eq!(open((7, 0), b"haed", &one[2..]), Err(Unsealable));
        for at in 2..one.len() {
            let mut changed = one.clone();
            changed[at] ^= 1;
            assert_eq!(open((7, 0), b"head", &changed[2..]), Err(Unsealable), "{at}");
        }
    }

    #[test]
    fn another_text_or_salt_is_another_key() {
        let (_, wrapped) = MasterKey::from_text("hush").derive(&[1; 16]).new_wrapping();
        for (text, salt) in [("hush ", [1; 16]), ("hush", [2; 16]), ("", [1; 16])] {
            assert!(MasterKey::from_text(text).derive(&salt).unwrap_wrapping(&wrapped).is_err(), "{text}");
        }
        let (old, new) =
            (MasterKey::from_text("hush").derive(&[1; 16]), MasterKey::from_text("new").derive(&[3; 16]));
        let rewrapped = new.rewrap(&old, &wrapped).unwrap();
        assert!(new.unwrap_wrapping(&rewrapped).is_ok() && old.unwrap_wrapping(&rewrapped).is_err());
        assert!(new.rewrap(&old, &rewrapped).is_err());
    }

    #[test]
    fn a_key_is_not_shown() {
        let master = MasterKey::from_text("hush");
        let (sealer, _) = master.derive(&[0; 16]).new_sealer();
        let shown = format!("{master:?} {:?} {sealer:?}", master.derive(&[0; 16]));
        assert!(!shown.contains("hush") && shown.contains("********"), "{shown}");
    }
}
