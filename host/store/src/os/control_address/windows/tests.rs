//! Tests of the names of pipes.

use super::*;
use crate::home::Home;

#[test]
fn a_home_has_one_name_by_all_its_spellings() {
    let name = |dir: &str| Home::at(dir).control_socket();
    let usual = name(r"C:\Users\Ada\dae");
    let text = usual.to_str().unwrap();
    assert!(text.starts_with(r"\\.\pipe\dae-"), "{text}");
    assert_eq!(text.len(), r"\\.\pipe\dae-".len() + HASH_CHARS);
    for same in [
        r"c:\users\ADA\dae",
        r"C:\Users\Ada\dae\",
        "C:/Users/x/../Ada/dae",
    ] {
        assert_eq!(name(same), usual, "{same}");
    }
    assert_ne!(name(r"C:\Users\Ada\dae2"), usual);
    let short = Home::at(r"C:\Users\Ada\dae")
        .control_socket_short()
        .unwrap();
    assert_eq!(short.path(), usual);
}
