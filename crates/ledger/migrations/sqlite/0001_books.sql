-- The log that this database belongs to (DESIGN R3): a ledger is never written from another one.
CREATE TABLE origin (
    one INTEGER PRIMARY KEY CHECK (one = 1),
    log_identity TEXT NOT NULL,
    partitions INTEGER NOT NULL CHECK (partitions > 0)
) STRICT;

-- The fence of DESIGN R5, and the end of the outbox: one row for each partition of the ledger.
CREATE TABLE progress (
    partition INTEGER PRIMARY KEY,
    command_next INTEGER NOT NULL CHECK (command_next >= 0),
    redo_next INTEGER NOT NULL CHECK (redo_next >= 0),
    next_sequence INTEGER NOT NULL CHECK (next_sequence >= 1),
    row_hash BLOB NOT NULL CHECK (length(row_hash) = 32)
) STRICT;

-- One narrow row for each command ever decided, kept for ever (DESIGN R12).
CREATE TABLE command (
    tenant TEXT NOT NULL,
    idempotency_key TEXT NOT NULL,
    content_hash BLOB NOT NULL CHECK (length(content_hash) = 32),
    PRIMARY KEY (tenant, idempotency_key)
) STRICT, WITHOUT ROWID;

-- Transfers that were posted: one amount, two accounts.
CREATE TABLE entry (
    partition INTEGER NOT NULL,
    sequence INTEGER NOT NULL,
    part INTEGER NOT NULL,
    exchange_id TEXT,
    command_id TEXT NOT NULL,
    debit_account TEXT NOT NULL,
    credit_account TEXT NOT NULL,
    currency TEXT NOT NULL,
    minor INTEGER NOT NULL CHECK (minor > 0),
    at INTEGER NOT NULL,
    PRIMARY KEY (partition, sequence, part)
) STRICT, WITHOUT ROWID;

CREATE INDEX entry_exchange ON entry (exchange_id);

-- What each partition has moved on an account; the sum over the partitions is the account (DESIGN section 1).
CREATE TABLE balance (
    account TEXT NOT NULL,
    currency TEXT NOT NULL,
    partition INTEGER NOT NULL,
    debits INTEGER NOT NULL CHECK (debits >= 0),
    credits INTEGER NOT NULL CHECK (credits >= 0),
    PRIMARY KEY (account, currency, partition)
) STRICT, WITHOUT ROWID;

-- Gross of a tenant in a currency and calendar month (UTC), for discounts.
CREATE TABLE volume (
    tenant TEXT NOT NULL,
    currency TEXT NOT NULL,
    month TEXT NOT NULL,
    gross INTEGER NOT NULL CHECK (gross >= 0),
    PRIMARY KEY (tenant, currency, month)
) STRICT, WITHOUT ROWID;

-- Owed, but not posted until somebody decides.
CREATE TABLE parked (
    partition INTEGER NOT NULL,
    sequence INTEGER NOT NULL,
    tenant TEXT NOT NULL,
    command_id TEXT NOT NULL,
    exchange_id TEXT,
    reason TEXT NOT NULL,
    detail TEXT NOT NULL,
    at INTEGER NOT NULL,
    PRIMARY KEY (partition, sequence)
) STRICT, WITHOUT ROWID;

-- Records on their way to the log, gapless for each partition and chained by row_hash (DESIGN R6).
CREATE TABLE outbox (
    partition INTEGER NOT NULL,
    sequence INTEGER NOT NULL,
    source_input INTEGER NOT NULL,
    source_offset INTEGER NOT NULL,
    topic TEXT NOT NULL,
    target_partition INTEGER,
    record_key BLOB,
    value BLOB,
    headers BLOB NOT NULL,
    row_hash BLOB NOT NULL CHECK (length(row_hash) = 32),
    PRIMARY KEY (partition, sequence)
) STRICT;
