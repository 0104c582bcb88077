//! Consoles by their modes. They have no background: all processes of a console read its keys.

#![allow(unsafe_code)]

use std::io::{self, IsTerminal as _};
use std::os::windows::io::AsRawHandle as _;

use windows_sys::Win32::Foundation::HANDLE;
use windows_sys::Win32::System::Console::{
    CONSOLE_MODE, ENABLE_ECHO_INPUT, ENABLE_LINE_INPUT, ENABLE_PROCESSED_OUTPUT,
    ENABLE_VIRTUAL_TERMINAL_PROCESSING, GetConsoleMode, SetConsoleMode,
};

#[derive(Debug)]
pub(super) struct Mode(CONSOLE_MODE);

impl Mode {
    pub(super) fn begin() -> Option<Self> {
        let stdin = io::stdin();
        if !stdin.is_terminal() {
            return None;
        }
        let before = mode_of(stdin.as_raw_handle())?;
        let now = before & !(ENABLE_LINE_INPUT | ENABLE_ECHO_INPUT);
        set_mode(stdin.as_raw_handle(), now).then_some(Mode(before))
    }

    pub(super) fn restore(&self) {
        set_mode(io::stdin().as_raw_handle(), self.0);
    }
}

/// Has the console read escape sequences, such as those of colours, where it doesn't by itself.
pub fn allow_escapes() {
    for output in [io::stdout().as_raw_handle(), io::stderr().as_raw_handle()] {
        // An output that is no console has no mode. An old console knows no sequences.
        if let Some(mode) = mode_of(output) {
            let escapes = ENABLE_PROCESSED_OUTPUT | ENABLE_VIRTUAL_TERMINAL_PROCESSING;
            set_mode(output, mode | escapes);
        }
    }
}

fn mode_of(console: HANDLE) -> Option<CONSOLE_MODE> {
    let mut mode = 0;
    // SAFETY: a handle of a standard stream stays open; the call writes one number, to the place behind the pointer.
    let is_console = unsafe { GetConsoleMode(console, &raw mut mode) };
    (is_console != 0).then_some(mode)
}

fn set_mode(console: HANDLE, mode: CONSOLE_MODE) -> bool {
    // SAFETY: a handle of a standard stream stays open, and the call touches no memory of this process.
    unsafe { SetConsoleMode(console, mode) != 0 }
}
