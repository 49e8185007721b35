//! Answers that a cache keeps beyond the process, in a SQLite file of their own: it may be deleted at any time, and what
//! is in it is nobody's ledger. Every call may block. What an answer says only its owner reads.

use std::path::{Path, PathBuf};

use rusqlite::{Connection, OpenFlags, OptionalExtension, params};

use super::{BUSY, failed};
use crate::quota::Moment;
use crate::state::file::{make_directory, make_private};
use crate::state::store::{Fault, StoreError};

/// Says that a database is of a cache of ours: "dmxc".
const APPLICATION: i64 = 0x646d_7863;
/// The version of the table.
const VERSION: i64 = 1;
/// How often a write looks for what is out of date or too much.
const TIDY_EVERY: u32 = 64;

/// An open file of answers.
pub struct Answers {
    connection: Connection,
    path: PathBuf,
    writes: u32,
}

// === impl Answers ===

impl Answers {
    /// Opens the file, and makes it and its directory if they are not there.
    ///
    /// # Errors
    /// When it cannot be opened, is corrupt, or is another program's.
    pub fn open(path: &Path) -> Result<Self, StoreError> {
        let unmade = |error: std::io::Error| {
            StoreError::new(
                Fault::Other,
                format!("cannot make {}: {error}; name another file", path.display()),
            )
        };
        make_directory(path).and_then(|()| make_private(path)).map_err(unmade)?;
        let fail = |error: rusqlite::Error| failed(path, "open", &error);
        let flags = OpenFlags::SQLITE_OPEN_READ_WRITE | OpenFlags::SQLITE_OPEN_NO_MUTEX;
        let connection = Connection::open_with_flags(path, flags).map_err(fail)?;
        connection.busy_timeout(BUSY).map_err(fail)?;
        let read = |sql: &str| connection.query_row(sql, [], |row| row.get::<_, i64>(0)).map_err(fail);
        let tables = read("SELECT count(*) FROM sqlite_schema")?;
        let ours = read("PRAGMA application_id")? == APPLICATION && read("PRAGMA user_version")? == VERSION;
        if tables > 0 && !ours {
            let text = format!(
                "{} is a database of another program or version; name another file, or delete this one",
                path.display()
            );
            return Err(StoreError::new(Fault::NotOurs, text));
        }
        connection.query_row("PRAGMA journal_mode = WAL", [], |row| row.get::<_, String>(0)).map_err(fail)?;
        connection
            .execute_batch(&format!(
                "PRAGMA synchronous = NORMAL; PRAGMA cache_size = -512; PRAGMA temp_store = MEMORY; \
                 PRAGMA journal_size_limit = 1048576; PRAGMA application_id = {APPLICATION}; \
                 PRAGMA user_version = {VERSION}; {TABLES}"
            ))
            .map_err(fail)?;
        for sql in [FIND, KEEP, FORGET_OLD, FORGET_OLDEST] {
            connection.prepare(sql).map_err(fail)?;
        }
        Ok(Answers { connection, path: path.to_owned(), writes: 0 })
    }

    /// The answer under this key, if there is one that is good at `now`.
    ///
    /// # Errors
    /// When it cannot be read.
    pub fn find(&mut self, key: &[u8], now: Moment) -> Result<Option<Vec<u8>>, StoreError> {
        let found = self.connection.prepare_cached(FIND).and_then(|mut statement| {
            statement.query_row(params![key, now.0], |row| row.get::<_, Vec<u8>>(0)).optional()
        });
        found.map_err(|error| failed(&self.path, "read", &error))
    }

    /// Keeps an answer `until` a moment. Now and then what is out of date goes, and the oldest while the file is larger
    /// than `most` bytes.
    ///
    /// # Errors
    /// When it cannot be written.
    pub fn keep(
        &mut self,
        key: &[u8],
        answer: &[u8],
        now: Moment,
        until: Moment,
        most: u64,
    ) -> Result<(), StoreError> {
        self.write(key, answer, now, until, most).map_err(|error| failed(&self.path, "write", &error))
    }

    fn write(
        &mut self,
        key: &[u8],
        answer: &[u8],
        now: Moment,
        until: Moment,
        most: u64,
    ) -> rusqlite::Result<()> {
        if self.writes.is_multiple_of(TIDY_EVERY) {
            self.connection.prepare_cached(FORGET_OLD)?.execute([now.0])?;
        }
        self.writes = self.writes.wrapping_add(1);
        while self.used()?.saturating_add(answer.len() as u64) > most {
            if self.connection.prepare_cached(FORGET_OLDEST)?.execute([])? == 0 {
                // It would be too much alone.
                return Ok(());
            }
        }
        self.connection.prepare_cached(KEEP)?.execute(params![key, now.0, until.0, answer])?;
        Ok(())
    }

    /// The bytes of the file that hold something.
    fn used(&self) -> rusqlite::Result<u64> {
        let read = |sql: &str| {
            let number = self.connection.prepare_cached(sql)?.query_row([], |row| row.get::<_, i64>(0))?;
            Ok::<u64, rusqlite::Error>(u64::try_from(number).unwrap_or(0))
        };
        let pages = read("PRAGMA page_count")?.saturating_sub(read("PRAGMA freelist_count")?);
        Ok(pages.saturating_mul(read("PRAGMA page_size")?))
    }
}

const TABLES: &str = "CREATE TABLE IF NOT EXISTS answers (key BLOB PRIMARY KEY NOT NULL, made_ms INTEGER NOT NULL, \
                      until_ms INTEGER NOT NULL, answer BLOB NOT NULL) STRICT; \
                      CREATE INDEX IF NOT EXISTS by_age ON answers (made_ms); \
                      CREATE INDEX IF NOT EXISTS by_end ON answers (until_ms);";
const FIND: &str = "SELECT answer FROM answers WHERE key = ?1 AND until_ms > ?2";
const KEEP: &str = "INSERT INTO answers (key, made_ms, until_ms, answer) VALUES (?1, ?2, ?3, ?4) ON CONFLICT (key) \
                    DO UPDATE SET made_ms = excluded.made_ms, until_ms = excluded.until_ms, answer = excluded.answer";
const FORGET_OLD: &str = "DELETE FROM answers WHERE until_ms <= ?1";
const FORGET_OLDEST: &str =
    "DELETE FROM answers WHERE rowid IN (SELECT rowid FROM answers ORDER BY made_ms LIMIT 16)";

#[cfg(test)]
mod tests {
    use super::*;

    const MOST: u64 = 1 << 30;

    fn place() -> (tempfile::TempDir, PathBuf) {
        let directory = tempfile::tempdir().unwrap();
        let path = directory.path().join("below/answers.db");
        (directory, path)
    }

    #[test]
    fn what_is_kept_is_found_again_after_a_restart_until_its_end() {
        let (_directory, path) = place();
        let mut answers = Answers::open(&path).unwrap();
        answers.keep(b"k", b"old", Moment(0), Moment(50), MOST).unwrap();
        answers.keep(b"k", b"answer", Moment(10), Moment(100), MOST).unwrap();
        drop(answers);
        let mut answers = Answers::open(&path).unwrap();
        assert_eq!(answers.find(b"k", Moment(99)).unwrap().as_deref(), Some(&b"answer"[..]));
        assert_eq!(answers.find(b"k", Moment(100)).unwrap(), None);
        assert_eq!(answers.find(b"other", Moment(99)).unwrap(), None);
    }

    #[cfg(unix)]
    #[test]
    fn file_and_directory_are_the_owners_alone() {
        use std::os::unix::fs::PermissionsExt;
        let (_directory, path) = place();
        Answers::open(&path).unwrap();
        let mode = |path: &Path| std::fs::metadata(path).unwrap().permissions().mode() & 0o777;
        assert_eq!((mode(&path), mode(path.parent().unwrap())), (0o600, 0o700));
    }

    #[test]
    fn the_oldest_go_when_there_is_too_much() {
        let (_directory, path) = place();
        let mut answers = Answers::open(&path).unwrap();
        let most = 1024 * 1024;
        let answer = vec![7; 10_000];
        for number in 0..500_i64 {
            answers.keep(&number.to_be_bytes(), &answer, Moment(number), Moment(10_000), most).unwrap();
        }
        assert!(answers.used().unwrap() <= most);
        assert_eq!(answers.find(&0_i64.to_be_bytes(), Moment(0)).unwrap(), None);
        assert_eq!(answers.find(&499_i64.to_be_bytes(), Moment(0)).unwrap(), Some(answer));
        answers.keep(b"huge", &vec![7; 2 * 1024 * 1024], Moment(0), Moment(10_000), most).unwrap();
        assert_eq!(answers.find(b"huge", Moment(0)).unwrap(), None);
    }

    #[test]
    fn a_corrupt_file_and_another_programs_are_left_alone() {
        let (_directory, path) = place();
        std::fs::create_dir_all(path.parent().unwrap()).unwrap();
        let garbage = "no database, but long enough to be read as one ".repeat(100);
        std::fs::write(&path, &garbage).unwrap();
        let error = Answers::open(&path).err().unwrap();
        assert_eq!(error.fault, Fault::Corrupt, "{error}");
        assert_eq!(std::fs::read_to_string(&path).unwrap(), garbage);
        std::fs::remove_file(&path).unwrap();
        let other = Connection::open(&path).unwrap();
        other.execute_batch("CREATE TABLE t (x)").unwrap();
        let error = Answers::open(&path).err().unwrap();
        assert_eq!(error.fault, Fault::NotOurs, "{error}");
    }
}
