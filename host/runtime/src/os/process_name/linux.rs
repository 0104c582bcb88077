//! The name of the first thread, which is that of the process.

use std::ffi::CString;

pub(super) fn set(name: &str) {
    // A name with a NUL can't be set, and a lack of a name harms nothing.
    if let Ok(name) = CString::new(name) {
        let _ = rustix::thread::set_name(&name);
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_thread_takes_the_name() {
        let named = std::thread::spawn(|| {
            set("dae:a name that is cut");
            std::fs::read_to_string("/proc/thread-self/comm")
        });
        assert_eq!(named.join().unwrap().unwrap(), "dae:a name that\n");
    }
}
