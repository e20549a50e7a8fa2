//! countersign-log
