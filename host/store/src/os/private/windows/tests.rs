//! Tests of the access lists of a home and of its files.

use std::path::Path;

use crate::atomic_file;
use crate::home::Home;
use crate::os::security;
use crate::os::write_access::{AclTarget, are_others_allowed};

fn is_closed(path: &Path) -> bool {
    !are_others_allowed(AclTarget::Named(path)).unwrap()
}

#[test]
fn nobody_else_reads_what_the_host_writes_into_a_home_that_others_may_read() {
    let dir = tempfile::tempdir().unwrap();
    let user = security::own_user().unwrap();
    let list = format!("D:P(A;OICI;FA;;;{user})(A;OICI;FRFX;;;WD)");
    security::set_list(dir.path(), &list).unwrap();
    assert!(!is_closed(dir.path()));
    let home = Home::at(dir.path());
    home.create().unwrap();
    for _ in 0..2 {
        atomic_file::write(&home.registry_file(), b"{}").unwrap();
        assert!(is_closed(&home.registry_file()));
    }
    assert!(!is_closed(dir.path()), "the directory is the user's own");
}
