//! The totals on disk: one SQLite file, a row for each hour, key, credential and model.
//!
//! Invariant: what [`UsageStore::add`] returned for is on disk, whatever dies afterwards; what it was doing when it
//! died is undone by the next one who opens the file. Any number of processes may add at once.
//!
//! The journal is SQLite's own default, a rollback journal, and not the write-ahead log. One short transaction a minute
//! gains nothing from the latter, which needs memory that all processes share (none on a network's file system, nor
//! between two containers) and a right to write even for readers. The price is that a reader holds up a writer for the
//! milliseconds that it reads. `synchronous` is EXTRA: the end of the journal is on disk too before a commit counts, so
//! that a power cut takes nothing back that was already dropped from memory.
//!
//! Not here: what is counted, and when it is written (`keeper`). Everything here blocks.

mod fault;
pub mod place;
mod schema;
#[cfg(test)]
mod tests;

use std::collections::BTreeMap;
use std::path::{Path, PathBuf};
use std::sync::Arc;
use std::time::Duration;

use rusqlite::{Connection, OpenFlags, Row, Transaction, TransactionBehavior};

use super::totals::{COUNTS, UnixHour, UsageKey, UsageSums};

pub use fault::{StoreError, StoreFault};

/// The days that rows are kept.
pub const KEPT_DAYS: u64 = 400;

/// Rows are only deleted where as many days after the limit have some: a clock that is wrong for a while and far ahead
/// must not delete what there is.
const EVIDENCE_DAYS: i64 = 7;

/// The wait for another process that writes or reads, which takes milliseconds. Below what the end of a gateway waits
/// for its last write.
const BUSY_TIMEOUT: Duration = Duration::from_secs(2);

/// The columns of the counts, in the order of [`UsageSums::counts`].
const COLUMNS: [&str; COUNTS] = [
    "requests",
    "without_usage",
    "input",
    "cache_read",
    "cache_write",
    "output",
    "reasoning",
    "estimated_input",
    "estimated_output",
    "reported_cost",
    "estimated_cost",
];

/// An open file of totals.
pub struct UsageStore {
    connection: Connection,
    path: PathBuf,
}

/// The usage of one hour, key, credential and model.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct UsageRow {
    pub hour: UnixHour,
    pub of: UsageKey,
    pub sums: UsageSums,
}

impl UsageStore {
    /// Opens the file for adding. It is made where it is missing, with its directories, for this user alone.
    ///
    /// # Errors
    /// See [`StoreFault`].
    pub fn open(path: &Path) -> Result<Self, StoreError> {
        Self::open_at(path, place::make)
    }

    /// Opens a file that is there, for reading. The right to write is needed only where a write was cut off.
    ///
    /// # Errors
    /// See [`StoreFault`].
    pub fn open_existing(path: &Path) -> Result<Self, StoreError> {
        Self::open_at(path, place::find)
    }

    fn open_at(path: &Path, prepare: impl Fn(&Path) -> Result<(), StoreFault>) -> Result<Self, StoreError> {
        let failed = |fault| StoreError { path: path.to_owned(), fault };
        // SQLite takes some relative names for something else (`:memory:`).
        let absolute = std::path::absolute(path).map_err(|error| failed(StoreFault::File(error)))?;
        prepare(&absolute).map_err(failed)?;
        let connection = connect(&absolute).map_err(failed)?;
        Ok(UsageStore { connection, path: path.to_owned() })
    }

    /// Adds the rows to what there is, all of them or none.
    ///
    /// # Errors
    /// See [`StoreFault`].
    pub fn add(&mut self, rows: &[UsageRow]) -> Result<(), StoreError> {
        add(&mut self.connection, rows).map_err(|error| self.failed(error))
    }

    /// Deletes the rows that are older than [`KEPT_DAYS`].
    ///
    /// # Errors
    /// See [`StoreFault`].
    pub fn prune(&mut self, now: UnixHour) -> Result<(), StoreError> {
        prune(&self.connection, now).map_err(|error| self.failed(error))
    }

    /// Calls `each` for every row from an hour on, in the order of the hours.
    ///
    /// # Errors
    /// See [`StoreFault`].
    pub fn read(&self, since: UnixHour, each: impl FnMut(UsageRow)) -> Result<(), StoreError> {
        read(&self.connection, since, each).map_err(|error| self.failed(error))
    }

    /// Returns the sums of each caller's key from an hour on.
    ///
    /// # Errors
    /// See [`StoreFault`].
    pub fn sums_by_key(&self, since: UnixHour) -> Result<BTreeMap<Arc<str>, UsageSums>, StoreError> {
        let mut sums: BTreeMap<Arc<str>, UsageSums> = BTreeMap::new();
        self.read(since, |row| *sums.entry(row.of.key).or_default() += row.sums)?;
        Ok(sums)
    }

    fn failed(&self, error: rusqlite::Error) -> StoreError {
        StoreError { path: self.path.clone(), fault: error.into() }
    }
}

fn connect(path: &Path) -> Result<Connection, StoreFault> {
    // One thread has it, so it needs no mutex; and a path is a path, not a URI.
    let flags = OpenFlags::SQLITE_OPEN_READ_WRITE | OpenFlags::SQLITE_OPEN_NO_MUTEX;
    let mut connection = Connection::open_with_flags(path, flags)?;
    connection.busy_timeout(BUSY_TIMEOUT)?;
    // Statements in a file that somebody else has made do nothing beyond it, and no temporary file is needed, for which
    // there may be no place.
    connection.execute_batch(
        "PRAGMA synchronous = EXTRA; PRAGMA trusted_schema = OFF; PRAGMA cell_size_check = ON;
         PRAGMA temp_store = MEMORY;",
    )?;
    schema::bring_up_to_date(&mut connection)?;
    Ok(connection)
}

fn add(connection: &mut Connection, rows: &[UsageRow]) -> rusqlite::Result<()> {
    // Begun as a writer: a reader that turned into one could not wait for another writer.
    let transaction = Transaction::new(connection, TransactionBehavior::Immediate)?;
    {
        let mut statement = transaction.prepare(&upsert())?;
        for UsageRow { hour, of, sums } in rows {
            statement.raw_bind_parameter(1, as_integer(hour.0))?;
            statement.raw_bind_parameter(2, &*of.key)?;
            statement.raw_bind_parameter(3, &*of.credential)?;
            statement.raw_bind_parameter(4, &*of.model)?;
            for (index, count) in sums.counts().into_iter().enumerate() {
                statement.raw_bind_parameter(5 + index, as_integer(count))?;
            }
            statement.raw_execute()?;
        }
    }
    transaction.commit()
}

/// The statement that adds a row. SQLite would go on with a float where an integer overflows.
fn upsert() -> String {
    let added = |column: &&str| {
        format!(
            "{column} = iif({column} > {max} - excluded.{column}, {max}, {column} + excluded.{column})",
            max = i64::MAX
        )
    };
    let places: Vec<String> = (1..=4 + COUNTS).map(|index| format!("?{index}")).collect();
    format!(
        "INSERT INTO usage (hour, key, credential, model, {columns}) VALUES ({places}) ON CONFLICT DO UPDATE SET {added}",
        columns = COLUMNS.join(", "),
        places = places.join(", "),
        added = COLUMNS.iter().map(added).collect::<Vec<_>>().join(", ")
    )
}

fn prune(connection: &Connection, now: UnixHour) -> rusqlite::Result<()> {
    let limit = as_integer(now.days_before(KEPT_DAYS).0);
    connection.execute(
        "DELETE FROM usage WHERE hour < ?1 AND ?2 <= (SELECT count(DISTINCT hour / 24) FROM usage WHERE hour >= ?1)",
        (limit, EVIDENCE_DAYS),
    )?;
    Ok(())
}

fn read(connection: &Connection, since: UnixHour, mut each: impl FnMut(UsageRow)) -> rusqlite::Result<()> {
    let columns = COLUMNS.join(", ");
    let mut statement = connection.prepare(&format!(
        "SELECT hour, key, credential, model, {columns} FROM usage WHERE hour >= ?1 ORDER BY hour, key, credential, model"
    ))?;
    let mut rows = statement.query([as_integer(since.0)])?;
    while let Some(row) = rows.next()? {
        each(of_row(row)?);
    }
    Ok(())
}

fn of_row(row: &Row<'_>) -> rusqlite::Result<UsageRow> {
    let number = |index: usize| row.get::<_, i64>(index).map(|number| u64::try_from(number).unwrap_or(0));
    let name = |index: usize| row.get::<_, Arc<str>>(index);
    let mut counts = [0; COUNTS];
    for (index, count) in counts.iter_mut().enumerate() {
        *count = number(4 + index)?;
    }
    let of = UsageKey { key: name(1)?, credential: name(2)?, model: name(3)? };
    Ok(UsageRow { hour: UnixHour(number(0)?), of, sums: UsageSums::of_counts(counts) })
}

/// A number as SQLite has it: signed. What does not fit is the greatest that does.
fn as_integer(number: u64) -> i64 {
    i64::try_from(number).unwrap_or(i64::MAX)
}
