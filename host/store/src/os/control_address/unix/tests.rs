//! Tests of the control socket's path against the kernel.

use super::*;
use crate::home::Home;
use std::io::{Read as _, Write as _};
use std::os::unix::net::{UnixListener, UnixStream};

#[test]
fn a_short_path_stays_as_it_is() {
    let home = Home::at("/h");
    let short = home.control_socket_short().unwrap();
    assert_eq!(short.path(), home.control_socket());
    assert!(short.path().starts_with(&home.data));
}

#[cfg(target_os = "linux")]
#[test]
fn a_long_path_is_bound_and_connected_to() {
    let dir = tempfile::tempdir().unwrap();
    let home = Home::at(dir.path().join("d".repeat(120)).join("e".repeat(120)));
    home.create().unwrap();
    assert!(UnixListener::bind(home.control_socket()).is_err());
    let listener = UnixListener::bind(home.control_socket_short().unwrap()).unwrap();
    assert!(home.control_socket().exists());
    let mut guest = UnixStream::connect(home.control_socket_short().unwrap()).unwrap();
    listener.accept().unwrap().0.write_all(b"dae").unwrap();
    let mut text = String::new();
    guest.read_to_string(&mut text).unwrap();
    assert_eq!(text, "dae");
}

#[cfg(target_os = "linux")]
#[test]
fn a_long_path_in_a_home_that_is_not_there_means_that_nobody_listens() {
    let home = Home::at(format!("/nowhere/{}", "d".repeat(120)));
    let error = home.control_socket_short().unwrap_err();
    assert_eq!(error.kind(), std::io::ErrorKind::NotFound);
}

/// Checks the limit against the kernel of this system.
#[test]
fn the_limit_is_the_kernels() {
    let address = |bytes: usize| std::os::unix::net::SocketAddr::from_pathname("x".repeat(bytes));
    assert!(address(SOCKET_PATH_BYTES_MAX).is_ok());
    assert!(address(SOCKET_PATH_BYTES_MAX + 1).is_err());
}
