//! The one door for `unsafe`: each file wraps what the language cannot check behind a face that can
//! be used safely, and says with every block whose promise it rests on.
#![allow(unsafe_code)]

pub mod image;
pub mod pages;
pub mod prefetch;
pub mod region;
pub mod scan;
