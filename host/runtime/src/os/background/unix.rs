//! A session of its own (setsid(2)), and `/dev/null` in place of the streams.

use std::fs::File;
use std::io;

use rustix::process::setsid;
use rustix::stdio::{dup2_stderr, dup2_stdout};

pub(super) const INSTEAD: Option<&str> = None;

pub(super) fn leave_terminal() -> io::Result<()> {
    setsid()?;
    Ok(())
}

pub(super) fn let_go_of_output() -> io::Result<()> {
    let null = File::options().write(true).open("/dev/null")?;
    dup2_stdout(&null)?;
    dup2_stderr(&null)?;
    Ok(())
}
