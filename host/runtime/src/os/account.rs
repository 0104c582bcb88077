//! The user of this process and of others, and pipes that only this user may open. On Unix the kernel names the user
//! with each connection, and files have an owner.

mod windows;

pub use windows::{is_own_client, is_own_process, own_pipe};
