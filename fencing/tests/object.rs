//! Goal: objects refuse older tokens, on a real server whose preconditions hold; and a store without them is found out.

#![expect(clippy::expect_used, reason = "tests")]

#[expect(dead_code, reason = "other test files need more of it")]
mod servers;

use std::fmt;
use std::sync::Arc;

use async_trait::async_trait;
use futures_util::stream::BoxStream;
use object_store::memory::InMemory;
use object_store::path::Path;
use object_store::{
    CopyOptions, Error as StoreError, GetOptions, GetResult, ListResult, MultipartUpload, ObjectMeta, ObjectStore,
    ObjectStoreExt as _, PutMode, PutMultipartOptions, PutOptions, PutPayload, PutResult,
};
use servers::{Azurite, azure};
use ticketlock_fencing::object::{FencedObject, RECORD_LENGTH, check_store};
use ticketlock_fencing::{Error, Fence};
use tokio::task::JoinSet;

const RIVALS: u64 = 16;
const ROUNDS: usize = 20;

fn exclusive(token: u64) -> Fence {
    Fence::exclusive(token).expect("valid")
}

async fn azurite() -> (Azurite, Arc<dyn ObjectStore>) {
    let server = Azurite::start();
    azure::make_container(&server.address).await;
    let store = azure::store(&server.address);
    (server, store)
}

/// How many of the rivals' writes were accepted; all others lost by their condition.
async fn accepted(store: &Arc<dyn ObjectStore>, path: &Path, mode: &PutMode) -> usize {
    let mut rivals = JoinSet::new();
    for rival in 0..RIVALS {
        let (store, path, mode) = (Arc::clone(store), path.clone(), mode.clone());
        rivals.spawn(async move {
            let content = PutPayload::from(format!("of rival {rival}"));
            store.put_opts(&path, content, mode.into()).await
        });
    }
    let results = rivals.join_all().await;
    for lost in results.iter().filter_map(|result| result.as_ref().err()) {
        let by_condition = matches!(lost, StoreError::Precondition { .. } | StoreError::AlreadyExists { .. });
        assert!(by_condition, "{lost}");
    }
    results.iter().filter(|result| result.is_ok()).count()
}

/// Goal: the server is fit for the other tests: of conditional writes at the same time exactly one is accepted.
#[tokio::test(flavor = "multi_thread")]
async fn the_server_compares_and_writes_in_one_step() {
    let (_server, store) = azurite().await;
    let path = Path::from("raced");
    for round in 0..ROUNDS {
        assert_eq!(
            accepted(&store, &path, &PutMode::Create).await,
            1,
            "creations, round {round}"
        );
        for change in 0..3 {
            let meta = store.head(&path).await.expect("there");
            let seen = PutMode::Update(object_store::UpdateVersion {
                e_tag: meta.e_tag,
                version: meta.version,
            });
            assert_eq!(
                accepted(&store, &path, &seen).await,
                1,
                "updates, round {round}.{change}"
            );
        }
        store.delete(&path).await.expect("removed");
    }
    check_store(store.as_ref(), &Path::from("scratch"))
        .await
        .expect("it knows preconditions");
    assert!(
        store.head(&Path::from("scratch")).await.is_err(),
        "nothing is left behind"
    );
}

/// Goal: the adapter keeps its promises on that server.
#[tokio::test(flavor = "multi_thread")]
async fn objects_refuse_older_tokens() {
    let (_server, store) = azurite().await;
    the_newest_of_many_writers_wins(&store).await;
    a_read_shows_the_fence(&store).await;
    shared_holders_write_beside_each_other(&store).await;
    a_foreign_object_is_left_alone(&store).await;
}

/// Goal: of holders that all write at once the newest wins, in whatever order their requests arrive.
async fn the_newest_of_many_writers_wins(store: &Arc<dyn ObjectStore>) {
    for round in 0..ROUNDS {
        let object = FencedObject::new(Arc::clone(store), Path::from(format!("many/{round}")));
        let mut writers = JoinSet::new();
        for token in 1..=RIVALS {
            let object = object.clone();
            writers.spawn(async move { object.write(exclusive(token), token.to_string().into()).await });
        }
        for written in writers.join_all().await {
            assert!(matches!(written, Ok(()) | Err(Error::Stale { .. })), "{written:?}");
        }
        let content = object.read(exclusive(RIVALS)).await.expect("the newest");
        assert_eq!(content, RIVALS.to_string(), "round {round}");
    }
}

/// Goal: what a holder reads cannot be changed any more by an older one, also where there was nothing to read.
async fn a_read_shows_the_fence(store: &Arc<dyn ObjectStore>) {
    let path = Path::from("read");
    let object = FencedObject::new(Arc::clone(store), path.clone());
    assert_eq!(object.read(exclusive(3)).await.expect("first"), "");
    check_refused(object.write(exclusive(2), "late".into()).await, 3, 2);
    object.write(exclusive(3), "three".into()).await.expect("again");
    assert_eq!(object.read(exclusive(5)).await.expect("newer"), "three");
    check_refused(object.write(exclusive(4), "late".into()).await, 5, 4);
    check_refused(object.read(exclusive(4)).await.map(drop), 5, 4);
    let bytes = store.get(&path).await.expect("there").bytes().await.expect("read");
    assert_eq!(bytes.slice(usize::try_from(RECORD_LENGTH).expect("small")..), "three");
}

/// Goal: holders whose tokens are valid together write beside each other, until a later one comes.
async fn shared_holders_write_beside_each_other(store: &Arc<dyn ObjectStore>) {
    let object = FencedObject::new(Arc::clone(store), Path::from("shared"));
    // The first has unlocked by the time of the third's grant.
    let [first, second, third] =
        [(5, 5), (6, 5), (7, 6)].map(|(token, lowest)| Fence::new(token, lowest).expect("valid"));
    for fence in [second, first, third, second] {
        object
            .write(fence, fence.token().to_string().into())
            .await
            .expect("valid");
    }
    check_refused(object.write(first, "late".into()).await, 6, 5);
    object.read(exclusive(8)).await.expect("newer");
    check_refused(object.write(second, "late".into()).await, 8, 6);
}

/// Goal: an object that was not written through the fence is neither overwritten nor taken for one that was.
async fn a_foreign_object_is_left_alone(store: &Arc<dyn ObjectStore>) {
    let path = Path::from("foreign");
    let content = "somebody's, and longer than a record is, so that it could hold one";
    store.put(&path, content.into()).await.expect("put");
    let object = FencedObject::new(Arc::clone(store), path.clone());
    let refused = object.write(exclusive(9), "mine".into()).await.expect_err("no record");
    assert!(
        matches!(&refused, Error::NoRecord { resource } if resource == "foreign"),
        "{refused}"
    );
    assert!(matches!(object.read(exclusive(9)).await, Err(Error::NoRecord { .. })));
    let kept = store.get(&path).await.expect("there").bytes().await.expect("read");
    assert_eq!(kept, content);
}

/// Goal: a store that accepts conditions without looking at them is told apart from one that does.
#[tokio::test]
async fn a_store_without_preconditions_is_found_out() {
    check_store(&InMemory::new(), &Path::from("scratch"))
        .await
        .expect("it knows preconditions");
    let deaf = Deaf(InMemory::new());
    let found = check_store(&deaf, &Path::from("scratch"))
        .await
        .expect_err("it ignores them");
    assert!(matches!(found, Error::NoPreconditions { .. }), "{found}");
}

#[track_caller]
fn check_refused(result: Result<(), Error>, seen: u64, given: u64) {
    let expected = Error::Stale { seen, given }.to_string();
    assert_eq!(result.expect_err("older").to_string(), expected);
}

/// A store that overwrites whatever it is told about versions, as some servers do.
#[derive(Debug)]
struct Deaf(InMemory);

impl fmt::Display for Deaf {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str("deaf")
    }
}

#[async_trait]
impl ObjectStore for Deaf {
    async fn put_opts(&self, path: &Path, bytes: PutPayload, _: PutOptions) -> object_store::Result<PutResult> {
        self.0.put_opts(path, bytes, PutMode::Overwrite.into()).await
    }

    async fn put_multipart_opts(
        &self,
        path: &Path,
        options: PutMultipartOptions,
    ) -> object_store::Result<Box<dyn MultipartUpload>> {
        self.0.put_multipart_opts(path, options).await
    }

    async fn get_opts(&self, path: &Path, options: GetOptions) -> object_store::Result<GetResult> {
        self.0.get_opts(path, options).await
    }

    fn delete_stream(
        &self,
        paths: BoxStream<'static, object_store::Result<Path>>,
    ) -> BoxStream<'static, object_store::Result<Path>> {
        self.0.delete_stream(paths)
    }

    fn list(&self, prefix: Option<&Path>) -> BoxStream<'static, object_store::Result<ObjectMeta>> {
        self.0.list(prefix)
    }

    async fn list_with_delimiter(&self, prefix: Option<&Path>) -> object_store::Result<ListResult> {
        self.0.list_with_delimiter(prefix).await
    }

    async fn copy_opts(&self, from: &Path, to: &Path, options: CopyOptions) -> object_store::Result<()> {
        self.0.copy_opts(from, to, options).await
    }
}
