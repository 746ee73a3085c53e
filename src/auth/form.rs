//! In which forms a credential comes, and sets of them: the route table says which a route takes.

use std::fmt;

/// How a request shows who it comes from.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash)]
#[repr(u8)]
pub enum Form {
    /// A JSON Web Token.
    Jwt = 0,
    /// An API key as a bearer token.
    ApiKey = 1,
    /// An app's token.
    AppToken = 2,
    /// The password of the databases family.
    Password = 3,
    /// An API key in the place of that password.
    ApiKeyAsPassword = 4,
}

const ALL: [Form; 5] = [Form::Jwt, Form::ApiKey, Form::AppToken, Form::Password, Form::ApiKeyAsPassword];

impl Form {
    /// As documents name it.
    pub const fn name(self) -> &'static str {
        match self {
            Form::Jwt => "JWT",
            Form::ApiKey => "API key",
            Form::AppToken => "app token",
            Form::Password => "password",
            Form::ApiKeyAsPassword => "API key as password",
        }
    }

    /// The form as a number, to be kept; [`Form::from_bits`] reads it back.
    pub(super) const fn bits(self) -> u8 {
        self as u8
    }

    /// The form that [`Form::bits`] gave.
    pub(super) fn from_bits(bits: u8) -> Form {
        ALL[usize::from(bits) % ALL.len()]
    }

    /// Whether it comes in Basic authentication.
    pub const fn is_basic(self) -> bool {
        Forms::BASIC.contains(self)
    }
}

/// A set of forms.
#[derive(Clone, Copy, PartialEq, Eq)]
pub struct Forms(u8);

impl Forms {
    /// Nothing is taken, because nothing is asked for.
    pub const NONE: Forms = Forms(0);
    /// What people and programs show everywhere.
    pub const BEARER: Forms = Forms(1 << Form::Jwt as u8 | 1 << Form::ApiKey as u8);
    /// What comes with an app.
    pub const APP_TOKEN: Forms = Forms(1 << Form::AppToken as u8);
    /// What comes in Basic authentication.
    pub const BASIC: Forms = Forms(1 << Form::Password as u8 | 1 << Form::ApiKeyAsPassword as u8);

    /// Whether a form is in the set.
    pub const fn contains(self, form: Form) -> bool {
        self.0 & 1 << form as u8 != 0
    }

    /// Whether any of `other` is in the set.
    pub const fn intersects(self, other: Forms) -> bool {
        self.0 & other.0 != 0
    }

    /// The forms of either set.
    pub const fn union(self, other: Forms) -> Forms {
        Forms(self.0 | other.0)
    }

    /// The forms in the set.
    pub fn iter(self) -> impl Iterator<Item = Form> {
        ALL.into_iter().filter(move |form| self.contains(*form))
    }
}

impl fmt::Debug for Forms {
    fn fmt(&self, out: &mut fmt::Formatter<'_>) -> fmt::Result {
        out.debug_set().entries(self.iter()).finish()
    }
}

#[cfg(test)]
mod tests {
    use super::{ALL, Form, Forms};

    #[test]
    fn sets_hold_what_they_say_and_forms_come_back_from_their_bits() {
        assert!(ALL.into_iter().all(|form| Form::from_bits(form.bits()) == form));
        let of = |forms: Forms| forms.iter().collect::<Vec<_>>();
        assert_eq!(of(Forms::BEARER), [Form::Jwt, Form::ApiKey]);
        assert_eq!(of(Forms::BASIC), [Form::Password, Form::ApiKeyAsPassword]);
        assert_eq!(of(Forms::NONE), []);
        assert!(Form::Password.is_basic() && !Form::ApiKey.is_basic());
        assert!(!Forms::BEARER.intersects(Forms::BASIC));
        assert_eq!(of(Forms::BEARER.union(Forms::BASIC)).len(), 4);
    }
}
