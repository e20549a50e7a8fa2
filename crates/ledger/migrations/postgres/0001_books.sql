-- The log that this database belongs to (DESIGN R3): a ledger is never written from another one.
CREATE TABLE origin (
    one BIGINT PRIMARY KEY CHECK (one = 1),
    log_identity TEXT NOT NULL,
    partitions BIGINT NOT NULL CHECK (partitions > 0)
);

-- The fence of DESIGN R5, and the end of the outbox: one row for each partition of the ledger.
CREATE TABLE progress (
    partition BIGINT PRIMARY KEY,
    command_next BIGINT NOT NULL CHECK (command_next >= 0),
    redo_next BIGINT NOT NULL CHECK (redo_next >= 0),
    next_sequence BIGINT NOT NULL CHECK (next_sequence >= 1),
    row_hash BYTEA NOT NULL CHECK (octet_length(row_hash) = 32)
);

-- One narrow row for each command ever decided, kept for ever (DESIGN R12).
CREATE TABLE command (
    tenant TEXT NOT NULL,
    idempotency_key TEXT NOT NULL,
    content_hash BYTEA NOT NULL CHECK (octet_length(content_hash) = 32),
    PRIMARY KEY (tenant, idempotency_key)
);

-- Transfers that were posted: one amount, two accounts.
CREATE TABLE entry (
    partition BIGINT NOT NULL,
    sequence BIGINT NOT NULL,
    part BIGINT NOT NULL,
    exchange_id TEXT,
    command_id TEXT NOT NULL,
    debit_account TEXT NOT NULL,
    credit_account TEXT NOT NULL,
    currency TEXT NOT NULL,
    minor BIGINT NOT NULL CHECK (minor > 0),
    at BIGINT NOT NULL,
    PRIMARY KEY (partition, sequence, part)
);

CREATE INDEX entry_exchange ON entry (exchange_id);

-- What each partition has moved on an account; the sum over the partitions is the account (DESIGN section 1).
CREATE TABLE balance (
    account TEXT NOT NULL,
    currency TEXT NOT NULL,
    partition BIGINT NOT NULL,
    debits BIGINT NOT NULL CHECK (debits >= 0),
    credits BIGINT NOT NULL CHECK (credits >= 0),
    PRIMARY KEY (account, currency, partition)
);

-- Gross of a tenant in a currency and calendar month (UTC), for discounts.
CREATE TABLE volume (
    tenant TEXT NOT NULL,
    currency TEXT NOT NULL,
    month TEXT NOT NULL,
    gross BIGINT NOT NULL CHECK (gross >= 0),
    PRIMARY KEY (tenant, currency, month)
);

-- Owed, but not posted until somebody decides.
CREATE TABLE parked (
    partition BIGINT NOT NULL,
    sequence BIGINT NOT NULL,
    tenant TEXT NOT NULL,
    command_id TEXT NOT NULL,
    exchange_id TEXT,
    reason TEXT NOT NULL,
    detail TEXT NOT NULL,
    at BIGINT NOT NULL,
    PRIMARY KEY (partition, sequence)
);

-- Records on their way to the log, gapless for each partition and chained by row_hash (DESIGN R6).
CREATE TABLE outbox (
    partition BIGINT NOT NULL,
    sequence BIGINT NOT NULL,
    source_input BIGINT NOT NULL,
    source_offset BIGINT NOT NULL,
    topic TEXT NOT NULL,
    target_partition BIGINT,
    record_key BYTEA,
    value BYTEA,
    headers BYTEA NOT NULL,
    row_hash BYTEA NOT NULL CHECK (octet_length(row_hash) = 32),
    PRIMARY KEY (partition, sequence)
);
