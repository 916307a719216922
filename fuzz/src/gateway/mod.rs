//! Whole gateways of this process, one on io_uring and one on epoll, between clients and an upstream that do what a
//! script says.
//!
//! A [`script`] is any bytes. [`World::run`] plays it on one `stage` after the other: `client` and `upstream`
//! send the bytes of `request` and `answer`, in `pieces`, each with a `tag` of where it comes from. After every play the
//! gateway has to come to rest, and `check` compares what either side saw (`wire`) with the `log`. Memory is compared
//! over many scripts (`memory`).

mod answer;
mod check;
mod client;
mod log;
pub mod memory;
mod pieces;
mod request;
pub mod script;
mod stage;
mod tag;
mod upstream;
mod wire;

use std::collections::BTreeSet;
use std::sync::Arc;
use std::sync::Mutex;
use std::sync::OnceLock;
use std::thread;
use std::time::{Duration, Instant};

use flow_uring::config::IoDriver;

use self::check::Observed;
use self::log::Line;
use self::memory::{MemoryWatch, live_bytes};
use self::script::{Client, Kind, Script};
use self::stage::{Stage, described_descriptors, open_descriptors};

/// The time that a script may take on one gateway. The longest that a client waits: three requests one after the other,
/// of each two attempts or three that wait for the limits of `stage` (90 ms each, and 2 s where the upstream has
/// stopped taking the request).
const SCRIPT_LIMIT: Duration = Duration::from_millis(4500);

/// Descriptors are closed by then: a ring closes what was dropped in its next turns.
const DESCRIPTORS_LIMIT: Duration = Duration::from_secs(1);

/// Plays that come before the first look at descriptors and memory: what is set up once is set up by then.
const WARM_UP_PLAYS: usize = 60;

/// Plays of a script one after the other, of which not every one may leave something: what is kept for reuse was seen to
/// grow in three of ten at most.
const SAMPLE_PLAYS: usize = 10;

/// The gateways, and what is known of them.
pub struct World {
    stages: Vec<Stage>,
    state: Mutex<WorldState>,
}

struct WorldState {
    run: u64,
    /// Of each stage, the numbers of the exchanges that were logged.
    logged: Vec<LoggedNumbers>,
    descriptors: Option<usize>,
    memory: MemoryWatch,
}

/// The numbers of the exchanges of a shard that were logged: all up to `through`, and some beyond.
#[derive(Default)]
struct LoggedNumbers {
    through: u64,
    beyond: BTreeSet<u64>,
}

impl World {
    /// Returns the gateways of this process, which start with the first call.
    pub fn get() -> &'static World {
        static WORLD: OnceLock<World> = OnceLock::new();
        WORLD.get_or_init(|| {
            log::start();
            let stages = vec![Stage::start("uring", IoDriver::Uring), Stage::start("epoll", IoDriver::Epoll)];
            let logged = stages.iter().map(|_| LoggedNumbers::default()).collect();
            let state = WorldState { run: 0, logged, descriptors: None, memory: MemoryWatch::default() };
            let world = World { stages, state: Mutex::new(state) };
            world.warm_up();
            world
        })
    }

    fn warm_up(&self) {
        let seeds = script::seeds::all();
        for (_, script) in seeds.iter().cycle().take(WARM_UP_PLAYS) {
            self.run(script);
        }
        self.await_empty_pools().expect("the pools are closed as they come of age");
        // A ring closes what was dropped in its next turns.
        thread::sleep(Duration::from_millis(50));
        self.state.lock().unwrap().descriptors = Some(open_descriptors());
    }

    /// Plays a script on both gateways at once.
    ///
    /// # Panics
    /// With what was found, and the script.
    pub fn run(&self, script: &Script) {
        if is_shown() {
            eprintln!("{script}");
        }
        let script = Arc::new(script.clone());
        let mut state = self.state.lock().unwrap();
        let found = self.play_all(&script, &mut state).and_then(|()| match state.descriptors {
            Some(_) => self.look_at_memory(&script, &mut state),
            None => Ok(()),
        });
        found.unwrap_or_else(|fault| panic!("{fault}\n{script}"));
    }

    /// Plays on all gateways, and looks whether they come to rest.
    fn play_all(&self, script: &Arc<Script>, state: &mut WorldState) -> Result<(), String> {
        let WorldState { run, logged, descriptors, .. } = state;
        let plays = self.stages.iter().zip(logged).enumerate().map(|(place, (stage, logged))| {
            *run += 1;
            Play { stage, place, logged, run: *run, script }
        });
        let results: Vec<Result<(), String>> = if descriptors.is_some() {
            let mut plays: Vec<_> = plays.collect();
            thread::scope(|scope| {
                let threads: Vec<_> = plays.iter_mut().map(|play| scope.spawn(move || play.play())).collect();
                threads.into_iter().map(|thread| thread.join().expect("a play")).collect()
            })
        } else {
            // One after the other: so it is found out whose threads log.
            plays.map(|mut play| play.play()).collect()
        };
        results.into_iter().collect::<Result<(), String>>()?;
        self.descriptors_rest(*descriptors)
    }

    /// Looks whether memory grows: over many scripts, and of some scripts, the first of a process among them, with each
    /// of their plays.
    fn look_at_memory(&self, script: &Arc<Script>, state: &mut WorldState) -> Result<(), String> {
        state.memory.look()?;
        // Each upgrade that is refused adds to a table, up to its bound.
        let mut exchanges = script.clients.iter().flat_map(|client| &client.exchanges);
        if !state.memory.is_sample() || exchanges.any(|exchange| exchange.request.kind == Kind::Upgrade) {
            return Ok(());
        }
        let mut live = Vec::with_capacity(SAMPLE_PLAYS + 1);
        for _ in 0..=SAMPLE_PLAYS {
            self.play_all(script, state)?;
            self.await_empty_pools()?;
            live.push(live_bytes());
        }
        let growth: Vec<isize> = live.windows(2).map(|pair| pair[1] - pair[0]).collect();
        if is_shown() {
            eprintln!("bytes that each play leaves: {growth:?}");
        }
        if growth.iter().all(|bytes| *bytes > 0) {
            return Err(format!("each of {SAMPLE_PLAYS} plays leaves some bytes: {growth:?}"));
        }
        Ok(())
    }

    /// Waits until the connections in the pools have come of age: each takes some memory.
    fn await_empty_pools(&self) -> Result<(), String> {
        let due = Instant::now() + DESCRIPTORS_LIMIT;
        while self.idle_upstream()? > 0 {
            if Instant::now() >= due {
                return Err(format!("connections are still in a pool after {DESCRIPTORS_LIMIT:?}"));
            }
            thread::sleep(Duration::from_millis(1));
        }
        Ok(())
    }

    fn idle_upstream(&self) -> Result<usize, String> {
        self.stages.iter().map(Stage::idle_upstream).sum()
    }

    /// Waits until no more descriptors are open than before, beside those of connections in the pools.
    fn descriptors_rest(&self, at_rest: Option<usize>) -> Result<(), String> {
        let Some(at_rest) = at_rest else { return Ok(()) };
        let due = Instant::now() + DESCRIPTORS_LIMIT;
        loop {
            // Counted after the descriptors: one that is closed meanwhile is in neither.
            let open = open_descriptors();
            let idle = self.idle_upstream()?;
            if open <= at_rest + idle {
                return Ok(());
            }
            if Instant::now() >= due {
                let all = described_descriptors();
                return Err(format!(
                    "{open} descriptors are open, {idle} of them in pools, and {at_rest} before:\n{all}"
                ));
            }
            thread::sleep(Duration::from_micros(200));
        }
    }
}

/// One play of a script.
struct Play<'a> {
    stage: &'a Stage,
    place: usize,
    logged: &'a mut LoggedNumbers,
    run: u64,
    script: &'a Arc<Script>,
}

impl Play<'_> {
    /// # Errors
    /// The finding, with all that was seen.
    fn play(&mut self) -> Result<(), String> {
        let (stage, script, run) = (self.stage, self.script, self.run);
        if self.logged.through == 0 {
            log::attribute_to(self.place);
        }
        let begun = Instant::now();
        stage.upstream.begin(script.clone(), run);
        let clients = play_clients(stage, script, run, begun + SCRIPT_LIMIT);
        let (attempts, faults) = stage.upstream.end(SCRIPT_LIMIT);
        let mut observed = Observed { run, script, clients, attempts, lines: Vec::new(), begun };
        let found = faults.into_iter().next().map_or(Ok(()), Err).and_then(|()| stage.rest()).and_then(|()| {
            observed.lines = take_lines(self.place, self.logged)?;
            check::check(&observed)
        });
        found.map_err(|fault| {
            observed.lines.extend(log::take(self.place));
            format!("{}: {fault}\n\n{}", stage.name, observed.describe())
        })
    }
}

/// Scripts are shown as they are played, also where nothing is found.
fn is_shown() -> bool {
    std::env::var_os("FLOW_SCRIPT_SHOWN").is_some()
}

fn play_clients(stage: &Stage, script: &Script, run: u64, due: Instant) -> Vec<client::Seen> {
    let mut first = 0;
    let with_first = script.clients.iter().map(|client| {
        let of_client = first;
        first += client.exchanges.len();
        (client, of_client)
    });
    let with_first: Vec<(&Client, usize)> = with_first.collect();
    if let [(client, first)] = with_first[..] {
        return vec![client::play(client, stage.address, run, first, due)];
    }
    thread::scope(|scope| {
        let play = |(client, first)| scope.spawn(move || client::play(client, stage.address, run, first, due));
        let threads: Vec<_> = with_first.into_iter().map(play).collect();
        threads.into_iter().map(|thread| thread.join().expect("a client")).collect()
    })
}

/// Takes what was logged, and looks whether every exchange is there once: they are numbered.
fn take_lines(gateway: usize, logged: &mut LoggedNumbers) -> Result<Vec<Line>, String> {
    let mut lines = Vec::new();
    let due = Instant::now() + DESCRIPTORS_LIMIT;
    loop {
        let new = log::take(gateway);
        for line in new.iter().filter(|line| line.is_of_exchange()) {
            let number = line.value("id").and_then(|id| id.split_once('-')).map(|(_, number)| number);
            let number = number.and_then(|number| u64::from_str_radix(number, 16).ok()).ok_or("no id")?;
            if number <= logged.through || !logged.beyond.insert(number) {
                return Err(format!("exchange {number:x} is logged twice: {}", line.text));
            }
        }
        lines.extend(new);
        while logged.beyond.remove(&(logged.through + 1)) {
            logged.through += 1;
        }
        if logged.beyond.is_empty() {
            return Ok(lines);
        }
        if Instant::now() >= due {
            return Err(format!("exchange {:x} was not logged, and later ones were", logged.through + 1));
        }
        thread::sleep(Duration::from_millis(1));
    }
}
