//! The four uses: scheduling, a shared resource, election, synchronisation.

use std::collections::BTreeMap;
use std::fs;

use rustix::process::Signal;
use ticketlock_client::Outcome;

use crate::stage::Stage;

/// Two nodes with the same schedule: each run is done by one of them.
#[tokio::test(flavor = "multi_thread")]
async fn each_run_of_a_schedule_is_done_by_one_node() {
    let stage = Stage::new().await;
    let mut nodes = [(); 2].map(|()| stage.start("task_scheduler", &["1000", "3"]));
    let mut done: BTreeMap<String, usize> = BTreeMap::new();
    for node in &mut nodes {
        let lines = node.rest().await;
        assert_eq!(lines.len(), 3, "{lines:?}");
        for line in lines {
            let (run, what) = line.split_once(": ").expect("a run");
            let count = done.entry(run.to_owned()).or_default();
            match what.starts_with("done here") {
                true => *count += 1,
                false => assert_eq!(what, "another node has it"),
            }
        }
        assert!(node.ended().await.success());
    }
    assert!(done.values().all(|count| *count == 1), "{done:?}");
    assert!(done.len() >= 3, "{done:?}");
}

/// Three processes count up in one file, and no count is lost; whoever comes with an old token is refused.
#[tokio::test(flavor = "multi_thread")]
async fn a_shared_resource_loses_nothing_and_refuses_old_tokens() {
    let stage = Stage::new().await;
    let folder = tempfile::tempdir().expect("a folder");
    let file = folder.path().join("counter");
    let path = file.to_str().expect("utf-8");
    let mut processes = [(); 3].map(|()| stage.start("shared_resource", &[path, "20"]));
    for process in &mut processes {
        assert_eq!(process.rest().await.len(), 20);
        assert!(process.ended().await.success());
    }
    let text = fs::read_to_string(&file).expect("written");
    assert!(text.starts_with("60 "), "{text}");

    let newest = format!("60 {}\n", u64::MAX);
    fs::write(&file, &newest).expect("written");
    let refused = stage.run("shared_resource", &[path, "1"]).await;
    let told = String::from_utf8_lossy(&refused.stderr);
    assert!(told.contains(&format!("is older than {}", u64::MAX)), "{told}");
    assert_eq!(refused.status.code(), Some(1));
    assert_eq!(fs::read_to_string(&file).expect("there"), newest);
    // Its guard was dropped by the error.
    stage.until("files/counter", |lock| lock.holders.is_empty()).await;
}

/// Of three candidates the first leads and the others know it; each resignation lets the next one lead.
#[tokio::test(flavor = "multi_thread")]
async fn leaders_follow_each_other() {
    let stage = Stage::new().await;
    let key = "leaders/example";
    let mut ann = stage.start("leader_election", &["ann", "60000"]);
    ann.until("elected").await;
    let mut bob = stage.start("leader_election", &["bob", "60000"]);
    stage.until(key, |lock| lock.waiters.len() == 1).await;
    let mut eve = stage.start("leader_election", &["eve", "60000"]);
    stage.until(key, |lock| lock.waiters.len() == 2).await;
    bob.until("ann leads").await;
    eve.until("ann leads").await;

    ann.signal(Signal::TERM);
    assert!(ann.rest().await.ends_with(&["resigned".to_owned()]));
    assert!(ann.ended().await.success());
    bob.until("elected").await;
    eve.until("bob leads").await;

    bob.signal(Signal::INT);
    assert!(bob.rest().await.ends_with(&["resigned".to_owned()]));
    assert!(bob.ended().await.success());
    eve.until("elected").await;
    drop(eve);
}

/// Three processes that stood in line together: one copies, two see that it is done. One that comes later copies anew.
#[tokio::test(flavor = "multi_thread")]
async fn data_is_synchronised_once() {
    let stage = Stage::new().await;
    let folder = tempfile::tempdir().expect("a folder");
    let path = |name: &str| folder.path().join(name).to_str().expect("utf-8").to_owned();
    let (source, copy) = (path("source"), path("copy"));
    fs::write(&source, "what is to be copied").expect("written");
    let args = [source.as_str(), copy.as_str()];

    let before = stage.client.lock("sync/copy").await.expect("free");
    let mut processes = [(); 3].map(|()| stage.start("data_sync", &args));
    stage.until("sync/copy", |lock| lock.waiters.len() == 3).await;
    before.unlock(Outcome::failure("tried")).await.expect("answered");
    let mut told = Vec::new();
    for process in &mut processes {
        told.extend(process.rest().await);
        assert!(process.ended().await.success());
    }
    told.sort();
    assert_eq!(
        told,
        ["copied 20 bytes", "done already: 20 bytes", "done already: 20 bytes"]
    );
    assert_eq!(fs::read_to_string(&copy).expect("copied"), "what is to be copied");
    assert_eq!(
        fs::read_dir(folder.path()).expect("a folder").count(),
        2,
        "nothing unfinished"
    );

    fs::write(&source, "newer").expect("written");
    let later = stage.run("data_sync", &args).await;
    assert_eq!(String::from_utf8_lossy(&later.stdout), "copied 5 bytes\n");
    let nothing = stage.run("data_sync", &[&path("absent"), &copy]).await;
    assert_eq!(nothing.status.code(), Some(1));
    assert!(
        String::from_utf8_lossy(&nothing.stderr).contains("absent: "),
        "{nothing:?}"
    );
    assert_eq!(fs::read_to_string(&copy).expect("kept"), "newer");
}
