//! Texts that must not be shown.

use std::fmt;

use zeroize::Zeroizing;

/// A secret. Shown as stars by everything that formats it; only [`Secret::expose`] gives the text.
///
/// Wiped when it is dropped. There is no comparison, because the obvious one would tell by its time how
/// much was right.
#[derive(Clone)]
pub struct Secret(Zeroizing<String>);

/// What stands in a secret's place.
pub const MASK: &str = "********";

impl Secret {
    /// Keeps a text from being shown.
    pub fn new(text: impl Into<String>) -> Secret {
        Secret(Zeroizing::new(text.into()))
    }

    /// The text itself.
    pub fn expose(&self) -> &str {
        &self.0
    }

    /// Whether there is nothing to hide.
    pub fn is_empty(&self) -> bool {
        self.0.is_empty()
    }
}

impl fmt::Debug for Secret {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(MASK)
    }
}

impl fmt::Display for Secret {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(MASK)
    }
}

#[cfg(test)]
mod tests {
    use super::{MASK, Secret};

    #[test]
    fn a_secret_is_masked_however_it_is_formatted() {
        let secret = Secret::new("hush");
        assert_eq!(
            format!("{secret} {secret:?} {:#?}", Some(&secret)),
            format!("{MASK} {MASK} Some(\n    {MASK},\n)")
        );
        assert_eq!(secret.expose(), "hush");
    }
}
