-- The read model (services/view). Everything here is filled from the topics and may be wiped and refilled at any time.
-- Kept in step with migrations/postgres: the statements that use these tables are the same text for both.

-- How far each partition has been taken in, written with the rows that follow from it.
CREATE TABLE tail (
    topic        TEXT   NOT NULL,
    at_partition BIGINT NOT NULL,
    next_offset  BIGINT NOT NULL,
    PRIMARY KEY (topic, at_partition)
) WITHOUT ROWID;

-- One row for each exchange. standing: 0 accepted, 1 dead, 2 refused, 3 sealed; the highest seen stays.
-- origin says whose trace_id and at are kept: those of a decision, otherwise those of the earliest request.
CREATE TABLE exchange (
    exchange_id TEXT   NOT NULL PRIMARY KEY,
    tenant      TEXT   NOT NULL,
    trace_id    TEXT   NOT NULL,
    at          BIGINT NOT NULL,
    origin      BIGINT NOT NULL,
    standing    BIGINT NOT NULL,
    receipt     TEXT,
    refusal     TEXT,
    usage       TEXT
) WITHOUT ROWID;
CREATE INDEX exchange_by_time ON exchange (tenant, at, exchange_id);
CREATE INDEX exchange_by_trace ON exchange (tenant, trace_id, at);

-- Receipts by trace, chain and hop.
CREATE TABLE receipt (
    tenant       TEXT   NOT NULL,
    trace_id     TEXT   NOT NULL,
    chain        TEXT   NOT NULL,
    hop          BIGINT NOT NULL,
    exchange_id  TEXT   NOT NULL,
    receipt      TEXT   NOT NULL,
    at_offset    BIGINT NOT NULL,
    PRIMARY KEY (tenant, trace_id, chain, hop)
) WITHOUT ROWID;

-- Outcomes of deliveries, by where they lie.
CREATE TABLE delivery (
    at_partition BIGINT NOT NULL,
    at_offset    BIGINT NOT NULL,
    exchange_id  TEXT   NOT NULL,
    body         TEXT   NOT NULL,
    PRIMARY KEY (at_partition, at_offset)
) WITHOUT ROWID;
CREATE INDEX delivery_by_exchange ON delivery (exchange_id);

CREATE TABLE usage_total (
    tenant    TEXT   NOT NULL,
    month     TEXT   NOT NULL,
    meter     TEXT   NOT NULL,
    total     BIGINT NOT NULL,
    exchanges BIGINT NOT NULL,
    as_of     BIGINT NOT NULL,
    at_offset BIGINT NOT NULL,
    PRIMARY KEY (tenant, month, meter)
) WITHOUT ROWID;

-- What is owed and what became of it. state: 0 owed, 1 parked, 2 posted; the highest seen stays.
CREATE TABLE command (
    command_id  TEXT   NOT NULL PRIMARY KEY,
    tenant      TEXT   NOT NULL,
    exchange_id TEXT,
    at          BIGINT NOT NULL,
    state       BIGINT NOT NULL,
    body        TEXT,
    outcome     TEXT
) WITHOUT ROWID;
CREATE INDEX command_by_exchange ON command (exchange_id);

-- The transfers of a command, before they are posted.
CREATE TABLE owed (
    command_id     TEXT   NOT NULL,
    line           BIGINT NOT NULL,
    tenant         TEXT   NOT NULL,
    at             BIGINT NOT NULL,
    debit_account  TEXT   NOT NULL,
    credit_account TEXT   NOT NULL,
    currency       TEXT   NOT NULL,
    minor          BIGINT NOT NULL,
    PRIMARY KEY (command_id, line)
) WITHOUT ROWID;
CREATE INDEX owed_by_tenant ON owed (tenant, at);

-- Transfers as posted, by where they lie.
CREATE TABLE entry (
    at_partition     BIGINT NOT NULL,
    at_offset        BIGINT NOT NULL,
    line             BIGINT NOT NULL,
    ledger_partition BIGINT NOT NULL,
    sequence         BIGINT NOT NULL,
    tenant           TEXT   NOT NULL,
    exchange_id      TEXT,
    command_id       TEXT   NOT NULL,
    kind             TEXT   NOT NULL,
    at               BIGINT NOT NULL,
    debit_account    TEXT   NOT NULL,
    credit_account   TEXT   NOT NULL,
    currency         TEXT   NOT NULL,
    minor            BIGINT NOT NULL,
    PRIMARY KEY (at_partition, at_offset, line)
) WITHOUT ROWID;
CREATE INDEX entry_by_exchange ON entry (exchange_id);
CREATE INDEX entry_by_tenant ON entry (tenant, at);

-- Where the records of an exchange lie. void: 1 where the record proved no tenant and so says nothing about the exchange.
CREATE TABLE hop (
    topic        TEXT   NOT NULL,
    at_partition BIGINT NOT NULL,
    at_offset    BIGINT NOT NULL,
    exchange_id  TEXT,
    time_ms      BIGINT,
    cause        TEXT,
    note         TEXT,
    void         BIGINT NOT NULL,
    PRIMARY KEY (topic, at_partition, at_offset)
) WITHOUT ROWID;
CREATE INDEX hop_by_exchange ON hop (exchange_id);

CREATE TABLE public_key (
    kid      TEXT NOT NULL PRIMARY KEY,
    used_for TEXT NOT NULL,
    jwk      TEXT NOT NULL
) WITHOUT ROWID;
