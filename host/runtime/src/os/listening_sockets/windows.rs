//! The listening sockets of Windows, from `GetExtendedTcpTable`.
//!
//! The system names the process of each socket, and the process's token names its user. Sockets have no id: the process
//! and the port stand for it.

#![allow(unsafe_code)]

use std::collections::{HashMap, HashSet};
use std::io;
use std::os::windows::io::{AsRawHandle as _, FromRawHandle as _, OwnedHandle};

use windows_sys::Win32::Foundation::{
    ERROR_INSUFFICIENT_BUFFER, FILETIME, INVALID_HANDLE_VALUE, NO_ERROR, WAIT_TIMEOUT,
};
use windows_sys::Win32::NetworkManagement::IpHelper::{
    GetExtendedTcpTable, TCP_TABLE_OWNER_PID_LISTENER,
};
use windows_sys::Win32::Networking::WinSock::{AF_INET, AF_INET6};
use windows_sys::Win32::System::Diagnostics::ToolHelp::{
    CreateToolhelp32Snapshot, PROCESSENTRY32W, Process32FirstW, Process32NextW, TH32CS_SNAPPROCESS,
};
use windows_sys::Win32::System::Threading::{
    GetProcessTimes, OpenProcess, PROCESS_QUERY_LIMITED_INFORMATION, PROCESS_SYNCHRONIZE,
    WaitForSingleObject,
};

use super::owner_table::{self, Row};
use super::{ListeningSocket, Process, pid_of};
use crate::os::account;

/// The room for a table at first (bytes); more than a usual machine needs.
const TABLE_BYTES: u32 = 16 << 10;

/// The most attempts to get a table: it may grow between two of them.
const ATTEMPTS_MAX: usize = 10;

/// Returns all listening sockets.
///
/// # Errors
/// The system's error.
pub fn listening() -> io::Result<Vec<ListeningSocket>> {
    let mut rows = read(owner_table::rows_v4, &table(AF_INET)?)?;
    // Without IPv6 there is no such table.
    if let Ok(table) = table(AF_INET6) {
        rows.extend(read(owner_table::rows_v6, &table)?);
    }
    Ok(owner_table::sockets(rows, account::is_own_process))
}

fn read(rows: fn(&[u8]) -> Option<Vec<Row>>, table: &[u8]) -> io::Result<Vec<Row>> {
    let text = "the system's list of sockets can't be read";
    rows(table).ok_or_else(|| io::Error::new(io::ErrorKind::InvalidData, text))
}

/// Returns the table of the listeners of one address family.
fn table(family: u16) -> io::Result<Vec<u8>> {
    let mut bytes = TABLE_BYTES;
    for _ in 0..ATTEMPTS_MAX {
        // Words, for the alignment of the rows.
        let mut table = vec![0_u32; bytes.div_ceil(4) as usize];
        // SAFETY: the buffer has at least `bytes` bytes, and the call writes no more; it puts the needed size into
        // `bytes`.
        let result = unsafe {
            GetExtendedTcpTable(
                table.as_mut_ptr().cast(),
                &raw mut bytes,
                0,
                family.into(),
                TCP_TABLE_OWNER_PID_LISTENER,
                0,
            )
        };
        match result {
            NO_ERROR => return Ok(table.into_iter().flat_map(u32::to_ne_bytes).collect()),
            ERROR_INSUFFICIENT_BUFFER => {}
            error => return Err(io::Error::from_raw_os_error(error.cast_signed())),
        }
    }
    Err(io::Error::other(
        "the system's list of sockets keeps growing",
    ))
}

/// Returns the processes that hold these sockets.
pub fn holders(ids: &HashSet<u64>) -> HashMap<u64, Vec<Process>> {
    let process = |id: u64| {
        let pid = pid_of(id);
        let start = start_of(pid)?;
        Some((id, vec![Process { start, pid }]))
    };
    ids.iter().filter_map(|id| process(*id)).collect()
}

/// Returns whether the process with that id holds one of these sockets, or was started by one that does: a host's
/// worker answers on a socket of its host.
pub fn is_process_of(pid: u32, ids: &[u64]) -> bool {
    let holds = |pid: u32| ids.iter().any(|id| pid_of(*id) == pid);
    holds(pid) || parent_of(pid).is_some_and(holds)
}

/// Returns the start time of the process with that id (100 ns since 1601), or `None` if there is none.
pub fn start_of(pid: u32) -> Option<u64> {
    // SAFETY: the call touches no memory of this process.
    let opened = unsafe {
        let access = PROCESS_QUERY_LIMITED_INFORMATION | PROCESS_SYNCHRONIZE;
        OpenProcess(access, 0, pid)
    };
    if opened.is_null() {
        return None;
    }
    // SAFETY: the handle was opened just now, and has no other owner.
    let process = unsafe { OwnedHandle::from_raw_handle(opened) };
    let [mut start, mut end, mut kernel, mut user] = [FILETIME::default(); 4];
    // SAFETY: the handle is open, and the call writes the four values. A process that has ended is signalled; it
    // exists for as long as another process has it open.
    let is_there = unsafe {
        let process = process.as_raw_handle();
        WaitForSingleObject(process, 0) == WAIT_TIMEOUT
            && GetProcessTimes(
                process,
                &raw mut start,
                &raw mut end,
                &raw mut kernel,
                &raw mut user,
            ) != 0
    };
    is_there.then(|| u64::from(start.dwHighDateTime) << 32 | u64::from(start.dwLowDateTime))
}

/// Returns the process that has started this one, if it is still there. Another process that got its id since then is
/// younger, and doesn't count.
fn parent_of(pid: u32) -> Option<u32> {
    let parent = recorded_parent_of(pid)?;
    (start_of(parent)? <= start_of(pid)?).then_some(parent)
}

fn recorded_parent_of(pid: u32) -> Option<u32> {
    // SAFETY: the call touches no memory of this process.
    let snapshot = unsafe { CreateToolhelp32Snapshot(TH32CS_SNAPPROCESS, 0) };
    if snapshot == INVALID_HANDLE_VALUE {
        return None;
    }
    // SAFETY: the handle was opened just now, and has no other owner.
    let snapshot = unsafe { OwnedHandle::from_raw_handle(snapshot) };
    let mut entry = PROCESSENTRY32W {
        dwSize: u32::try_from(size_of::<PROCESSENTRY32W>()).unwrap_or(0),
        ..PROCESSENTRY32W::default()
    };
    // SAFETY: the handle is open, and the entry has the size that it says.
    let mut is_more = unsafe { Process32FirstW(snapshot.as_raw_handle(), &raw mut entry) };
    while is_more != 0 {
        if entry.th32ProcessID == pid {
            return Some(entry.th32ParentProcessID);
        }
        // SAFETY: as above.
        is_more = unsafe { Process32NextW(snapshot.as_raw_handle(), &raw mut entry) };
    }
    None
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn processes_have_parents_and_start_times() {
        let own = std::process::id();
        let mut child = std::process::Command::new("cmd")
            .args(["/c", "pause"])
            .stdin(std::process::Stdio::piped())
            .stdout(std::process::Stdio::null())
            .spawn()
            .unwrap();
        assert_eq!(parent_of(child.id()), Some(own));
        assert!(start_of(child.id()).unwrap() >= start_of(own).unwrap());
        let id = u64::from(own) << 16 | 4000;
        assert!(is_process_of(own, &[id]) && is_process_of(child.id(), &[id]));
        assert!(!is_process_of(own, &[u64::from(child.id()) << 16]));
        let holders = holders(&HashSet::from([id]));
        assert_eq!(holders[&id][0].pid, own);
        child.kill().unwrap();
        child.wait().unwrap();
        assert_eq!(start_of(child.id()), None);
    }

    #[test]
    fn the_sockets_of_this_process_are_listed() {
        let listener = std::net::TcpListener::bind("127.0.0.1:0").unwrap();
        let address = listener.local_addr().unwrap();
        let seen = listening().unwrap();
        let socket = seen.iter().find(|one| one.address == address);
        let socket = socket.expect("it listens");
        // Wine names no process, and then nobody may be asked.
        match pid_of(socket.id) {
            0 => assert!(!socket.is_own),
            pid => assert!(pid == std::process::id() && socket.is_own),
        }
    }
}
