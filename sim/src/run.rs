//! One run from its seed to its verdict.

use std::cell::RefCell;
use std::rc::Rc;
use std::sync::atomic::{AtomicBool, Ordering};
use std::sync::{Arc, Mutex, Once, PoisonError};
use std::time::Duration;

use anyhow::{Context as _, ensure};
use ticketlock::ServerConfig;
use ticketlock::grpc::Server;
use ticketlock::service::IdSource;
use ticketlock::store::{FileStore, MemoryStore, Store};
use ticketlock_client::Client;
use ticketlock_client::leased::LockClient;
use ticketlock_core::sharding::ShardCount;
use ticketlock_verify::{Checked, Link, Plan, Random, Recorder, Worker};
use tokio::runtime::Handle;
use tokio::sync::Notify;
use turmoil::{Builder, Sim};

use crate::clock::{OwnClock, SimClock, SimRandom};
use crate::disk::{SECTOR, SimDisk, Trouble};
use crate::faults::{Fault, Kind, plan};
use crate::net::{Listening, SERVER, dial};
use crate::objects::{Beliefs, play};

/// For how long faults strike.
const FAULTS: Duration = Duration::from_secs(20);
/// How long everything may take to come to its end afterwards: the longest grace, and the longest lease.
const SETTLED_WITHIN: Duration = Duration::from_secs(60);
/// How far time goes between two looks of the network.
const TICK: Duration = Duration::from_millis(1);
/// One run in so many is one of the memory store.
const IN_MEMORY: u64 = 10;
/// Workers of a client.
const WORKERS: u32 = 3;

/// What a run came to.
#[derive(Debug)]
pub struct Report {
    /// Which run.
    pub seed: u64,
    /// What clients saw.
    pub checked: Checked,
    /// Grants of lock objects, at none of which another client believed that it holds the lock.
    pub object_grants: usize,
    /// What went wrong on purpose.
    pub faults: Vec<Fault>,
    /// Everything that clients saw, a line each: equal runs have equal ones.
    pub trace: String,
}

thread_local!(static PANICS: RefCell<Vec<String>> = const { RefCell::new(Vec::new()) });

/// Runs a seed. `Err`: it could not be run, came to no end, or panicked; broken promises are in the report.
pub fn run(seed: u64) -> anyhow::Result<Report> {
    note_panics();
    let random = Random::new(seed);
    let clients = 3 + u32::try_from(random.below(6))?;
    let mut builder = Builder::new();
    builder
        .rng_seed(random.draw())
        .epoch(std::time::UNIX_EPOCH)
        .simulation_duration(FAULTS + SETTLED_WITHIN * 3)
        .tick_duration(TICK)
        // Longer than a tick, so that what is sent is received later on every host's clock.
        .min_message_latency(TICK * 2)
        .max_message_latency(Duration::from_millis(2 + random.below(30)))
        .tcp_capacity(1 << 16);
    builder.fs().block_size(SECTOR);
    let world = Rc::new(World::new(random, clients));
    let mut sim = builder.build();
    let serving = Rc::clone(&world);
    sim.host(SERVER.0, move || serve(Rc::clone(&serving)));
    for number in 0..clients {
        let working = Rc::clone(&world);
        sim.host(name(number), move || work(Rc::clone(&working), number));
    }
    let faults = plan(&world.random, clients, world.in_memory, FAULTS);
    let outcome = Harness {
        sim: &mut sim,
        world: &world,
        clients,
        pending: faults.clone(),
        mending: Vec::new(),
    }
    .run();
    // What is torn down below writes nothing more.
    world.power_off();
    drop(sim);
    let panics = PANICS.take();
    let told = || {
        let faults: Vec<String> = faults.iter().map(ToString::to_string).collect();
        format!("seed {seed}, {clients} clients, faults:\n  {}", faults.join("\n  "))
    };
    ensure!(panics.is_empty(), "panicked: {}\n{}", panics.join("\n"), told());
    outcome.with_context(told)?;
    let trace = world.recorder.trace();
    Ok(Report {
        seed,
        checked: world.recorder.check(true),
        object_grants: world.beliefs.grants(),
        faults,
        trace,
    })
}

fn name(client: u32) -> String {
    format!("client-{client}")
}

/// A panic in a task is caught by its runtime: it is noted here.
fn note_panics() {
    static ONCE: Once = Once::new();
    ONCE.call_once(|| {
        let before = std::panic::take_hook();
        std::panic::set_hook(Box::new(move |info| {
            PANICS.with_borrow_mut(|panics| panics.push(info.to_string()));
            before(info);
        }));
    });
    PANICS.take();
}

/// What hosts and the harness share.
struct World {
    random: Random,
    /// The memory store: it answers at once, and forgets everything with its process, so that one is spared.
    in_memory: bool,
    recorder: Arc<Recorder>,
    trouble: Arc<Mutex<Trouble>>,
    /// The disk of the server's present life.
    disk: RefCell<Option<SimDisk>>,
    /// The server has ended by itself, and is to be started again.
    ended: AtomicBool,
    /// Ends the server in good order.
    stop: Arc<Notify>,
    clocks: Vec<Arc<OwnClock>>,
    /// What lock objects believe.
    beliefs: Arc<Beliefs>,
    /// Workers take no further step.
    stopping: AtomicBool,
}

impl World {
    fn new(random: Random, clients: u32) -> Self {
        let drift = || {
            let drawn = i32::try_from(random.below(u64::from(OwnClock::DRIFT_MAX) * 2)).unwrap_or_default();
            OwnClock::new(drawn - i32::try_from(OwnClock::DRIFT_MAX).unwrap_or_default())
        };
        let clocks = (0..clients).map(|_| drift()).collect();
        let in_memory = random.below(IN_MEMORY) == 0;
        Self {
            random,
            in_memory,
            recorder: Arc::new(Recorder::new(Arc::new(SimClock::begin()))),
            trouble: Arc::default(),
            disk: RefCell::default(),
            ended: AtomicBool::new(false),
            stop: Arc::default(),
            clocks,
            beliefs: Arc::default(),
            stopping: AtomicBool::new(false),
        }
    }

    fn power_off(&self) {
        if let Some(disk) = &*self.disk.borrow() {
            disk.power_off();
        }
    }
}

/// The server's process, from its start to its end.
async fn serve(world: Rc<World>) -> turmoil::Result {
    let ids = IdSource::seeded(world.random.draw());
    let shards = ShardCount::new(4).context("a power of two")?;
    if world.in_memory {
        let store = MemoryStore::new(ids.draw_id(), shards, 1_000_000);
        return serve_on(&world, Arc::new(store), ids, shards, std::future::pending()).await;
    }
    let disk = SimDisk::on(&world.trouble, &world.random)?;
    *world.disk.borrow_mut() = Some(disk.clone());
    let syncs = Random::new(world.random.draw());
    let trouble = Arc::clone(&world.trouble);
    let pause = move || {
        let slow = trouble.lock().unwrap_or_else(PoisonError::into_inner).slow;
        let longest = Duration::from_millis(if slow { 2_000 } else { 4 });
        Duration::from_micros(100) + syncs.shorter(longest)
    };
    let opened = FileStore::simulated(Arc::new(disk.clone()), ids.draw_id(), shards, 1_000_000, pause);
    let (store, committer) = match opened {
        Ok(opened) => opened,
        // It failed while it was opened: it is started again.
        Err(_) if !world.stopping.load(Ordering::SeqCst) => {
            world.ended.store(true, Ordering::SeqCst);
            return Ok(());
        }
        Err(error) => return Err(error.into()),
    };
    tokio::spawn(committer);
    let failed = store.failed();
    serve_on(&world, Arc::new(store), ids, shards, failed).await
}

/// Serves until it is told to end, or `failed`.
async fn serve_on(
    world: &World,
    store: Arc<dyn Store>,
    ids: IdSource,
    shards: ShardCount,
    failed: impl Future<Output = String>,
) -> turmoil::Result {
    let config = ServerConfig {
        shards,
        http: None,
        metrics: false,
        keepalive_interval: Duration::from_secs(2),
        keepalive_timeout: Duration::from_secs(1),
        ..ServerConfig::default()
    };
    let server = match Server::start(store, config, ids).await {
        Ok(server) => server,
        // The disk failed meanwhile: the process has ended.
        Err(_) if !world.stopping.load(Ordering::SeqCst) => {
            world.ended.store(true, Ordering::SeqCst);
            return Ok(());
        }
        Err(error) => return Err(error.into()),
    };
    let stop = Arc::clone(&world.stop);
    let serving = server.run(Listening::begin().await?, None, async move { stop.notified().await });
    tokio::select! {
        biased;
        _ = failed => {}
        result = serving => result?,
    }
    world.ended.store(true, Ordering::SeqCst);
    // Nothing is done any more between the end of the process and its next start.
    std::future::pending().await
}

/// A client's process, from its start to its end.
async fn work(world: Rc<World>, number: u32) -> turmoil::Result {
    let clock = world.clocks.get(usize::try_from(number)?).context("a clock")?;
    let client = loop {
        let client = Client::builder()
            .endpoint(format!("http://{}:{}", SERVER.0, SERVER.1))
            .owner(name(number))
            .keepalive(Duration::from_secs(2), Duration::from_secs(1))
            .connect_timeout(Duration::from_secs(1))
            .plain_streams(number % 3 == 2)
            .clock(Arc::clone(clock) as Arc<_>)
            .random(Arc::new(SimRandom(Random::new(world.random.draw()))))
            .dial(dial())
            .runtime(Handle::current())
            .connect();
        match client.await {
            Ok(client) => break client,
            Err(_) => tokio::time::sleep(Duration::from_millis(200)).await,
        }
    };
    let plan = Arc::new(Plan {
        prefix: "sim/".to_owned(),
        keys: 2,
        ttl: Duration::from_secs(2),
        while_busy: Duration::from_millis(300),
        grace: Duration::from_secs(5),
        cuts_are_known: true,
    });
    let link = Link::new(number, client, Arc::clone(&world.recorder));
    let held = Arc::clone(&link);
    let key = format!("sim/held/{number}").into();
    let holding = tokio::spawn(async move { held.run(&key).await });
    let mut working = Vec::new();
    for _ in 0..WORKERS {
        let (world, seed) = (Rc::clone(&world), world.random.draw());
        let worker = Worker::new(Arc::clone(&link), Arc::clone(&world.recorder), Arc::clone(&plan), seed);
        working.push(tokio::task::spawn_local(async move {
            let pauses = Random::new(seed);
            while !world.stopping.load(Ordering::SeqCst) {
                worker.step().await;
                tokio::time::sleep(pauses.shorter(Duration::from_millis(100))).await;
            }
        }));
    }
    let locks = LockClient::new(link.client().clone(), "sim/objects");
    let (beliefs, draws) = (Arc::clone(&world.beliefs), Random::new(world.random.draw()));
    let stopping = || world.stopping.load(Ordering::SeqCst);
    play(locks.clone(), number, beliefs, draws, stopping).await;
    for worker in working {
        worker.await?;
    }
    link.end();
    holding.await?;
    // It closes the client, too.
    locks.stop(Duration::from_secs(5)).await?;
    Ok(())
}

/// Strikes, mends, and waits for the end.
struct Harness<'a, 'b> {
    sim: &'a mut Sim<'b>,
    world: &'a World,
    clients: u32,
    pending: Vec<Fault>,
    /// What is to be mended when.
    mending: Vec<(Duration, Kind)>,
}

impl Harness<'_, '_> {
    fn run(&mut self) -> anyhow::Result<()> {
        self.pending.reverse();
        while self.sim.elapsed() < FAULTS {
            self.step()?;
            while let Some(fault) = self.pending.pop_if(|fault| fault.at <= self.sim.elapsed()) {
                self.strike(fault);
            }
        }
        while !self.mending.is_empty() {
            self.step()?;
        }
        self.disarm();
        self.world.stopping.store(true, Ordering::SeqCst);
        let settled = self.sim.elapsed() + SETTLED_WITHIN;
        while (0..self.clients).any(|client| self.sim.is_host_running(name(client))) {
            self.step()?;
            ensure!(
                self.sim.elapsed() < settled,
                "clients came to no end within {SETTLED_WITHIN:?}"
            );
        }
        self.nothing_is_left()
    }

    fn step(&mut self) -> anyhow::Result<()> {
        self.sim.step().map_err(|error| anyhow::anyhow!("{error}"))?;
        let now = self.sim.elapsed();
        let power_gone = self.world.disk.borrow().as_ref().is_some_and(|disk| !disk.is_on());
        let down = self.mending.iter().any(|(_, kind)| matches!(kind, Kind::PowerLoss));
        if (power_gone || self.world.ended.load(Ordering::SeqCst)) && !down {
            self.power_loss(Duration::from_millis(50 + self.world.random.below(1_000)));
        }
        let due: Vec<Kind> = self
            .mending
            .extract_if(.., |(at, _)| *at <= now)
            .map(|(_, kind)| kind)
            .collect();
        due.into_iter().for_each(|kind| self.mend(kind));
        Ok(())
    }

    fn trouble(&self, change: impl FnOnce(&mut Trouble)) {
        change(&mut self.world.trouble.lock().unwrap_or_else(PoisonError::into_inner));
    }

    fn power_loss(&mut self, lasts: Duration) {
        self.world.power_off();
        self.sim.crash(SERVER.0);
        self.world.ended.store(false, Ordering::SeqCst);
        self.disarm();
        self.mending.push((self.sim.elapsed() + lasts, Kind::PowerLoss));
    }

    /// What waits for the next write or sync does not happen any more.
    fn disarm(&self) {
        self.trouble(|trouble| {
            trouble.cut_after = None;
            trouble.fail_sync = false;
            trouble.fail_write = false;
        });
    }

    fn strike(&mut self, fault: Fault) {
        let until = self.sim.elapsed() + fault.lasts;
        let down = self.mending.iter().any(|(_, kind)| matches!(kind, Kind::PowerLoss));
        match fault.kind {
            Kind::PowerLoss if !down => return self.power_loss(fault.lasts),
            Kind::PowerLoss => return,
            Kind::PowerLossAfter(writes) => return self.trouble(|trouble| trouble.cut_after = Some(writes)),
            Kind::SyncFails => return self.trouble(|trouble| trouble.fail_sync = true),
            Kind::WriteFails => return self.trouble(|trouble| trouble.fail_write = true),
            Kind::DiskFull => self.trouble(|trouble| trouble.full = true),
            Kind::DiskSlow => self.trouble(|trouble| trouble.slow = true),
            Kind::Restart => return self.world.stop.notify_waiters(),
            Kind::Partition(client) => self.sim.partition(name(client), SERVER.0),
            Kind::Mute(client) => self.sim.partition_oneway(name(client), SERVER.0),
            Kind::Deaf(client) => self.sim.partition_oneway(SERVER.0, name(client)),
            Kind::Slow(client) => self.sim.hold(name(client), SERVER.0),
            Kind::Killed(client) => {
                if !self.sim.is_host_running(name(client)) {
                    return;
                }
                self.sim.crash(name(client));
                self.world.beliefs.forget(client);
                self.away(client);
            }
            Kind::Suspended(client) => {
                let clock = usize::try_from(client)
                    .ok()
                    .and_then(|index| self.world.clocks.get(index));
                clock.into_iter().for_each(|clock| clock.suspended(fault.lasts));
                return;
            }
        }
        if let Kind::Partition(client) | Kind::Mute(client) | Kind::Deaf(client) | Kind::Slow(client) = fault.kind {
            self.away(client);
        }
        self.mending.push((until, fault.kind));
    }

    /// The harness has no host, so the time is its own.
    fn away(&self, client: u32) {
        self.world.recorder.away_at(self.sim.elapsed(), client);
    }

    fn mend(&mut self, kind: Kind) {
        match kind {
            Kind::PowerLoss => self.sim.bounce(SERVER.0),
            Kind::DiskFull => self.trouble(|trouble| trouble.full = false),
            Kind::DiskSlow => self.trouble(|trouble| trouble.slow = false),
            Kind::Partition(client) => self.sim.repair(name(client), SERVER.0),
            Kind::Mute(client) => self.sim.repair_oneway(name(client), SERVER.0),
            Kind::Deaf(client) => self.sim.repair_oneway(SERVER.0, name(client)),
            Kind::Slow(client) => self.sim.release(name(client), SERVER.0),
            Kind::Killed(client) => self.sim.bounce(name(client)),
            _ => {}
        }
        if let Kind::Partition(client) | Kind::Mute(client) | Kind::Deaf(client) | Kind::Slow(client) = kind {
            self.away(client);
        }
    }

    /// What clients left behind that were killed goes with its lease or its grace; then no key is left.
    fn nothing_is_left(&mut self) -> anyhow::Result<()> {
        let left = Rc::new(RefCell::new(None));
        let seen = Rc::clone(&left);
        self.sim.client("auditor", async move {
            let client = Client::builder()
                .endpoint(format!("http://{}:{}", SERVER.0, SERVER.1))
                .clock(Arc::new(SimClock))
                .random(Arc::new(SimRandom(Random::new(1))))
                .dial(dial())
                .runtime(Handle::current())
                .connect()
                .await?;
            for _ in 0..SETTLED_WITHIN.as_secs() {
                let locks = client.list("").await?;
                if locks.is_empty() {
                    *seen.borrow_mut() = None;
                    return Ok(());
                }
                *seen.borrow_mut() = Some(format!("{locks:?}"));
                tokio::time::sleep(Duration::from_secs(1)).await;
            }
            Ok(())
        });
        while !self.sim.step().map_err(|error| anyhow::anyhow!("{error}"))? {}
        match left.take() {
            None => Ok(()),
            Some(locks) => anyhow::bail!("left behind: {locks}"),
        }
    }
}
