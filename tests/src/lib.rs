//! Tests of the whole pipeline; see `it/`.
