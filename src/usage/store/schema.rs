//! The form of the database, by its number in `PRAGMA user_version`.
//!
//! Invariant: a form that was released never changes; a new one is one more step at the end of [`STEPS`].

use rusqlite::{Connection, Transaction, TransactionBehavior};

use super::fault::StoreFault;

/// Tells the file from those of other programs: "flur".
const APPLICATION_ID: i64 = 0x666c_7572;

/// The statements that lead from each form to the next one, the first of them from an empty file.
///
/// Costs are in units of 1e-12 dollars. An empty name stands for none. By its order the primary key serves a span of
/// time, and nothing else is asked for.
const STEPS: [&str; 1] = ["CREATE TABLE usage (
    hour INTEGER NOT NULL,
    key TEXT NOT NULL,
    credential TEXT NOT NULL,
    model TEXT NOT NULL,
    requests INTEGER NOT NULL,
    without_usage INTEGER NOT NULL,
    input INTEGER NOT NULL,
    cache_read INTEGER NOT NULL,
    cache_write INTEGER NOT NULL,
    output INTEGER NOT NULL,
    reasoning INTEGER NOT NULL,
    estimated_input INTEGER NOT NULL,
    estimated_output INTEGER NOT NULL,
    reported_cost INTEGER NOT NULL,
    estimated_cost INTEGER NOT NULL,
    PRIMARY KEY (hour, key, credential, model)
) STRICT, WITHOUT ROWID"];

/// Brings the database to the form that this version writes.
///
/// # Errors
/// It is another program's, or of a form that this version does not know; both stay as they are.
pub fn bring_up_to_date(connection: &mut Connection) -> Result<(), StoreFault> {
    migrate(connection, &STEPS)
}

fn migrate(connection: &mut Connection, steps: &[&str]) -> Result<(), StoreFault> {
    // All of it at one moment, with no other process's step between.
    let now = Transaction::new(connection, TransactionBehavior::Deferred)?;
    let done = steps_done(&now, steps)?;
    now.commit()?;
    if done == steps.len() {
        return Ok(());
    }
    let transaction = Transaction::new(connection, TransactionBehavior::Immediate)?;
    // Another process may have been faster.
    let done = steps_done(&transaction, steps)?;
    for step in &steps[done..] {
        transaction.execute_batch(step)?;
    }
    transaction.pragma_update(None, "application_id", APPLICATION_ID)?;
    transaction.pragma_update(None, "user_version", steps.len() as i64)?;
    Ok(transaction.commit()?)
}

/// Returns the number of steps that the database has behind it.
fn steps_done(connection: &Connection, steps: &[&str]) -> Result<usize, StoreFault> {
    let version: i64 = connection.pragma_query_value(None, "user_version", |row| row.get(0))?;
    let application: i64 = connection.pragma_query_value(None, "application_id", |row| row.get(0))?;
    let is_empty = || connection.query_row("SELECT count(*) = 0 FROM sqlite_schema", [], |row| row.get(0));
    match usize::try_from(version) {
        Ok(0) if application == 0 && is_empty()? => Ok(0),
        Ok(done) if application == APPLICATION_ID && done > 0 && done <= steps.len() => Ok(done),
        Ok(done) if application == APPLICATION_ID && done > steps.len() => Err(StoreFault::Newer { version }),
        _ => Err(StoreFault::Foreign),
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    /// The first form as it was released, word for word.
    const FIRST: &str = "
        CREATE TABLE usage (hour INTEGER NOT NULL, key TEXT NOT NULL, credential TEXT NOT NULL, model TEXT NOT NULL,
            requests INTEGER NOT NULL, without_usage INTEGER NOT NULL, input INTEGER NOT NULL,
            cache_read INTEGER NOT NULL, cache_write INTEGER NOT NULL, output INTEGER NOT NULL,
            reasoning INTEGER NOT NULL, estimated_input INTEGER NOT NULL, estimated_output INTEGER NOT NULL,
            reported_cost INTEGER NOT NULL, estimated_cost INTEGER NOT NULL,
            PRIMARY KEY (hour, key, credential, model)) STRICT, WITHOUT ROWID;
        PRAGMA application_id = 1718383986;
        PRAGMA user_version = 1;
        INSERT INTO usage VALUES (7, 'alice', 'team-a', 'claude', 1, 2, 3, 4, 5, 6, 7, 8, 9, 10, 11);";

    fn database(text: &str) -> Connection {
        let connection = Connection::open_in_memory().expect("opened");
        connection.execute_batch(text).expect("executed");
        connection
    }

    fn version(connection: &Connection) -> i64 {
        connection.pragma_query_value(None, "user_version", |row| row.get(0)).expect("a number")
    }

    #[test]
    fn a_file_of_the_first_form_is_brought_up_to_date_and_keeps_its_rows() {
        let mut first = database(FIRST);
        bring_up_to_date(&mut first).expect("brought up to date");
        assert_eq!(version(&first), STEPS.len() as i64);
        let sum = "SELECT hour + requests + without_usage + input + cache_read + cache_write + output + reasoning +
            estimated_input + estimated_output + reported_cost + estimated_cost FROM usage WHERE key = 'alice'";
        assert_eq!(first.query_row(sum, [], |row| row.get::<_, i64>(0)).expect("a row"), 7 + 66);
    }

    #[test]
    fn steps_that_are_behind_a_database_are_not_done_again_and_none_is_left_out() {
        let more =
            [STEPS[0], "ALTER TABLE usage ADD COLUMN images INTEGER NOT NULL DEFAULT 0", "CREATE TABLE keys (a)"];
        for mut connection in [database(FIRST), database("")] {
            migrate(&mut connection, &more).expect("migrated");
            migrate(&mut connection, &more).expect("nothing left to do");
            assert_eq!(version(&connection), 3);
            connection.execute_batch("SELECT images FROM usage, keys").expect("both are there");
        }
    }

    #[test]
    fn a_step_that_fails_leaves_the_database_as_it_was() {
        let mut connection = database(FIRST);
        let steps = [STEPS[0], "CREATE TABLE half (a)", "no SQL"];
        migrate(&mut connection, &steps).expect_err("not SQL");
        assert_eq!(version(&connection), 1);
        connection.execute_batch("SELECT * FROM half").expect_err("rolled back");
    }

    #[test]
    fn a_newer_form_and_a_database_of_another_program_are_refused() {
        for (change, is_newer) in [
            ("PRAGMA user_version = 99", true),
            ("PRAGMA user_version = -1", false),
            ("PRAGMA user_version = 0", false),
            ("PRAGMA application_id = 1", false),
            ("PRAGMA application_id = 0; PRAGMA user_version = 0", false),
        ] {
            let mut connection = database(FIRST);
            connection.execute_batch(change).expect("changed");
            let fault = bring_up_to_date(&mut connection).expect_err("refused");
            assert_eq!(matches!(fault, StoreFault::Newer { version: 99 }), is_newer, "{change}: {fault:?}");
            assert!(is_newer || matches!(fault, StoreFault::Foreign), "{change}: {fault:?}");
        }
    }
}
