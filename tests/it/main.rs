//! End-to-end tests: one binary over the real executable and real plugins.
//!
//! There is one file per subject. Every test has an ecosystem of its own in a temporary directory, so tests run at the
//! same time and in any order. See `dae_tests` for the harness.

mod bad_input;
mod call;
mod cli;
mod clients;
mod compilers;
mod completions;
mod connect;
mod container;
mod crash;
mod dependencies;
mod detach;
mod dev;
mod discovery;
mod doctor;
mod drop_in;
mod ecosystem;
mod events;
mod foreign_text;
mod guests;
mod handles;
mod home;
mod host;
mod hostile;
mod install;
mod isolation;
mod lifecycle;
mod loader;
mod logs;
mod many;
mod new;
mod packages;
mod pages;
mod parts;
mod private_group;
mod prose;
mod reload;
mod reply_budget;
mod saves;
mod schemas;
mod service;
mod settings;
mod shutdown;
mod signals;
mod start_order;
mod supervision;
mod test_host;
mod tidy;
mod tokio_plugin;
mod typed_clients;
mod values;
mod vectors;
