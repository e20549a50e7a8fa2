//! One suite for both logs.
