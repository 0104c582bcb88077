//! Texts without what differs from run to run: ports, times, process ids, hashes, places, and the width of columns.

/// The lengths of hashes, short and whole (hex digits).
const HASHES: [usize; 2] = [12, 64];

/// Returns a text in which each number is 0, each hash is `HASH`, each run of spaces is one space, and each of `places`
/// has its name.
pub fn plain(text: &str, places: &[(String, &str)]) -> String {
    let mut text = text.to_owned();
    for (place, name) in places {
        text = text.replace(place, name);
    }
    let lines: Vec<String> = text.lines().map(plain_line).collect();
    lines.join("\n")
}

fn plain_line(line: &str) -> String {
    let mut plain = String::new();
    for word in line.split_inclusive(|c: char| !c.is_ascii_alphanumeric()) {
        let hex = word.trim_end_matches(|c: char| !c.is_ascii_alphanumeric());
        let has_digit = hex.bytes().any(|byte| byte.is_ascii_digit());
        let is_hex = hex.bytes().all(|byte| byte.is_ascii_hexdigit());
        if has_digit && is_hex && HASHES.contains(&hex.len()) {
            plain.push_str("HASH");
            plain.push_str(&word[hex.len()..]);
        } else {
            word.chars().for_each(|c| push_plain(&mut plain, c));
        }
    }
    plain.trim_end().to_owned()
}

fn push_plain(plain: &mut String, c: char) {
    let c = match c.is_ascii_digit() {
        true => '0',
        false => c,
    };
    if !(matches!(c, '0' | ' ') && plain.ends_with(c)) {
        plain.push(c);
    }
}

#[test]
fn numbers_hashes_and_places_are_named() {
    let places = [("/tmp/x9".to_owned(), "HOME")];
    let text = "port 4711,   home /tmp/x9/a (00548ac8ade4, 12.5 ms)  \nnext";
    let expected = "port 0, home HOME/a (HASH, 0.0 ms)\nnext";
    assert_eq!(plain(text, &places), expected);
}
