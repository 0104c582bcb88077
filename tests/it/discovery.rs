//! Foreign daemons: they are found, called and removed, and never mistaken for others. Listeners that are no daemons
//! are left alone.
//!
//! The machine of these tests has many other listeners, some of them other tests'. So each host here may ask only at
//! the ports that its test has opened: see [`scene::only`].

mod announced;
mod ecosystems;
mod itself;
mod languages;
mod names;
mod polite;
pub(crate) mod scene;
