//! `/controller`, `/database` and `/execute`: KOT's databases.

pub mod query;
