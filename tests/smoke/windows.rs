//! What only Windows does: files that others have open, drives that go, pipes of others, names of devices.
