//! Draws from the system's random numbers.

use ring::rand::{SecureRandom, SystemRandom};

use super::failure::{Exit, Failure};
use crate::config::Secret;

/// Random bytes that nobody can foresee.
pub fn bytes<const COUNT: usize>() -> Result<[u8; COUNT], Failure> {
    let mut bytes = [0; COUNT];
    SystemRandom::new().fill(&mut bytes).map_err(|_| {
        Failure::new(Exit::Failed, "the system gives no random numbers; start the node again")
    })?;
    Ok(bytes)
}

/// A new secret: 256 bits in 64 hexadecimal digits, as the original's are.
pub fn secret() -> Result<Secret, Failure> {
    let digits: String = bytes::<32>()?.iter().map(|byte| format!("{byte:02x}")).collect();
    Ok(Secret::new(digits))
}

#[cfg(test)]
mod tests {
    use super::secret;

    #[test]
    fn a_secret_has_64_digits_and_is_never_drawn_twice() {
        let (one, other) = (secret().unwrap(), secret().unwrap());
        assert_eq!(one.expose().len(), 64);
        assert!(one.expose().bytes().all(|digit| b"0123456789abcdef".contains(&digit)));
        assert_ne!(one.expose(), other.expose());
    }
}
