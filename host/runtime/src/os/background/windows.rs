//! Not possible yet: a program without a console would have to be started with other streams than its own, and no test
//! here can show it. The system's own ways are named instead.

use std::io;

pub(super) const INSTEAD: Option<&str> =
    Some("`Start-Process -WindowStyle Hidden dae-host run` in PowerShell, or a service");

pub(super) fn leave_terminal() -> io::Result<()> {
    Err(io::ErrorKind::Unsupported.into())
}

pub(super) fn let_go_of_output() -> io::Result<()> {
    Err(io::ErrorKind::Unsupported.into())
}
