//! Foreign daemons: found, called, gone; never mistaken for others; and all who are no daemons left in peace.
//!
//! The machine of these tests is full of other listeners, other tests' among them. So every host here may ask only at the
//! ports that its test has made: see [`scene::only`].

mod announced;
mod ecosystems;
mod itself;
mod languages;
mod names;
mod polite;
pub(crate) mod scene;
