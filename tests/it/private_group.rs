//! Files that a group may write: accepted if the group is private to the owner, refused in every other case.
//!
//! The test needs a user with a private group. Root can make one in a mount namespace, where copies of the system's
//! lists of users and groups replace the real ones. Without root's rights or util-linux the test is skipped; the unit
//! tests of the decision remain.

#![cfg(target_os = "linux")]

use std::fs::{self, Permissions};
use std::os::unix::fs::PermissionsExt as _;
use std::process::Command;

use dae_tests::{Artefacts, LIMIT, program};

/// A script that prints each case's name and the exit code of `install` into a new home. `$T` is the test's directory.
const SCRIPT: &str = r#"
set -e
mount --make-rprivate /
cp /etc/passwd "$T/passwd"; cp /etc/group "$T/group"
mount --bind "$T/passwd" /etc/passwd; mount --bind "$T/group" /etc/group
echo 'daetest:x:54321:54321::/:/bin/sh' >>/etc/passwd
echo 'daetest:x:54321:' >>/etc/group; echo 'daeshared:x:54322:' >>/etc/group
mkdir "$T/user" "$T/user/files"; cp "$T/plugin.so" "$T/user/files/"
chown -R daetest:daetest "$T/user"; chmod -R 775 "$T/user"
number=0
installs() {
    number=$((number + 1)); result=0; home="$T/user/home$number"
    setpriv --reuid daetest --regid daetest --init-groups sh -c \
        "umask 002; mkdir $home; '$T/dae-host' --home $home install S $T/user/files/plugin.so" \
        >/dev/null 2>"$T/told" || result=$?
    echo "$1: $result"; cat "$T/told" >&2
}
file="$T/user/files/plugin.so"
installs private
chgrp daeshared "$file"; installs shared-group; chgrp daetest "$file"
chgrp daeshared "$T/user/files"; installs shared-directory; chgrp daetest "$T/user/files"
chmod o+w "$file"; installs everybody; chmod o-w "$file"
cp /etc/group "$T/before"; sed -i.bak 's/^daetest:.*/&nobody/' "$T/before"; cat "$T/before" >/etc/group
installs another-member; sed 's/^daetest:.*/daetest:x:54321:/' "$T/before" >/etc/group
echo 'daeother:x:54323:54321::/:/bin/sh' >>/etc/passwd; installs another-primary
cp /etc/passwd "$T/before"; sed '/^daeother:/d' "$T/before" >/etc/passwd; installs private-again
"#;

#[test]
fn a_group_is_trusted_where_nobody_else_is_in_it() {
    let directory = tempfile::tempdir().expect("a directory");
    let place = |name: &str| directory.path().join(name);
    let artefacts = Artefacts::of_tests();
    fs::copy(artefacts.host(), place("dae-host")).expect("a copy that every user reaches");
    fs::copy(artefacts.plugin("sample"), place("plugin.so")).expect("a plugin");
    fs::set_permissions(directory.path(), Permissions::from_mode(0o755)).expect("our own");
    let is_possible = Command::new("unshare")
        .args(["-m", "sh", "-c", "test $(id -u) = 0 && setpriv --version"])
        .output()
        .is_ok_and(|output| output.status.success());
    if !is_possible {
        println!("not root, or no mount namespaces: nothing was tested");
        return;
    }
    let mut script = Command::new("unshare");
    script
        .args(["-m", "sh", "-c", SCRIPT])
        .env_remove("DAE_HOME")
        .env("T", directory.path());
    let output = program::run(&mut script, LIMIT).ok();
    let expected = [
        "private: 0",
        "shared-group: 1",
        "shared-directory: 1",
        "everybody: 1",
        "another-member: 1",
        "another-primary: 1",
        "private-again: 0",
    ];
    let seen: Vec<&str> = output.stdout.lines().collect();
    assert_eq!(seen, expected, "{output:#?}");
    for part in ["daeshared", "nobody", "daeother", "chmod go-w"] {
        assert!(output.says(&[part]), "{part}: {output:#?}");
    }
}
