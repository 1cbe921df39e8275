//! Counts as a service of their own: the contract over the wire, nodes that use it, what it refuses, what it is not.

use std::net::SocketAddr;
use std::sync::Arc;

use ticketlock_content::refcount::{
    Ended, MemoryStorage, NODE_ID_BYTES_MAX, Operation, REFERENCES_MAX, RESOURCE_ID_BYTES_MAX, RefCountManager,
    RefCountStorage, ReferenceCount, StorageError, contract,
};
use ticketlock_content::service::v1::ref_count_service_client::RefCountServiceClient;
use ticketlock_content::service::v1::{
    DeleteRefCountRequest, GetRefCountRequest, GetRefCountResponse, SetRefCountRequest,
};
use ticketlock_content::service::{self, RemoteStorage};
use ticketlock_content::{FileStorage, Node, Skipped};
use tokio::sync::oneshot;
use tokio::task::JoinHandle;
use tonic::codegen::http::uri::PathAndQuery;
use tonic::transport::{Channel, Endpoint};
use tonic::{Code, Status};
use tonic_reflection::pb::v1::ServerReflectionRequest;
use tonic_reflection::pb::v1::server_reflection_client::ServerReflectionClient;
use tonic_reflection::pb::v1::server_reflection_request::MessageRequest;
use tonic_reflection::pb::v1::server_reflection_response::MessageResponse;

use crate::world::{PATIENCE, World, entries, key, layer, listen, nodes, write};

/// A service of counts; it ends with the test's runtime.
async fn counts(storage: impl RefCountStorage + 'static) -> String {
    let (listener, address) = listen().await;
    tokio::spawn(service::serve(storage, listener, std::future::pending()));
    url(address)
}

fn url(address: SocketAddr) -> String {
    format!("http://{address}")
}

fn remote(url: &str) -> RemoteStorage {
    RemoteStorage::new(url).expect("a way there")
}

async fn channel(url: &str) -> Channel {
    let endpoint = Endpoint::from_shared(url.to_owned()).expect("an address");
    endpoint.connect().await.expect("connected")
}

/// Runs what blocks beside the test.
async fn blocking<T: Send + 'static>(work: impl FnOnce() -> T + Send + 'static) -> T {
    tokio::task::spawn_blocking(work).await.expect("no panic")
}

/// Goal: a storage over the wire keeps the contract, each handle with a connection of its own, over files.
#[tokio::test(flavor = "multi_thread")]
async fn a_remote_storage_keeps_the_contract() {
    let folder = tempfile::tempdir().expect("a folder");
    let url = counts(FileStorage::open(folder.path()).expect("it opens")).await;
    blocking(move || contract::check_storage(|| remote(&url))).await;
    assert_eq!(entries(folder.path()), ["lock"], "nothing is left behind");
}

/// Goal: a storage works wherever it is called from: a plain thread, a task, a runtime of one thread; it may end there.
#[test]
fn a_remote_storage_works_anywhere() {
    let runtime = || {
        tokio::runtime::Builder::new_current_thread()
            .enable_all()
            .build()
            .expect("a runtime")
    };
    let (told, url) = std::sync::mpsc::channel();
    let (stop, stopped) = oneshot::channel::<()>();
    let serving = std::thread::spawn(move || {
        runtime().block_on(async {
            told.send(counts(MemoryStorage::new()).await).expect("the test waits");
            // Its end is the sign.
            let _ = stopped.await;
        });
    });
    let url = url.recv().expect("it serves");
    let check = |node: &str| {
        let storage = remote(&url);
        let counts = RefCountManager::new(storage.clone());
        counts
            .update_ref_count(Operation::Pull, "r", node, Ended::Success)
            .expect("counted");
        drop(counts);
        assert!(storage.get_ref_count("r").expect("read").contains(node), "{node}");
    };
    check("a thread");
    runtime().block_on(async { check("a task") });
    let storage = runtime().block_on(async { remote(&url) });
    assert_eq!(
        storage.get_ref_count("r").expect("read").count(),
        2,
        "its maker's runtime has ended"
    );
    drop(stop);
    serving.join().expect("no panic");
}

/// Opens a pull beside this test.
fn opening(node: &Node, resource_id: &str) -> JoinHandle<ticketlock_content::Writer> {
    let opening = node.pull(resource_id).open();
    tokio::spawn(async move { opening.await.expect("opened") })
}

/// Goal: two nodes that count at the service pull one layer at once: one download, both counted; a third asks no lock
/// server; who refers to it is told to anybody, and bars a delete until it is the last.
#[tokio::test(flavor = "multi_thread")]
async fn nodes_share_counts_over_the_service() {
    let world = World::new().await;
    let folder = tempfile::tempdir().expect("a folder");
    let url = counts(FileStorage::open(folder.path()).expect("it opens")).await;
    let node = |name: &str| world.builder(name).counts(remote(&url)).open().expect("it opens");
    let (id, bytes) = layer("one");
    let (a, b) = (node("node-a"), node("node-b"));
    let mut first = a.pull(&id).open().await.expect("opened");
    let second = opening(&b, &id);
    world.until_waiting(&key(&id), 1).await;
    write(&mut first, &bytes).await;
    let second = second.await.expect("its turn");
    let why = second.why_skipped();
    assert!(matches!(why, Some(Skipped::ReferencedMeanwhile(_))), "{why:?}");
    assert_eq!(nodes(&a, &id).await, ["node-a", "node-b"]);

    let before = world.asked().await;
    let third = node("node-c").pull(&id).open().await.expect("opened");
    assert!(matches!(third.why_skipped(), Some(Skipped::Referenced(_))), "{third:?}");
    assert_eq!(world.asked().await, before, "left: after the skip, right: before");
    let mut client = RefCountServiceClient::new(channel(&url).await);
    let request = GetRefCountRequest {
        resource_id: id.clone(),
    };
    let told = client.get_ref_count(request).await.expect("answered").into_inner();
    assert_eq!((told.count, told.nodes.join(" ").as_str()), (3, "node-a node-b node-c"));

    assert!(
        !world.folder.path().join("counts").exists(),
        "nothing is counted in the directory"
    );
    b.delete(&id).await.expect_err("others refer to it");
    for node in ["node-b", "node-c"].map(node) {
        node.release(&id).await.expect("released");
    }
    a.delete(&id).await.expect("nobody else refers to it");
    assert!(nodes(&b, &id).await.is_empty());
}

/// Goal: the lock server has no such service: its calls are unknown there, and nothing that it lists speaks of counts.
#[tokio::test(flavor = "multi_thread")]
async fn the_lock_server_knows_no_counts() {
    let world = World::new().await;
    let channel = channel(&world.url).await;
    let mut client = RefCountServiceClient::new(channel.clone());
    let resource_id = "r".to_owned();
    let codes = [
        client
            .get_ref_count(GetRefCountRequest {
                resource_id: resource_id.clone(),
            })
            .await
            .map(drop),
        client
            .set_ref_count(SetRefCountRequest {
                resource_id: resource_id.clone(),
                ..Default::default()
            })
            .await
            .map(drop),
        client
            .delete_ref_count(DeleteRefCountRequest {
                resource_id,
                ..Default::default()
            })
            .await
            .map(drop),
    ];
    for answer in codes {
        assert_eq!(answer.expect_err("unknown").code(), Code::Unimplemented);
    }
    let request = ServerReflectionRequest {
        host: String::new(),
        message_request: Some(MessageRequest::ListServices(String::new())),
    };
    let answers = ServerReflectionClient::new(channel)
        .server_reflection_info(tokio_stream::once(request))
        .await;
    let answer = answers.expect("open").into_inner().message().await.expect("answered");
    let Some(MessageResponse::ListServicesResponse(list)) = answer.and_then(|it| it.message_response) else {
        panic!("no list")
    };
    let names: Vec<String> = list.service.into_iter().map(|it| it.name).collect();
    assert!(names.iter().any(|it| it == "ticketlock.v1.LockService"), "{names:?}");
    assert!(!names.iter().any(|it| it.to_lowercase().contains("count")), "{names:?}");
}

/// Goal: bad input is the caller's error, names the field, its problem and the limit, and reaches no storage.
#[tokio::test(flavor = "multi_thread")]
async fn bad_input_is_named() {
    let storage = Arc::new(MemoryStorage::new());
    let url = counts(Arc::clone(&storage)).await;
    let mut client = RefCountServiceClient::new(channel(&url).await);
    let check = |answer: Result<(), Status>, words: &str| {
        let status = answer.expect_err(words);
        assert_eq!((status.code(), status.message()), (Code::InvalidArgument, words));
    };
    let long = "x".repeat(RESOURCE_ID_BYTES_MAX + 1);
    for (resource_id, length) in [(String::new(), 0), (long, RESOURCE_ID_BYTES_MAX + 1)] {
        let words = format!("resource_id: {length} bytes, expected 1 to 4096");
        let (expected_nodes, new_nodes) = (Vec::new(), vec!["a".to_owned()]);
        let request = GetRefCountRequest {
            resource_id: resource_id.clone(),
        };
        check(client.get_ref_count(request).await.map(drop), &words);
        let request = DeleteRefCountRequest {
            resource_id: resource_id.clone(),
            expected_nodes: Vec::new(),
        };
        check(client.delete_ref_count(request).await.map(drop), &words);
        let request = SetRefCountRequest {
            resource_id,
            expected_nodes,
            new_nodes,
        };
        check(client.set_ref_count(request).await.map(drop), &words);
    }
    let many: Vec<String> = (0..=REFERENCES_MAX).map(|it| it.to_string()).collect();
    let bad = [
        (vec!["a".to_owned(), String::new()], "[1]: 0 bytes, expected 1 to 256"),
        (
            vec!["x".repeat(NODE_ID_BYTES_MAX + 1)],
            "[0]: 257 bytes, expected 1 to 256",
        ),
        (many, ": 10001 nodes, expected at most 10000"),
    ];
    for (list, words) in bad {
        let resource_id = || "r".to_owned();
        let request = SetRefCountRequest {
            resource_id: resource_id(),
            new_nodes: list.clone(),
            ..Default::default()
        };
        check(
            client.set_ref_count(request).await.map(drop),
            &format!("new_nodes{words}"),
        );
        let request = SetRefCountRequest {
            resource_id: resource_id(),
            expected_nodes: list.clone(),
            new_nodes: Vec::new(),
        };
        check(
            client.set_ref_count(request).await.map(drop),
            &format!("expected_nodes{words}"),
        );
        let request = DeleteRefCountRequest {
            resource_id: resource_id(),
            expected_nodes: list,
        };
        check(
            client.delete_ref_count(request).await.map(drop),
            &format!("expected_nodes{words}"),
        );
    }
    assert!(storage.get_ref_count("r").expect("read").is_empty());
    for url in ["", "127.0.0.1:8477", "ftp://127.0.0.1:8477", "http://"] {
        let words = RemoteStorage::new(url).expect_err(url).to_string();
        assert_eq!(words, format!("url: {url:?}, expected http://HOST:PORT"));
    }
}

/// A `GetRefCountRequest` that need not be text.
#[derive(Clone, PartialEq, prost::Message)]
struct Bytes {
    #[prost(bytes = "vec", tag = "1")]
    resource_id: Vec<u8>,
}

/// Goal: a name that is no UTF-8 is the caller's error, too.
#[tokio::test(flavor = "multi_thread")]
async fn names_are_text() {
    let url = counts(MemoryStorage::new()).await;
    let mut client = tonic::client::Grpc::new(channel(&url).await);
    client.ready().await.expect("ready");
    let path = PathAndQuery::from_static("/ticketlock.refcount.v1.RefCountService/GetRefCount");
    let request = tonic::Request::new(Bytes {
        resource_id: vec![0xff],
    });
    let codec = ticketlock_proto::codec::Codec::<Bytes, GetRefCountResponse>::default();
    let status = client.unary(request, path, codec).await.expect_err("no text");
    assert_eq!(status.code(), Code::InvalidArgument);
    assert!(status.message().contains("resource_id"), "{status:?}");
}

/// Goal: the largest record that the limits allow fits, and is changed as a whole.
#[tokio::test(flavor = "multi_thread")]
async fn the_largest_record_fits() {
    let url = counts(MemoryStorage::new()).await;
    blocking(move || {
        let storage = remote(&url);
        let id = "r".repeat(RESOURCE_ID_BYTES_MAX);
        let of = |letter: char| -> ReferenceCount {
            let node = |it| format!("{it:05}{}", letter.to_string().repeat(NODE_ID_BYTES_MAX - 5));
            (0..REFERENCES_MAX).map(node).collect()
        };
        let (first, second) = (of('x'), of('y'));
        storage
            .set_ref_count(&id, &ReferenceCount::new(), &first)
            .expect("created");
        storage.set_ref_count(&id, &first, &second).expect("changed");
        assert_eq!(storage.get_ref_count(&id).expect("read"), second);
    })
    .await;
}

/// Goal: a service that is away, or whose storage is damaged, is an error and never a count; one that comes back is used.
#[tokio::test(flavor = "multi_thread")]
async fn a_service_that_fails_is_told() {
    let folder = tempfile::tempdir().expect("a folder");
    let (listener, address) = listen().await;
    drop(listener);
    let storage = remote(&url(address));
    let read = |storage: &RemoteStorage| {
        let storage = storage.clone();
        blocking(move || storage.get_ref_count("r"))
    };
    let away = read(&storage).await.expect_err("nobody is there");
    assert!(matches!(away, StorageError::Failed { .. }), "{away:?}");
    let words = away.to_string();
    assert!(
        words.contains(&format!("reading a count at {}", url(address))),
        "{words}"
    );

    let listener = tokio::net::TcpListener::bind(address).await.expect("the same port");
    let (stop, stopped) = oneshot::channel::<()>();
    let until = async move {
        // Its end is the sign.
        let _ = stopped.await;
    };
    let files = FileStorage::open(folder.path()).expect("it opens");
    let serving = tokio::spawn(service::serve(files, listener, until));
    assert!(read(&storage).await.expect("it is back").is_empty());
    std::fs::write(folder.path().join("n-r"), "no record").expect("written");
    let damaged = read(&storage).await.expect_err("not a record");
    assert!(matches!(damaged, StorageError::Corrupt { .. }), "{damaged:?}");
    drop(stop);
    let served = tokio::time::timeout(PATIENCE, serving)
        .await
        .expect("it ends in good order");
    served.expect("no panic").expect("served");
}
