//! Asks for a secret on the terminal, where it is not shown while it is typed.

use std::io::{self, BufRead, IsTerminal, Write};

use rustix::termios::{LocalModes, OptionalActions, Termios, tcgetattr, tcsetattr};
use zeroize::Zeroizing;

/// Shows the terminal's input again when it is dropped.
struct Hidden(Termios);

impl Hidden {
    fn hide() -> io::Result<Hidden> {
        let before = tcgetattr(io::stdin())?;
        let mut hidden = before.clone();
        hidden.local_modes.remove(LocalModes::ECHO);
        tcsetattr(io::stdin(), OptionalActions::Flush, &hidden)?;
        Ok(Hidden(before))
    }
}

impl Drop for Hidden {
    fn drop(&mut self) {
        let _ = tcsetattr(io::stdin(), OptionalActions::Flush, &self.0);
    }
}

/// Asks, if there is a terminal to ask at. An empty answer is none.
pub fn secret(question: &str) -> io::Result<Option<Zeroizing<String>>> {
    if !io::stdin().is_terminal() {
        return Ok(None);
    }
    write!(io::stderr(), "{question}: ")?;
    let hidden = Hidden::hide()?;
    let mut line = Zeroizing::new(String::with_capacity(4_096));
    io::stdin().lock().read_line(&mut line)?;
    drop(hidden);
    writeln!(io::stderr())?;
    let text = Zeroizing::new(line.trim_end_matches(['\n', '\r']).to_owned());
    Ok(Some(text).filter(|text| !text.is_empty()))
}
