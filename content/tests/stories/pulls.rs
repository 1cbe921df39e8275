//! Sixteen processes pull the same twenty layers at once into one directory: each layer is downloaded once, also where
//! processes are killed in the middle.

use std::collections::{BTreeMap, BTreeSet};
use std::fs;
use std::path::Path;
use std::process::Stdio;

use ticketlock_content::Digest;
use tokio::io::{AsyncBufReadExt as _, AsyncWriteExt as _, BufReader};
use tokio::process::{Child, ChildStdin, Command};
use tokio::sync::mpsc;

use crate::layout::{Random, write_image};
use crate::world::{PATIENCE, World, key, nodes};

#[path = "../../examples/pull_layers/pull.rs"]
mod pull;

const PROCESSES: usize = 16;
const LAYERS: usize = 20;
/// Tells a process of this program that it is to pull, and with which arguments, one on a line.
const PULLING: &str = "TICKETLOCK_TEST_PULLING";

/// Pulls, if this process is one that is to.
async fn pulled_here() -> bool {
    let Ok(arguments) = std::env::var(PULLING) else {
        return false;
    };
    // What the test's frame has written ends here.
    tokio::io::stdout().write_all(b"\n").await.expect("said");
    let arguments: Vec<String> = arguments.lines().map(str::to_owned).collect();
    pull::run(&arguments).await.expect("it pulls");
    true
}

/// A process that pulls. It is killed at the end of the test.
struct Puller {
    child: Child,
    /// A line lets it go on.
    stdin: ChildStdin,
}

impl Puller {
    async fn go_on(&mut self) {
        self.stdin.write_all(b"\n").await.expect("it reads");
    }

    async fn kill(mut self) {
        self.child.kill().await.expect("killed");
    }
}

/// What a process said last, under its number and its life.
type Said = (usize, usize, Option<String>);

/// All processes.
struct Crowd<'a> {
    world: &'a World,
    layout: &'a Path,
    pullers: BTreeMap<usize, Puller>,
    /// How often each was started.
    lives: [usize; PROCESSES],
    tell: mpsc::UnboundedSender<Said>,
    said: mpsc::UnboundedReceiver<Said>,
    tally: Tally,
}

/// What they did.
#[derive(Debug, Default)]
struct Tally {
    /// Downloads that were completed, by layer.
    pulled: BTreeMap<String, usize>,
    /// Downloads that came half-way, by layer.
    half: BTreeMap<String, usize>,
    /// Skips, by reason.
    skipped: BTreeMap<String, usize>,
}

impl<'a> Crowd<'a> {
    fn new(world: &'a World, layout: &'a Path) -> Self {
        let (tell, said) = mpsc::unbounded_channel();
        Self {
            world,
            layout,
            pullers: BTreeMap::new(),
            lives: [0; PROCESSES],
            tell,
            said,
            tally: Tally::default(),
        }
    }

    /// Starts a process, for the first time or again under the same node id.
    fn start(&mut self, number: usize) {
        let arguments = [
            self.world.url.clone(),
            format!("node-{number}"),
            self.world.folder.path().display().to_string(),
            self.layout.display().to_string(),
            "--step".to_owned(),
        ];
        let mut child = Command::new(std::env::current_exe().expect("this program"))
            .args(["--exact", "pulls::each_layer_is_downloaded_once", "--nocapture"])
            .env(PULLING, arguments.join("\n"))
            .stdin(Stdio::piped())
            .stdout(Stdio::piped())
            .kill_on_drop(true)
            .spawn()
            .expect("it starts");
        let stdin = child.stdin.take().expect("piped");
        let mut lines = BufReader::new(child.stdout.take().expect("piped")).lines();
        let life = self.lives.get_mut(number).expect("a process");
        *life += 1;
        let (tell, life) = (self.tell.clone(), *life);
        tokio::spawn(async move {
            while let Ok(Some(line)) = lines.next_line().await {
                let _ = tell.send((number, life, Some(line)));
            }
            let _ = tell.send((number, life, None));
        });
        self.pullers.insert(number, Puller { child, stdin });
    }

    /// The next word of a process that is alive.
    async fn next(&mut self) -> (usize, Option<String>) {
        loop {
            let said = tokio::time::timeout(PATIENCE, self.said.recv()).await;
            let (number, life, line) = said.expect("somebody says something in time").expect("open");
            if self.lives.get(number) == Some(&life) {
                return (number, line);
            }
        }
    }

    async fn go_on(&mut self, number: usize) {
        self.pullers.get_mut(&number).expect("it runs").go_on().await;
    }

    /// Starts all, and lets them begin together.
    async fn begin(&mut self) {
        for number in 0..PROCESSES {
            self.start(number);
        }
        let mut ready = BTreeSet::new();
        while ready.len() < PROCESSES {
            let (number, line) = self.next().await;
            if line.expect("it goes on") == "ready" {
                ready.insert(number);
            }
        }
        for number in ready {
            self.go_on(number).await;
        }
    }

    /// Listens until all have ended well. `killing`: the first that comes half-way with a layer is killed there.
    async fn listen(&mut self, killing: bool) {
        let mut first = true;
        while !self.pullers.is_empty() {
            let (number, line) = self.next().await;
            let Some(line) = line else {
                let mut puller = self.pullers.remove(&number).expect("it ran");
                let status = puller.child.wait().await.expect("it ended");
                assert!(status.success(), "process {number}: {status}");
                continue;
            };
            let (word, rest) = line.split_once(' ').unwrap_or((&line, ""));
            match word {
                // One that was started again.
                "ready" => self.go_on(number).await,
                "half" => {
                    if std::mem::take(&mut first) {
                        // All others wait for it, so that they decide after their grants.
                        self.world.until_waiting(&key(rest), PROCESSES as u64 - 1).await;
                    }
                    let times = self.tally.half.entry(rest.to_owned()).or_default();
                    *times += 1;
                    if killing && *times == 1 {
                        self.pullers.remove(&number).expect("it runs").kill().await;
                        self.start(number);
                    } else {
                        self.go_on(number).await;
                    }
                }
                "pulled" => *self.tally.pulled.entry(rest.to_owned()).or_default() += 1,
                "skipped" => {
                    let (_, why) = rest.split_once(' ').expect("a reason");
                    let why = why.split(['(', ':']).next().unwrap_or_default();
                    *self.tally.skipped.entry(why.to_owned()).or_default() += 1;
                }
                _ => {}
            }
        }
    }
}

/// The layers are there, whole, counted for every process, and nothing else is.
async fn check_result(world: &World, layers: &[Digest]) {
    let node = world.node("looks-on");
    let all: BTreeSet<String> = (0..PROCESSES).map(|number| format!("node-{number}")).collect();
    for layer in layers {
        let bytes = fs::read(node.path(&layer.to_string())).expect("visible");
        assert_eq!(Digest::of(&bytes), *layer, "whole");
        let nodes: BTreeSet<String> = nodes(&node, &layer.to_string()).await.into_iter().collect();
        assert_eq!(nodes, all, "who refers to {layer}");
    }
    let blobs = crate::world::entries(&world.folder.path().join("blobs"));
    assert_eq!(blobs.len(), layers.len());
    world.check_no_partial();
    let left = world.client().await.list("layer/").await.expect("answered");
    assert!(
        left.iter()
            .all(|lock| lock.holders.is_empty() && lock.waiters.is_empty()),
        "{left:?}"
    );
}

/// Plays one story: what they did.
async fn play(killing: bool) -> Tally {
    let mut random = Random::new("layers");
    let world = World::new().await;
    let source = tempfile::tempdir().expect("a folder");
    let layers = write_image(source.path(), LAYERS, &mut random);
    let mut crowd = Crowd::new(&world, source.path());
    crowd.begin().await;
    crowd.listen(killing).await;
    let tally = crowd.tally;
    check_result(&world, &layers).await;
    let once: BTreeMap<String, usize> = layers.iter().map(|layer| (layer.to_string(), 1)).collect();
    assert_eq!(
        tally.pulled, once,
        "left: completed downloads, right: one of each layer"
    );
    tally
}

/// Goal: 16 processes, 20 layers: 20 completed downloads, and 300 skips or outcomes handed over.
#[tokio::test(flavor = "multi_thread")]
async fn each_layer_is_downloaded_once() {
    if pulled_here().await {
        return;
    }
    let tally = play(false).await;
    assert!(tally.half.values().all(|times| *times == 1), "{tally:?}");
    assert_eq!(
        tally.skipped.values().sum::<usize>(),
        (PROCESSES - 1) * LAYERS,
        "{:?}",
        tally.skipped
    );
    // All but one waited for the first layer.
    let decided_again = tally.skipped.get("ReferencedMeanwhile").copied().unwrap_or_default();
    assert!(decided_again >= PROCESSES - 1, "{:?}", tally.skipped);
}

/// Goal: the same with a process killed in the middle of each layer, and started again: its place is taken at once, its
/// half is thrown away, and still each layer is completed once.
#[tokio::test(flavor = "multi_thread")]
async fn killed_in_the_middle_of_each_layer() {
    let tally = play(true).await;
    assert_eq!(tally.half.len(), LAYERS);
    assert!(
        tally.half.values().all(|times| *times == 2),
        "one killed, one done: {:?}",
        tally.half
    );
}
