//! The renaming of a directory to a name that nothing has.

#[cfg(unix)]
mod unix;
#[cfg(windows)]
mod windows;

#[cfg(unix)]
pub use unix::rename_to_new;
#[cfg(windows)]
pub use windows::rename_to_new;

#[cfg(test)]
mod tests {
    use super::*;
    use std::fs;
    use std::io;

    #[test]
    fn nothing_is_replaced() {
        let dir = tempfile::tempdir().unwrap();
        let [from, empty, file] = ["from", "empty", "file"].map(|name| dir.path().join(name));
        fs::create_dir(&from).unwrap();
        fs::write(from.join("x"), "").unwrap();
        fs::create_dir(&empty).unwrap();
        fs::write(&file, "").unwrap();
        for taken in [&empty, &file] {
            let error = rename_to_new(&from, taken).unwrap_err();
            assert_eq!(error.kind(), io::ErrorKind::AlreadyExists, "{error}");
        }
        let new = dir.path().join("new");
        rename_to_new(&from, &new).unwrap();
        assert!(new.join("x").is_file() && !from.exists());
    }
}
