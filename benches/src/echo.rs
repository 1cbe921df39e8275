//! A bare gRPC service: what the stack itself costs on this machine, with messages of the same sizes.

use std::io::Write as _;
use std::sync::Arc;
use std::sync::atomic::{AtomicU64, Ordering};
use std::time::{Duration, Instant};

use tokio::net::TcpListener;
use tokio::process::Command;
use tokio::sync::mpsc;
use tokio::task::JoinSet;
use tokio_stream::wrappers::{ReceiverStream, TcpListenerStream};
use tokio_stream::{Once, StreamExt as _};
use tonic::transport::{Channel, Endpoint};
use tonic::{Request, Response, Status, Streaming};

use crate::process::Server;
use crate::report::Results;

#[expect(
    unused_qualifications,
    clippy::allow_attributes,
    clippy::allow_attributes_without_reason,
    reason = "generated"
)]
mod v1 {
    tonic::include_proto!("echo.v1");
}

use v1::echo_service_client::EchoServiceClient;
use v1::echo_service_server::{EchoService, EchoServiceServer};
use v1::{EchoRequest, EchoResponse};

/// Between two calls of the idle round trip.
const IDLE: Duration = Duration::from_millis(30);

struct Echo;

fn response(request: &EchoRequest) -> EchoResponse {
    let id = request.id;
    EchoResponse {
        id,
        ticket: id | 1 << 50,
        token: id | 1 << 50,
        lowest: id | 1 << 50,
    }
}

#[tonic::async_trait]
impl EchoService for Echo {
    type OnceStream = Once<Result<EchoResponse, Status>>;
    type BothStream = std::pin::Pin<Box<dyn tokio_stream::Stream<Item = Result<EchoResponse, Status>> + Send>>;

    async fn unary(&self, request: Request<EchoRequest>) -> Result<Response<EchoResponse>, Status> {
        Ok(Response::new(response(request.get_ref())))
    }

    async fn once(&self, request: Request<EchoRequest>) -> Result<Response<Self::OnceStream>, Status> {
        Ok(Response::new(tokio_stream::once(Ok(response(request.get_ref())))))
    }

    async fn both(&self, request: Request<Streaming<EchoRequest>>) -> Result<Response<Self::BothStream>, Status> {
        let answers = request
            .into_inner()
            .map(|message| message.map(|message| response(&message)));
        Ok(Response::new(Box::pin(answers)))
    }
}

/// Serves until the process is ended.
pub async fn serve() -> anyhow::Result<()> {
    let listener = TcpListener::bind("127.0.0.1:0").await?;
    writeln!(std::io::stdout(), "{}", listener.local_addr()?)?;
    let incoming = TcpListenerStream::new(listener).map(|stream| {
        let stream = stream?;
        stream.set_nodelay(true)?;
        Ok::<_, std::io::Error>(stream)
    });
    let server = tonic::transport::Server::builder().add_service(EchoServiceServer::new(Echo));
    Ok(server.serve_with_incoming(incoming).await?)
}

/// One round.
pub async fn measure(span: Duration, results: &mut Results) -> anyhow::Result<()> {
    let mut command = Command::new(std::env::current_exe()?);
    let (server, address) = Server::start_and_read(command.arg("echo")).await?;
    let mut channels = Vec::new();
    for _ in 0..4 {
        let endpoint = Endpoint::from_shared(format!("http://{address}"))?.tcp_nodelay(true);
        channels.push(endpoint.connect().await?);
    }
    let before = server.cpu()?;
    let (rate, count) = calls(&channels, 64, span, false).await?;
    let used = server.cpu()? - before;
    results.add("echo unary/s", rate);
    results.add("echo cpu us/unary", used.as_secs_f64() * 1e6 / count);
    results.add("echo one-message streams/s", calls(&channels, 64, span, true).await?.0);
    for in_flight in [1, 64, 1024] {
        let name = format!("echo bidi/s, {in_flight} in flight");
        results.add(
            &name,
            both(channels.get(..1).unwrap_or_default(), in_flight, span).await?,
        );
    }
    results.add(
        "echo bidi/s, 64 in flight, 4 connections",
        both(&channels, 64, span).await?,
    );
    results.add("echo idle RTT us", idle(&channels, span).await?);
    server.end().await
}

fn request(id: u64) -> EchoRequest {
    EchoRequest {
        id,
        key: format!("bench/own/{}", id % 64),
        owner: "uid0@host/bench-1".to_owned(),
        request_id: vec![7; 16],
    }
}

/// So many callers, each with one call at a time; calls a second, and calls.
async fn calls(channels: &[Channel], callers: usize, span: Duration, streams: bool) -> anyhow::Result<(f64, f64)> {
    let count = Arc::new(AtomicU64::new(0));
    let began = Instant::now();
    let mut tasks = JoinSet::new();
    for (caller, channel) in (0..callers).zip(channels.iter().cycle()) {
        let (mut client, count) = (EchoServiceClient::new(channel.clone()), Arc::clone(&count));
        tasks.spawn(async move {
            while began.elapsed() < span {
                if streams {
                    let mut answers = client.once(request(caller as u64)).await?.into_inner();
                    while answers.message().await?.is_some() {}
                } else {
                    client.unary(request(caller as u64)).await?;
                }
                count.fetch_add(1, Ordering::Relaxed);
            }
            Ok::<_, Status>(())
        });
    }
    while let Some(done) = tasks.join_next().await {
        done??;
    }
    let calls = count.load(Ordering::Relaxed) as f64;
    Ok((calls / began.elapsed().as_secs_f64(), calls))
}

/// One bidirectional stream per connection, with so many messages in flight in all; messages a second.
async fn both(channels: &[Channel], in_flight: usize, span: Duration) -> anyhow::Result<f64> {
    let began = Instant::now();
    let mut tasks = JoinSet::new();
    for channel in channels {
        let mut client = EchoServiceClient::new(channel.clone());
        let window = (in_flight / channels.len()).max(1);
        tasks.spawn(async move {
            let (sender, receiver) = mpsc::channel(window);
            for id in 0..window {
                sender.try_send(request(id as u64))?;
            }
            let mut answers = client.both(ReceiverStream::new(receiver)).await?.into_inner();
            let mut count = 0_u64;
            while let Some(answer) = answers.message().await? {
                count += 1;
                if began.elapsed() >= span {
                    break;
                }
                sender.send(request(answer.id)).await?;
            }
            Ok::<_, anyhow::Error>(count)
        });
    }
    let mut count = 0;
    while let Some(done) = tasks.join_next().await {
        count += done??;
    }
    Ok(count as f64 / began.elapsed().as_secs_f64())
}

/// The median of one call every 30 ms, in microseconds.
async fn idle(channels: &[Channel], span: Duration) -> anyhow::Result<f64> {
    let channel = channels.first().cloned();
    let mut client = EchoServiceClient::new(channel.ok_or_else(|| anyhow::anyhow!("no connection"))?);
    let mut seen = Vec::new();
    let began = Instant::now();
    while began.elapsed() < span {
        tokio::time::sleep(IDLE).await;
        let sent = Instant::now();
        client.unary(request(1)).await?;
        seen.push(sent.elapsed());
    }
    seen.sort_unstable();
    let median = seen.get(seen.len() / 2).copied().unwrap_or_default();
    Ok(median.as_secs_f64() * 1e6)
}
