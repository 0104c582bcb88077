//! A job object, which holds a process and all that it starts, and a process group of the console, which gets no Ctrl-C.

#![allow(unsafe_code)]

use std::os::windows::io::{AsRawHandle as _, FromRawHandle as _, OwnedHandle};
use std::os::windows::process::CommandExt as _;
use std::process::{Child, Command};
use std::ptr;

use windows_sys::Win32::System::JobObjects::{
    AssignProcessToJobObject, CreateJobObjectW, TerminateJobObject,
};
use windows_sys::Win32::System::Threading::CREATE_NEW_PROCESS_GROUP;

/// The exit code of processes that are ended with their group, as `taskkill` uses it.
const CODE_ENDED: u32 = 1;

/// The job of a process. Dropping it ends nothing.
#[derive(Debug)]
pub struct BuildGroup(OwnedHandle);

/// Has a command lead a group of its own once it is started.
pub fn lead_group(command: &mut Command) {
    command.creation_flags(CREATE_NEW_PROCESS_GROUP);
}

impl BuildGroup {
    /// Puts a process that has just been started into a job. What it has started by then stays outside: a few
    /// instructions after its start, that is nothing. Returns `None` if the system makes no job.
    #[must_use]
    pub fn of(leader: &Child) -> Option<Self> {
        // SAFETY: both pointers may be null: the default security, and no name.
        let job = unsafe { CreateJobObjectW(ptr::null(), ptr::null()) };
        if job.is_null() {
            return None;
        }
        // SAFETY: the handle was made just now, and has no other owner.
        let job = unsafe { OwnedHandle::from_raw_handle(job) };
        // SAFETY: both handles are open.
        let is_in =
            unsafe { AssignProcessToJobObject(job.as_raw_handle(), leader.as_raw_handle()) };
        (is_in != 0).then_some(BuildGroup(job))
    }

    /// Ends all its processes.
    pub fn end(self) {
        // SAFETY: the handle is open. The processes may have ended by themselves.
        unsafe { TerminateJobObject(self.0.as_raw_handle(), CODE_ENDED) };
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use std::process::Stdio;

    #[test]
    fn a_group_ends_as_a_whole() {
        let mut command = Command::new("cmd");
        command.args(["/c", "cmd /c pause"]).stdin(Stdio::piped());
        lead_group(&mut command);
        let mut child = command.stdout(Stdio::null()).spawn().unwrap();
        BuildGroup::of(&child).unwrap().end();
        assert_eq!(child.wait().unwrap().code(), Some(CODE_ENDED.cast_signed()));
    }
}
