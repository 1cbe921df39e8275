//! The way to Azurite: the client of the `object_store` crate, over plain HTTP.

use std::sync::Arc;

use async_trait::async_trait;
use http_body_util::BodyExt as _;
use hyper_util::client::legacy::Client;
use hyper_util::client::legacy::connect::HttpConnector as Connector;
use hyper_util::rt::TokioExecutor;
use object_store::azure::{AzureAccessKey, AzureAuthorizer, AzureCredential, MicrosoftAzureBuilder};
use object_store::client::{
    HttpClient, HttpConnector, HttpError, HttpErrorKind, HttpRequest, HttpRequestBody, HttpResponse, HttpResponseBody,
    HttpService,
};
use object_store::{ClientOptions, ObjectStore};

/// The only account.
pub const ACCOUNT: &str = "tests";
/// Its key, in base64; it guards nothing.
pub const KEY: &str = "dGlja2V0bG9jaw==";

const CONTAINER: &str = "fenced";

/// Without TLS.
#[derive(Clone, Debug)]
struct Plain(Client<Connector, HttpRequestBody>);

impl Plain {
    fn new() -> Self {
        Self(Client::builder(TokioExecutor::new()).build_http())
    }
}

#[async_trait]
impl HttpService for Plain {
    async fn call(&self, request: HttpRequest) -> Result<HttpResponse, HttpError> {
        let response = self.0.request(request).await;
        let response = response.map_err(|error| HttpError::new(HttpErrorKind::Request, error))?;
        Ok(response
            .map(|body| HttpResponseBody::new(body.map_err(|error| HttpError::new(HttpErrorKind::Interrupted, error)))))
    }
}

impl HttpConnector for Plain {
    fn connect(&self, _options: &ClientOptions) -> object_store::Result<HttpClient> {
        Ok(HttpClient::new(self.clone()))
    }
}

/// Makes the container; the crate itself has no call for that.
pub async fn make_container(address: &str) {
    let mut request = http::Request::builder()
        .method("PUT")
        .uri(format!("{address}/{ACCOUNT}/{CONTAINER}?restype=container"))
        .header("content-length", "0")
        .body(HttpRequestBody::empty())
        .expect("a request");
    let credential = AzureCredential::AccessKey(AzureAccessKey::try_new(KEY).expect("base64"));
    AzureAuthorizer::new(&credential, ACCOUNT)
        .try_authorize(&mut request)
        .expect("signed");
    let response = Plain::new().call(request).await.expect("answered");
    assert_eq!(response.status(), 201, "{response:?}");
}

/// The objects of the container.
pub fn store(address: &str) -> Arc<dyn ObjectStore> {
    let store = MicrosoftAzureBuilder::new()
        .with_endpoint(format!("{address}/{ACCOUNT}"))
        .with_allow_http(true)
        .with_account(ACCOUNT)
        .with_access_key(KEY)
        .with_container_name(CONTAINER)
        .with_http_connector(Plain::new())
        .build();
    Arc::new(store.expect("a store"))
}
