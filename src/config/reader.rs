//! Takes settings out of what was typed, one by one: a text gets its meaning, a setting without one its
//! default, and both are noted for the listing. A text without meaning is noted as a problem and
//! the default stands in, so that one run finds all problems.

use serde_json::Value as Json;

use super::keys::{KEYS, Key};
use super::problem::{Origin, Problem, escaped};
use super::secret::{MASK, Secret};
use super::settings::Shown;
use super::typed::Typed;

/// What a setting without a value shows.
const UNSET: &str = "unset";

/// Reads the settings of one [`Typed`].
pub struct Reader<'t> {
    typed: &'t Typed,
    listing: Vec<Shown>,
    secrets: Vec<(&'static str, Secret)>,
    problems: Vec<Problem>,
}

impl<'t> Reader<'t> {
    /// Begins with nothing read.
    pub fn new(typed: &'t Typed) -> Reader<'t> {
        Reader { typed, listing: Vec::new(), secrets: Vec::new(), problems: Vec::new() }
    }

    /// A setting that always has a value.
    pub fn one<T>(
        &mut self,
        path: &'static str,
        default: T,
        parse: impl Fn(&str) -> Result<T, String>,
        show: impl Fn(&T) -> String,
    ) -> T {
        let value = self.parsed(path, parse).unwrap_or(default);
        let shown = show(&value);
        self.note(path, scalar(&shown), shown);
        value
    }

    /// A setting that may have none.
    pub fn optional<T>(
        &mut self,
        path: &'static str,
        parse: impl Fn(&str) -> Result<T, String>,
        show: impl Fn(&T) -> String,
    ) -> Option<T> {
        let value = self.parsed(path, parse);
        match value.as_ref().map(show) {
            Some(shown) => self.note(path, scalar(&shown), shown),
            None => self.note(path, Json::Null, UNSET.into()),
        }
        value
    }

    /// A free text; an empty one is none.
    pub fn text(&mut self, path: &'static str) -> Option<String> {
        let text = self.parsed(path, |text| Ok(text.to_owned())).filter(|text| !text.is_empty());
        match &text {
            Some(text) => self.note(path, text.as_str().into(), escaped(text)),
            None => self.note(path, Json::Null, UNSET.into()),
        }
        text
    }

    /// A text that is not to be shown; an empty one is none.
    pub fn secret(&mut self, path: &'static str) -> Option<Secret> {
        let secret = self.parsed(path, |text| Ok(Secret::new(text))).filter(|secret| !secret.is_empty());
        match &secret {
            Some(secret) => {
                self.secrets.push((path, secret.clone()));
                self.note(path, MASK.into(), MASK.into());
            }
            None => self.note(path, Json::Null, UNSET.into()),
        }
        secret
    }

    /// A list of texts, none of which is without meaning.
    pub fn list<T>(
        &mut self,
        path: &'static str,
        default: Vec<T>,
        parse: impl Fn(&str) -> Result<T, String>,
        show: impl Fn(&T) -> String,
    ) -> Vec<T> {
        let values = match self.given(path) {
            None => default,
            Some((texts, _)) => {
                let mut values = Vec::with_capacity(texts.len());
                for (at, text) in texts.iter().enumerate() {
                    match parse(text) {
                        Ok(value) => values.push(value),
                        Err(what) if texts.len() == 1 => self.refuse(path, what),
                        Err(what) => self.refuse(path, format!("member {} of the list: {what}", at + 1)),
                    }
                }
                values
            }
        };
        let shown: Vec<String> = values.iter().map(show).collect();
        let text = if shown.is_empty() { "none".into() } else { shown.join(", ") };
        self.note(path, shown.iter().map(|member| scalar(member)).collect(), text);
        values
    }

    /// Whether anybody gave this setting a value.
    pub fn is_given(&self, path: &'static str) -> bool {
        self.given(path).is_some()
    }

    /// Notes that a setting, alone or with others, cannot be as it is.
    pub fn refuse(&mut self, path: &'static str, what: impl Into<String>) {
        let problem = self.problem(path, what);
        self.problems.push(problem);
    }

    /// A problem of a setting, at its place.
    pub fn problem(&self, path: &'static str, what: impl Into<String>) -> Problem {
        Problem::of(&self.origin(path), path, what)
    }

    /// Corrects the listing where a value comes of other settings or of the machine, and says how if
    /// that is worth a word.
    pub fn derived(&mut self, path: &'static str, value: String, how: Option<&str>) {
        if let Some(line) = self.listing.iter_mut().find(|line| line.path == path) {
            line.json = scalar(&value);
            line.value = value;
            if let Some(how) = how {
                line.origin = format!("{}: {how}", line.origin);
            }
        }
    }

    /// The listing in the order of the file, the secrets that were given, and the problems.
    pub fn finish(mut self) -> (Vec<Shown>, Vec<(&'static str, Secret)>, Vec<Problem>) {
        let at = |path: &str| KEYS.iter().position(|key| key.path == path);
        self.listing.sort_by_key(|line| at(line.path));
        (self.listing, self.secrets, self.problems)
    }

    fn parsed<T>(&mut self, path: &'static str, parse: impl Fn(&str) -> Result<T, String>) -> Option<T> {
        let (texts, _) = self.given(path)?;
        match parse(texts.first().map_or("", String::as_str)) {
            Ok(value) => Some(value),
            Err(what) => {
                self.refuse(path, what);
                None
            }
        }
    }

    fn given(&self, path: &'static str) -> Option<(&'t [String], &'t Origin)> {
        debug_assert!(Key::find(path).is_some(), "{path} is not in the table of settings");
        self.typed.get(path)
    }

    fn origin(&self, path: &'static str) -> Origin {
        self.given(path).map_or(Origin::Default, |(_, origin)| origin.clone())
    }

    fn note(&mut self, path: &'static str, json: Json, value: String) {
        let origin = self.origin(path).to_string();
        self.listing.push(Shown { path, value, json, origin });
    }
}

/// A shown value as JSON: what is a number or a switch in the file is one here.
fn scalar(shown: &str) -> Json {
    match shown {
        "true" => true.into(),
        "false" => false.into(),
        _ => shown.parse::<u64>().map_or_else(|_| shown.into(), Json::from),
    }
}
