//! The table of rests for one model: an identity's flag tells of them, whoever changes the table meanwhile, also a reload
//! that forgets an identity of which an exchange still learns.

use std::sync::Arc;
use std::time::{Duration, Instant};

use loom::thread;

use crate::Model;
use crate::standing::{CredentialFault, RestScope, Rests, Standing};

pub const MODELS: &[Model] = &[
    Model::all("the flag tells of a rest that another exchange ends", ended_while_it_begins),
    Model::all("two exchanges that begin one rest begin one", begun_twice),
    Model::most("the flag tells of a rest that a reload forgets", forgotten_by_a_reload),
];

const FAULT: CredentialFault = CredentialFault::RateLimited { retry_after: Some(Duration::from_secs(10)) };

fn scope() -> RestScope {
    RestScope::Model("m".into())
}

struct Table {
    rests: Arc<Rests>,
    identity: Arc<Standing>,
    now: Instant,
}

impl Table {
    fn new() -> Self {
        Table { rests: Arc::default(), identity: Arc::default(), now: Instant::now() }
    }

    fn spawn<T: 'static>(
        &self,
        step: impl FnOnce(&Rests, &Arc<Standing>, Instant) -> T + 'static,
    ) -> thread::JoinHandle<T> {
        let (rests, identity, now) = (self.rests.clone(), self.identity.clone(), self.now);
        thread::spawn(move || step(&rests, &identity, now))
    }

    fn assert_flag(&self) {
        let has_rests = !self.rests.is_empty();
        assert_eq!(self.identity.has_scoped(), has_rests, "the flag does not tell of the table");
        assert_eq!(self.rests.of_identity(&self.identity, self.now).len(), usize::from(has_rests));
    }
}

fn ended_while_it_begins() {
    let table = Table::new();
    table.rests.cool(&table.identity, &scope(), FAULT, table.now, table.now);
    let other = table.spawn(|rests, identity, now| _ = rests.restore(identity, &scope(), now));
    let later = table.now + Duration::from_secs(1);
    table.rests.cool(&table.identity, &scope(), FAULT, later, later);
    other.join().unwrap();
    table.assert_flag();
}

fn begun_twice() {
    let table = Table::new();
    let begin = |rests: &Rests, identity: &Arc<Standing>, now| rests.cool(identity, &scope(), FAULT, now, now);
    let other = table.spawn(begin);
    begin(&table.rests, &table.identity, table.now);
    other.join().unwrap();
    table.assert_flag();
    assert_eq!(table.rests.resting(&scope(), table.now).of(&table.identity).map(|rest| rest.is_clear()), Some(false));
}

fn forgotten_by_a_reload() {
    let table = Table::new();
    table.rests.cool(&table.identity, &scope(), FAULT, table.now, table.now);
    let other = table.spawn(|rests, _, _| rests.keep_identities(|_| false));
    table.rests.cool(&table.identity, &RestScope::Model("n".into()), FAULT, table.now, table.now);
    other.join().unwrap();
    let count = table.rests.of_identity(&table.identity, table.now).len();
    assert_eq!(table.identity.has_scoped(), !table.rests.is_empty());
    assert!(count <= 1, "what was there before the reload is forgotten");
}
