//! Tests of log files that somebody removes, and of a full disk.

use std::fs;

use crate::log::sample::{journal, messages, record};

#[test]
fn a_file_that_somebody_removed_is_made_anew() {
    let (dir, journal) = journal();
    journal.write(record("A", "a"));
    fs::remove_file(dir.path().join("A.log")).unwrap();
    journal.write(record("A", "b"));
    let tail = journal.tail(Some("A"), 9, usize::MAX).unwrap();
    assert_eq!(messages(&tail), ["b"]);
}

/// `/dev/full` acts like a full disk.
#[cfg(target_os = "linux")]
#[test]
fn a_full_disk_is_told_once_and_its_end_too() {
    let (dir, journal) = journal();
    let path = dir.path().join("A.log");
    std::os::unix::fs::symlink("/dev/full", &path).unwrap();
    let mut follower = journal.subscribe();
    journal.write(record("A", "one"));
    journal.write(record("A", "two"));
    fs::remove_file(&path).unwrap();
    journal.write(record("A", "three"));
    let mut messages_sent = Vec::new();
    while let Ok(record) = follower.try_recv() {
        messages_sent.push(record.message.clone());
    }
    assert!(
        messages_sent[1].contains("A.log") && messages_sent[1].contains("disk is full"),
        "{messages_sent:?}"
    );
    assert_eq!(
        messages_sent[4],
        "the log is kept again; 2 records were not"
    );
    assert_eq!(
        (messages_sent.len(), &*messages_sent[2], &*messages_sent[3]),
        (5, "two", "three")
    );
    let tail = journal.tail(Some("A"), 9, usize::MAX).unwrap();
    assert_eq!(messages(&tail), ["three"]);
}
