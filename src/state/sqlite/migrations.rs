//! The tables, version by version. A version that was released is never changed; a new one is a new entry, and the
//! database of every older one stays in the tests.

use rusqlite::{Connection, TransactionBehavior};

/// How each version is made from the one before; the first from nothing.
pub(super) const MIGRATIONS: &[&str] = &[
    // 1: the ledger's rows, the usage by the hour, and the last batch of the journal that wrote last.
    "CREATE TABLE ledger (
        provider TEXT NOT NULL,
        key TEXT NOT NULL,
        json TEXT NOT NULL,
        updated_ms INTEGER NOT NULL,
        PRIMARY KEY (provider, key)
    ) STRICT, WITHOUT ROWID;
    CREATE TABLE usage (
        hour INTEGER NOT NULL,
        provider TEXT NOT NULL,
        model TEXT NOT NULL,
        requests INTEGER NOT NULL,
        input_tokens INTEGER NOT NULL,
        output_tokens INTEGER NOT NULL,
        reasoning INTEGER NOT NULL,
        cached INTEGER NOT NULL,
        errors INTEGER NOT NULL,
        PRIMARY KEY (hour, provider, model)
    ) STRICT, WITHOUT ROWID;
    CREATE TABLE written (
        journal INTEGER PRIMARY KEY,
        batch INTEGER NOT NULL
    ) STRICT;",
];

/// The version that this demuxai works with.
pub(super) fn latest() -> i64 {
    i64::try_from(MIGRATIONS.len()).unwrap_or(i64::MAX)
}

/// Brings the tables from `version` to the latest, as a whole or not at all.
pub(super) fn migrate(connection: &mut Connection, version: i64, application: i64) -> rusqlite::Result<()> {
    if version == latest() {
        return Ok(());
    }
    let transaction = connection.transaction_with_behavior(TransactionBehavior::Immediate)?;
    for migration in MIGRATIONS.iter().skip(usize::try_from(version).unwrap_or(usize::MAX)) {
        transaction.execute_batch(migration)?;
    }
    transaction.pragma_update(None, "application_id", application)?;
    transaction.pragma_update(None, "user_version", latest())?;
    transaction.commit()
}
