//! canonicalise
