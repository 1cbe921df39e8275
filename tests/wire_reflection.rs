//! Reflection and health, as tools ask for them.

#[expect(dead_code, reason = "other test files need more of it")]
mod support;

use prost::Message as _;
use support::{TestServer, start_server};
use ticketlock::config::ServerConfig;
use tonic_health::pb::health_check_response::ServingStatus;
use tonic_reflection::pb::v1::ServerReflectionRequest;
use tonic_reflection::pb::v1::server_reflection_client::ServerReflectionClient;
use tonic_reflection::pb::v1::server_reflection_request::MessageRequest;
use tonic_reflection::pb::v1::server_reflection_response::MessageResponse;
use tonic_reflection::pb::v1alpha;

/// The answer to one question.
async fn ask(server: &TestServer, question: MessageRequest) -> MessageResponse {
    let mut client = ServerReflectionClient::new(server.channel().await);
    let request = ServerReflectionRequest {
        host: String::new(),
        message_request: Some(question),
    };
    let mut answers = client
        .server_reflection_info(tokio_stream::once(request))
        .await
        .expect("open")
        .into_inner();
    answers
        .message()
        .await
        .expect("no error")
        .and_then(|answer| answer.message_response)
        .expect("an answer")
}

/// Goal: every service is listed.
#[tokio::test]
async fn lists_every_service() {
    let server = start_server(ServerConfig::default()).await;
    let answer = ask(&server, MessageRequest::ListServices(String::new())).await;
    let MessageResponse::ListServicesResponse(services) = answer else {
        panic!("a list, not {answer:?}")
    };
    let names: Vec<String> = services.service.into_iter().map(|service| service.name).collect();
    for name in [
        "ticketlock.v1.LockService",
        "ticketlock.v1.AdminService",
        "grpc.health.v1.Health",
    ] {
        assert!(names.iter().any(|listed| listed == name), "{name} in {names:?}");
    }
}

/// Goal: a type that the API imports is resolved, so that a tool can print a `ttl`.
#[tokio::test]
async fn resolves_duration() {
    let server = start_server(ServerConfig::default()).await;
    let question = MessageRequest::FileContainingSymbol("google.protobuf.Duration".into());
    let answer = ask(&server, question).await;
    let MessageResponse::FileDescriptorResponse(files) = answer else {
        panic!("files, not {answer:?}")
    };
    let bytes = files.file_descriptor_proto.first().expect("a file");
    let file = prost_types::FileDescriptorProto::decode(bytes.as_slice()).expect("a descriptor");
    assert_eq!(file.package(), "google.protobuf");
    assert!(file.message_type.iter().any(|message| message.name() == "Duration"));
}

/// Goal: older tools, which know v1alpha only, are answered as well.
#[tokio::test]
async fn answers_v1alpha() {
    use v1alpha::server_reflection_client::ServerReflectionClient as Client;
    use v1alpha::server_reflection_request::MessageRequest as Question;
    let server = start_server(ServerConfig::default()).await;
    let mut client = Client::new(server.channel().await);
    let message_request = Some(Question::FileContainingSymbol("ticketlock.v1.LockRequest".into()));
    let request = v1alpha::ServerReflectionRequest {
        host: String::new(),
        message_request,
    };
    let mut answers = client
        .server_reflection_info(tokio_stream::once(request))
        .await
        .expect("open")
        .into_inner();
    assert!(
        answers
            .message()
            .await
            .expect("no error")
            .is_some_and(|answer| answer.message_response.is_some())
    );
}

/// Goal: the health service knows the server and each of its services.
#[tokio::test]
async fn health_serves() {
    let server = start_server(ServerConfig::default()).await;
    let mut client = tonic_health::pb::health_client::HealthClient::new(server.channel().await);
    for name in ["", "ticketlock.v1.LockService", "ticketlock.v1.AdminService"] {
        let request = tonic_health::pb::HealthCheckRequest { service: name.into() };
        let serving = async {
            loop {
                match client.check(request.clone()).await {
                    Ok(answer) if answer.get_ref().status() == ServingStatus::Serving => break,
                    _ => tokio::task::yield_now().await,
                }
            }
        };
        tokio::time::timeout(support::PATIENCE, serving).await.expect(name);
    }
}
