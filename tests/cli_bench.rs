//! Goal: the load tool does each of its workloads against a real server, without errors, and says so for programs.

#![expect(clippy::expect_used, clippy::indexing_slicing, reason = "tests")]

#[expect(dead_code, reason = "other test files need more of it")]
mod cli_server;

use cli_server::Server;
use serde_json::Value;

/// Runs a workload for a moment; returns what it printed.
fn bench(server: &Server, arguments: &[&str]) -> Value {
    let settings = ["bench", "-o", "json", "--duration", "200ms", "--workers", "8"];
    let output = server.run(&[&settings, arguments].concat());
    let text = String::from_utf8_lossy(&output.stdout).into_owned();
    assert!(
        output.status.success(),
        "{arguments:?}: {text}{}",
        String::from_utf8_lossy(&output.stderr)
    );
    serde_json::from_str(&text).expect("one object")
}

#[test]
fn every_workload_runs_over_both_transports() {
    let server = Server::start();
    for workload in ["pairs", "hot", "handoff", "waiters", "mixed"] {
        for transport in [&[workload][..], &[workload, "--plain"]] {
            let report = bench(&server, transport);
            assert_eq!(report["errors"], 0, "{report}");
            let phases = report["phases"].as_array().expect("phases");
            assert!(phases.iter().all(|phase| phase["count"].as_u64() > Some(0)), "{report}");
        }
    }
    let report = bench(&server, &["pairs", "--rate", "500"]);
    let rate = report["phases"][0]["per_second"].as_f64().expect("a rate");
    assert!((50.0..=550.0).contains(&rate), "at most what was asked for: {report}");
}
