"""Load under faults, and an oracle that shares no code with what it judges. `scripts/chaos` runs it; README.md says what it does."""
