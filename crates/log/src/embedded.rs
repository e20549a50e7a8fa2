//! The log of one process in one directory.
