//! The store in one SQLite file. The only place that names rusqlite. It opens what is there; which file that is, who
//! may work on it and what becomes of a corrupt one is the affair of `file`.

mod answers;
mod migrations;

use std::path::{Path, PathBuf};
use std::sync::Arc;
use std::time::Duration;

use rusqlite::config::DbConfig;
use rusqlite::{
    Connection, ErrorCode, OpenFlags, OptionalExtension, Transaction, TransactionBehavior, params,
};

use super::store::{
    Asked, Batch, Fault, KEPT_MS, MOST_LEDGER_ROWS, MOST_USAGE_ROWS, Saved, SavedRow, Spent, Store,
    StoreError, UsageId, UsageRow, Written, hour_of,
};
use crate::quota::Moment;
pub use answers::Answers;

/// Says that a database is ours: "dmux".
const APPLICATION: i64 = 0x646d_7578;
/// How long another program may hold the file before a write is put off.
const BUSY: Duration = Duration::from_millis(250);

/// An open database.
pub struct SqliteStore {
    connection: Connection,
    path: PathBuf,
    identity: Option<Identity>,
    /// The day that old usage was last let go.
    pruned: i64,
}

/// Which file this is, whatever its name.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(super) struct Identity(u64, u64);

// === impl Identity ===

impl Identity {
    /// Of the file that has this name now.
    #[cfg(unix)]
    pub(super) fn of(path: &Path) -> Option<Self> {
        use std::os::unix::fs::MetadataExt;
        let metadata = std::fs::metadata(path).ok()?;
        Some(Identity(metadata.dev(), metadata.ino()))
    }

    /// Of the file that has this name now; all that can be said here is that there is one.
    #[cfg(not(unix))]
    pub(super) fn of(path: &Path) -> Option<Self> {
        path.exists().then_some(Identity(0, 0))
    }
}

// === impl SqliteStore ===

impl SqliteStore {
    /// Opens the database and brings it to the latest version.
    ///
    /// # Errors
    /// When it cannot be opened, is corrupt, is another program's, or is of a newer demuxai.
    pub fn open(path: &Path) -> Result<Self, StoreError> {
        let fail = |error: rusqlite::Error| failed(path, "open", &error);
        let flags = OpenFlags::SQLITE_OPEN_READ_WRITE
            | OpenFlags::SQLITE_OPEN_CREATE
            | OpenFlags::SQLITE_OPEN_NO_MUTEX;
        let mut connection = Connection::open_with_flags(path, flags).map_err(fail)?;
        connection.busy_timeout(BUSY).map_err(fail)?;
        // Before anything is written: it may be somebody else's.
        let version = version(&connection, path)?;
        connection.query_row("PRAGMA journal_mode = WAL", [], |row| row.get::<_, String>(0)).map_err(fail)?;
        // With WAL, NORMAL loses nothing when the process is killed, and keeps the file whole when the machine is.
        connection
            .execute_batch(
                "PRAGMA synchronous = NORMAL; PRAGMA cache_size = -512; PRAGMA temp_store = MEMORY; \
                 PRAGMA journal_size_limit = 1048576;",
            )
            .map_err(fail)?;
        migrations::migrate(&mut connection, version, APPLICATION).map_err(fail)?;
        let store =
            SqliteStore { connection, identity: Identity::of(path), path: path.to_owned(), pruned: 0 };
        store.check_tables()?;
        Ok(store)
    }

    /// What is needed at start, of a database that is ours and of this version; nothing is written, not even beside it.
    /// Where SQLite cannot have what it puts beside its file, it reads the file alone.
    pub fn read(path: &Path, now: Moment) -> Option<Saved> {
        ["mode=ro", "immutable=1"].iter().find_map(|how| {
            let flags = OpenFlags::SQLITE_OPEN_READ_ONLY
                | OpenFlags::SQLITE_OPEN_URI
                | OpenFlags::SQLITE_OPEN_NO_MUTEX;
            let connection = Connection::open_with_flags(address(path, how)?, flags).ok()?;
            connection.busy_timeout(BUSY).ok()?;
            version(&connection, path).ok().filter(|version| *version == migrations::latest())?;
            let mut store = SqliteStore { connection, identity: None, path: path.to_owned(), pruned: 0 };
            store.loaded(now).ok()
        })
    }

    /// All statements fit the tables; if not, somebody changed them.
    fn check_tables(&self) -> Result<(), StoreError> {
        for sql in [LOAD, SAVE, FORGET, COUNT, HISTORY, LAST_BATCH, SET_BATCH] {
            self.connection.prepare(sql).map_err(|error| {
                let mut wrong = failed(&self.path, "use", &error);
                if wrong.fault == Fault::Other {
                    wrong.fault = Fault::Corrupt;
                }
                wrong
            })?;
        }
        Ok(())
    }

    fn written(&mut self, batch: &Batch) -> rusqlite::Result<Written> {
        let day = hour_of(batch.at).div_euclid(24);
        let transaction = self.connection.transaction_with_behavior(TransactionBehavior::Immediate)?;
        let last: Option<i64> = transaction
            .prepare_cached(LAST_BATCH)?
            .query_row([batch.journal], |row| row.get(0))
            .optional()?;
        match last {
            Some(last) if last >= batch.number => return Ok(Written::Done),
            Some(_) => {}
            None if batch.whole => {
                transaction.execute("DELETE FROM written", [])?;
            }
            None => return Ok(Written::WantsAll),
        }
        if day != self.pruned {
            prune(&transaction, batch.at)?;
        }
        put(&transaction, batch)?;
        transaction.commit()?;
        self.pruned = day;
        Ok(Written::Done)
    }

    fn loaded(&mut self, now: Moment) -> rusqlite::Result<Saved> {
        let oldest = now.0.saturating_sub(KEPT_MS);
        let mut statement = self.connection.prepare(LOAD)?;
        let rows = statement.query_map(params![oldest, count(MOST_LEDGER_ROWS)], |row| {
            Ok(SavedRow {
                provider: row.get(0)?,
                key: row.get(1)?,
                json: row.get(2)?,
                updated_ms: row.get(3)?,
            })
        })?;
        Ok(Saved { ledger: rows.collect::<rusqlite::Result<_>>()? })
    }

    fn looked_up(&mut self, asked: &Asked) -> rusqlite::Result<Vec<UsageRow>> {
        let mut statement = self.connection.prepare(HISTORY)?;
        let bounds =
            params![hour_of(asked.from), hour_of(asked.until), asked.provider, count(MOST_USAGE_ROWS)];
        let rows = statement.query_map(bounds, |row| {
            Ok(UsageRow {
                id: UsageId {
                    hour: row.get(0)?,
                    provider: Arc::from(row.get::<_, String>(1)?),
                    model: Arc::from(row.get::<_, String>(2)?),
                },
                spent: Spent {
                    requests: amount(row.get(3)?),
                    input_tokens: amount(row.get(4)?),
                    output_tokens: amount(row.get(5)?),
                    reasoning: amount(row.get(6)?),
                    cached: amount(row.get(7)?),
                    errors: amount(row.get(8)?),
                },
            })
        })?;
        let mut newest_first: Vec<UsageRow> = rows.collect::<rusqlite::Result<_>>()?;
        newest_first.reverse();
        Ok(newest_first)
    }
}

const LOAD: &str = "SELECT provider, key, json, updated_ms FROM ledger WHERE updated_ms >= ?1 \
                    ORDER BY provider, key LIMIT ?2";
const SAVE: &str = "INSERT INTO ledger (provider, key, json, updated_ms) VALUES (?1, ?2, ?3, ?4) \
                    ON CONFLICT (provider, key) DO UPDATE SET json = excluded.json, updated_ms = excluded.updated_ms";
const FORGET: &str = "DELETE FROM ledger WHERE provider = ?1 AND key = ?2";
const COUNT: &str = "INSERT INTO usage \
    (hour, provider, model, requests, input_tokens, output_tokens, reasoning, cached, errors) \
    VALUES (?1, ?2, ?3, ?4, ?5, ?6, ?7, ?8, ?9) ON CONFLICT (hour, provider, model) DO UPDATE SET \
    requests = min(requests + excluded.requests, 9007199254740992), \
    input_tokens = min(input_tokens + excluded.input_tokens, 9007199254740992), \
    output_tokens = min(output_tokens + excluded.output_tokens, 9007199254740992), \
    reasoning = min(reasoning + excluded.reasoning, 9007199254740992), \
    cached = min(cached + excluded.cached, 9007199254740992), \
    errors = min(errors + excluded.errors, 9007199254740992)";
const HISTORY: &str = "SELECT hour, provider, model, requests, input_tokens, output_tokens, reasoning, cached, errors \
    FROM usage WHERE hour >= ?1 AND hour <= ?2 AND (?3 IS NULL OR provider = ?3) \
    ORDER BY hour DESC, provider DESC, model DESC LIMIT ?4";
const LAST_BATCH: &str = "SELECT batch FROM written WHERE journal = ?1";
const SET_BATCH: &str = "INSERT INTO written (journal, batch) VALUES (?1, ?2) \
                         ON CONFLICT (journal) DO UPDATE SET batch = excluded.batch";

fn put(transaction: &Transaction<'_>, batch: &Batch) -> rusqlite::Result<()> {
    transaction.prepare_cached(SET_BATCH)?.execute([batch.journal, batch.number])?;
    let mut save = transaction.prepare_cached(SAVE)?;
    let mut forget = transaction.prepare_cached(FORGET)?;
    for change in &batch.ledger {
        match &change.kept {
            Some(kept) => {
                save.execute(params![change.id.provider, change.id.key, kept.json, kept.updated.0])?
            }
            None => forget.execute(params![change.id.provider, change.id.key])?,
        };
    }
    let mut add = transaction.prepare_cached(COUNT)?;
    for UsageRow { id, spent } in &batch.usage {
        add.execute(params![
            id.hour,
            id.provider,
            id.model,
            stored(spent.requests),
            stored(spent.input_tokens),
            stored(spent.output_tokens),
            stored(spent.reasoning),
            stored(spent.cached),
            stored(spent.errors),
        ])?;
    }
    Ok(())
}

/// Lets go what nobody will ask for any more. What is old is old beside the newest that is there, too: a clock that is
/// years ahead for a moment must not cost everything.
fn prune(transaction: &Transaction<'_>, now: Moment) -> rusqlite::Result<()> {
    let newest = |sql: &str| transaction.query_row(sql, [], |row| row.get::<_, Option<i64>>(0));
    let hour = newest("SELECT max(hour) FROM usage")?.map_or(hour_of(now), |hour| hour.min(hour_of(now)));
    transaction
        .execute("DELETE FROM usage WHERE hour < ?1", [hour.saturating_sub(hour_of(Moment(KEPT_MS)))])?;
    let updated = newest("SELECT max(updated_ms) FROM ledger")?.map_or(now.0, |updated| updated.min(now.0));
    transaction.execute("DELETE FROM ledger WHERE updated_ms < ?1", [updated.saturating_sub(KEPT_MS)])?;
    Ok(())
}

fn count(number: usize) -> i64 {
    i64::try_from(number).unwrap_or(i64::MAX)
}

fn stored(number: u64) -> i64 {
    i64::try_from(number).unwrap_or(i64::MAX)
}

fn amount(number: i64) -> u64 {
    u64::try_from(number).unwrap_or(0)
}

/// The version of what is there, 0 for an empty file.
fn version(connection: &Connection, path: &Path) -> Result<i64, StoreError> {
    let read = |sql: &str| {
        connection
            .query_row(sql, [], |row| row.get::<_, i64>(0))
            .map_err(|error| failed(path, "open", &error))
    };
    let tables = read("SELECT count(*) FROM sqlite_schema")?;
    let (application, version) = (read("PRAGMA application_id")?, read("PRAGMA user_version")?);
    if tables == 0 {
        return Ok(0);
    }
    if application != APPLICATION {
        let text = format!(
            "{} is a database of another program; name another file with [state] path",
            path.display()
        );
        return Err(StoreError::new(Fault::NotOurs, text));
    }
    if !(0..=migrations::latest()).contains(&version) {
        let text = format!(
            "{} was written by a newer demuxai (version {version} of the tables, this one knows {}); \
             run that one, or name another file with [state] path",
            path.display(),
            migrations::latest()
        );
        return Err(StoreError::new(Fault::NotOurs, text));
    }
    Ok(version)
}

/// The file as SQLite's URI, opened this way.
fn address(path: &Path, how: &str) -> Option<String> {
    let plain = |byte: u8| byte.is_ascii_alphanumeric() || b"/._-~".contains(&byte);
    let mut address = String::from("file:");
    for byte in std::path::absolute(path).ok()?.to_str()?.bytes() {
        if plain(byte) {
            address.push(char::from(byte));
        } else {
            address.push_str(&format!("%{byte:02X}"));
        }
    }
    Some(format!("{address}?{how}"))
}

fn failed(path: &Path, verb: &str, error: &rusqlite::Error) -> StoreError {
    let (fault, remedy) = match error.sqlite_error_code() {
        Some(ErrorCode::DatabaseCorrupt | ErrorCode::NotADatabase) => (Fault::Corrupt, ""),
        Some(ErrorCode::DiskFull) => (Fault::Full, "; free some space"),
        Some(ErrorCode::ReadOnly | ErrorCode::PermissionDenied) => (Fault::ReadOnly, "; make it writable"),
        Some(ErrorCode::DatabaseBusy | ErrorCode::DatabaseLocked) => {
            (Fault::Locked, "; another program holds it")
        }
        _ => (Fault::Other, ""),
    };
    StoreError::new(fault, format!("cannot {verb} {}: {error}{remedy}", path.display()))
}

impl Drop for SqliteStore {
    fn drop(&mut self) {
        if !self.is_there() {
            // Closing would delete the journal that is there under the same name now: another file's.
            let _ = self.connection.set_db_config(DbConfig::SQLITE_DBCONFIG_NO_CKPT_ON_CLOSE, true);
        }
    }
}

impl Store for SqliteStore {
    fn load(&mut self, now: Moment) -> Result<Saved, StoreError> {
        self.loaded(now).map_err(|error| failed(&self.path, "read", &error))
    }

    fn write(&mut self, batch: &Batch) -> Result<Written, StoreError> {
        self.written(batch).map_err(|error| failed(&self.path, "write", &error))
    }

    fn history(&mut self, asked: &Asked) -> Result<Vec<UsageRow>, StoreError> {
        self.looked_up(asked).map_err(|error| failed(&self.path, "read", &error))
    }

    fn is_there(&self) -> bool {
        self.identity.is_none() || Identity::of(&self.path) == self.identity
    }
}

#[cfg(test)]
mod tests;
