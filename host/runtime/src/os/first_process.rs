//! The first process of a container: it reaps orphans and runs the host as its child.
//!
//! A process that loses its parent becomes a child of the first process, and stays in the kernel's table until that
//! reaps it. A host can't reap every child: it would take the exit codes away from daemons that have started processes
//! of their own. So as process 1 the program only starts itself again as the host. It forwards every signal, reaps
//! every process that ends, and exits as the host did.

#[cfg(unix)]
mod unix;
#[cfg(windows)]
mod windows;

#[cfg(unix)]
pub use unix::{is_first, run};
#[cfg(windows)]
pub use windows::{is_first, run};
