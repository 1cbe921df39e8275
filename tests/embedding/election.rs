//! Elections: one leader at a time, in the order of the candidates, known to whoever asks.

use std::time::Duration;

use ticketlock_client::leased::{Election, Leader};

use crate::place::{Place, until};

/// What an observer is told next.
async fn told(observing: &mut ticketlock_client::leased::Observing) -> Option<Leader> {
    let next = tokio::time::timeout(Duration::from_secs(20), observing.next());
    next.await.expect("in time").expect("it goes on").expect("answered")
}

#[tokio::test(flavor = "multi_thread")]
async fn leaders_follow_each_other_in_line_and_are_observed() {
    for place in Place::all().await {
        let looker = place.client("looker").await;
        let election = |owner: &'static str| {
            let place = &place;
            async move { Election::new(place.client(owner).await, "leaders/x").ttl(Duration::from_secs(2)) }
        };
        let (first, second, third) = (election("1").await, election("2").await, election("3").await);
        let mut observing = election("observer").await.observe().await.expect("watched");
        assert_eq!(told(&mut observing).await, None);
        let leading = first.campaign("ann").await.expect("free");
        assert!(leading.is_leader());
        let ann = told(&mut observing).await.expect("a leader");
        assert_eq!((ann.name.as_str(), ann.fencing_token), ("ann", leading.fencing_token()));
        let next = tokio::spawn(async move { second.campaign("bob").await });
        until(&looker, "leaders/x", |lock| lock.waiters.len() == 1).await;
        let last = tokio::spawn(async move { third.campaign("eve").await });
        until(&looker, "leaders/x", |lock| lock.waiters.len() == 2).await;
        leading.resign().await.expect("answered");
        let leading = next.await.expect("no panic").expect("elected");
        let bob = loop {
            match told(&mut observing).await {
                Some(leader) if leader.name != "ann" => break leader,
                _ => {}
            }
        };
        assert_eq!((bob.name.as_str(), bob.fencing_token), ("bob", leading.fencing_token()));
        assert!(bob.fencing_token > ann.fencing_token);
        for (token, is_valid) in [(ann.fencing_token, false), (bob.fencing_token, true)] {
            let check = looker.check_token("leaders/x", token).await.expect("answered");
            assert_eq!(
                (check.is_valid, check.lowest_valid),
                (is_valid, Some(bob.fencing_token))
            );
        }
        // An operator's word ends it, too, and the leader is told.
        let lost = leading.lost();
        looker
            .force_unlock("leaders/x", leading.fencing_token(), "test", "tester")
            .await
            .expect("answered");
        let reason = tokio::time::timeout(Duration::from_secs(20), lost).await.expect("told");
        assert!(reason.to_string().contains("tester"), "{reason}");
        assert!(!leading.is_leader());
        let leading = last.await.expect("no panic").expect("elected");
        assert_eq!(first.leader().await.expect("answered").expect("a leader").name, "eve");
        drop(leading);
        until(&looker, "leaders/x", |lock| lock.holders.is_empty()).await;
        let check = looker
            .check_token("leaders/x", bob.fencing_token)
            .await
            .expect("answered");
        assert_eq!((check.is_valid, check.lowest_valid), (false, None));
    }
}
