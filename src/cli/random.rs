//! Draws secrets from the system's random numbers.

use ring::rand::{SecureRandom, SystemRandom};

use super::failure::{Exit, Failure};
use crate::config::Secret;

/// A new secret: 256 bits in 64 hexadecimal digits, as the original's are.
pub fn secret() -> Result<Secret, Failure> {
    let mut bytes = [0; 32];
    SystemRandom::new().fill(&mut bytes).map_err(|_| {
        Failure::new(Exit::Failed, "the system gives no random numbers, so no secret can be drawn")
    })?;
    Ok(Secret::new(bytes.iter().map(|byte| format!("{byte:02x}")).collect::<String>()))
}
