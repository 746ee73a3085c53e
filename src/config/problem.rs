//! What is wrong with the configuration, and where each setting came from, said so that an operator
//! can put it right: what happened, to what, and what to do next.

use std::fmt;
use std::path::{Path, PathBuf};
use std::sync::Arc;

/// A place in a file.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Place {
    /// From 1.
    pub line: u64,
    /// From 1, in characters.
    pub column: u64,
}

/// Who gave a setting its value.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum Origin {
    /// Nobody: the program's own.
    Default,
    /// The configuration file.
    File(Arc<Path>, Place),
    /// This environment variable.
    Variable(String),
    /// The file that this environment variable names.
    VariableFile(String, PathBuf),
    /// This flag of the command line.
    Flag(&'static str),
}

impl fmt::Display for Origin {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            Origin::Default => f.write_str("default"),
            Origin::File(path, place) => write!(f, "{}:{}:{}", path.display(), place.line, place.column),
            Origin::Variable(name) => write!(f, "environment {}", escaped(name)),
            Origin::VariableFile(name, path) => write!(f, "{} {}", escaped(name), path.display()),
            Origin::Flag(flag) => f.write_str(flag),
        }
    }
}

/// One thing that is wrong: `lucid.yml:3:9: general.port: …`.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Problem {
    /// Place and setting, as far as they are known.
    pub at: String,
    /// What is wrong and what to do.
    pub what: String,
    /// The setting, as it was typed. Without one, the trouble is with a source as a whole.
    pub path: Option<String>,
}

impl Problem {
    /// A problem of a setting that has a value.
    pub fn of(origin: &Origin, path: &str, what: impl Into<String>) -> Problem {
        let at = match origin {
            Origin::Default => path.to_owned(),
            origin => format!("{origin}: {path}"),
        };
        Problem { at, what: what.into(), path: Some(path.into()) }
    }

    /// A problem at a place or with a thing.
    pub fn at(at: impl fmt::Display, what: impl Into<String>) -> Problem {
        Problem { at: at.to_string(), what: what.into(), path: None }
    }

    /// The same problem, known to be that of one setting.
    pub fn with_path(self, path: impl Into<String>) -> Problem {
        Problem { path: Some(path.into()), ..self }
    }
}

impl fmt::Display for Problem {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "{}: {}", self.at, self.what)
    }
}

/// Why there are no settings.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct LoadError {
    /// At least one problem; all that could be found, whatever their source.
    pub problems: Vec<Problem>,
    /// Among them, the system does not let this process read something. Decides the exit code.
    pub denied: bool,
}

/// The end of a sentence that offers a name, if there is one to offer.
pub fn suggestion(name: Option<&str>) -> String {
    name.map_or(String::new(), |name| format!("; did you mean {name}?"))
}

/// A text without control characters, so that what someone else wrote can stand in a terminal and
/// in one line.
pub fn escaped(text: &str) -> String {
    let mut shown = String::with_capacity(text.len());
    for character in text.chars() {
        match character {
            character if character.is_control() => shown.extend(character.escape_default()),
            // Marks that turn the direction of a line.
            '\u{200e}' | '\u{200f}' | '\u{202a}'..='\u{202e}' | '\u{2066}'..='\u{2069}' => {
                shown.extend(character.escape_default());
            }
            character => shown.push(character),
        }
    }
    shown
}

/// The name most like a mistyped one, if any is like it at all.
pub fn nearest<'n>(typed: &str, names: impl IntoIterator<Item = &'n str>) -> Option<&'n str> {
    let typed = typed.to_ascii_lowercase();
    if typed.len() > 64 {
        return None;
    }
    names
        .into_iter()
        .map(|name| (distance(&typed, &name.to_ascii_lowercase()), name))
        .min_by_key(|(distance, _)| *distance)
        .filter(|(distance, name)| *distance <= (name.len().max(typed.len()) / 3).max(1))
        .map(|(_, name)| name)
}

/// Optimal string alignment: insertions, deletions, substitutions and swaps of neighbours.
fn distance(a: &str, b: &str) -> usize {
    let (a, b): (Vec<char>, Vec<char>) = (a.chars().collect(), b.chars().collect());
    let mut rows = vec![(0..=b.len()).collect::<Vec<usize>>()];
    for i in 1..=a.len() {
        let mut row = vec![i; b.len() + 1];
        for j in 1..=b.len() {
            let other = usize::from(a[i - 1] != b[j - 1]);
            row[j] = (rows[i - 1][j] + 1).min(row[j - 1] + 1).min(rows[i - 1][j - 1] + other);
            if i > 1 && j > 1 && a[i - 1] == b[j - 2] && a[i - 2] == b[j - 1] {
                row[j] = row[j].min(rows[i - 2][j - 2] + 1);
            }
        }
        rows.push(row);
    }
    rows[a.len()][b.len()]
}

#[cfg(test)]
mod tests {
    use super::{distance, escaped, nearest};

    #[test]
    fn the_nearest_name_is_found_and_a_far_one_is_not() {
        let names = ["port", "port_ssl", "bind_address", "use_ssl"];
        for (typed, name) in [
            ("prot", Some("port")),
            ("Port", Some("port")),
            ("bind_adress", Some("bind_address")),
            ("bindaddress", Some("bind_address")),
            ("use_tls", Some("use_ssl")),
            ("colour", None),
            ("", None),
        ] {
            assert_eq!(nearest(typed, names), name, "{typed}");
        }
        assert_eq!(nearest(&"p".repeat(1_000_000), names), None);
        assert_eq!(distance("abcd", "abdc"), 1);
    }

    #[test]
    fn nothing_that_moves_a_cursor_is_shown() {
        assert_eq!(escaped("a\u{1b}[2Jb\r\n\u{9b}\u{202e}é"), "a\\u{1b}[2Jb\\r\\n\\u{9b}\\u{202e}é");
    }
}
