//! A suite for any program, also one that this machine can only emulate, such as the host for Windows under Wine.
//!
//! The end-to-end tests in `it` look into processes as only Linux allows. These tests see no more than a person with a
//! command line, a TCP client and a file manager does, so that they run with each program that the machine can run. They
//! take the whole command line once, the promises about reloads and crashes under a light load, and input that is wrong
//! in ways that a system answers in words of its own.
//!
//! By default it runs this machine's own program. `.ci/run windows` builds all that the suite needs for Windows
//! and runs it; [`program`] tells which variables name a program. Under Wine,
//! `WINEPREFIX` must name a prefix that nothing else uses: a test removes a drive from it. A test may be left out by its
//! name, such as those of subprocesses where an emulator can't run the program's own copy.

mod crash;
mod dev;
mod drop_in;
mod host;
mod input;
mod program;
mod reload;
mod restart;
mod session;
mod text;
mod together;
mod windows;
