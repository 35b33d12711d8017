//! A client of gRPC that knows nothing of the server but what it says of itself by server reflection: requests and answers are
//! JSON, by the names that it tells.

#![allow(dead_code, reason = "each test file uses a part")]
#![allow(clippy::unwrap_used, reason = "a test that cannot go on fails")]

use std::collections::HashSet;

use prost_reflect::prost::Message;
use prost_reflect::prost_types::FileDescriptorProto;
use prost_reflect::{DescriptorPool, DynamicMessage, MessageDescriptor, MethodDescriptor};
use serde_json::Value;
use tonic::codec::{Codec, DecodeBuf, Decoder, EncodeBuf, Encoder};
use tonic::transport::{Channel, Endpoint};
use tonic::{Request, Status};
use tonic_reflection::pb::v1::server_reflection_client::ServerReflectionClient;
use tonic_reflection::pb::v1::server_reflection_request::MessageRequest;
use tonic_reflection::pb::v1::server_reflection_response::MessageResponse;
use tonic_reflection::pb::v1::{ServerReflectionRequest, ServiceResponse};

pub(crate) const ENVOY: &str = "envoy.service.ratelimit.v3.RateLimitService";
pub(crate) const KUADRANT: &str = "kuadrant.service.ratelimit.v1.RateLimitService";

pub(crate) struct Client {
    pub(crate) channel: Channel,
    pool: DescriptorPool,
}

impl Client {
    pub(crate) async fn connect(url: &str) -> Self {
        Self::over(Endpoint::from_shared(url.to_owned()).unwrap().connect().await.unwrap()).await
    }

    pub(crate) async fn over(channel: Channel) -> Self {
        let mut pool = DescriptorPool::new();
        let mut files = Vec::new();
        let mut known = HashSet::new();
        let mut wanted: Vec<MessageRequest> =
            [ENVOY, KUADRANT].map(|name| MessageRequest::FileContainingSymbol(name.to_owned())).into();
        while let Some(request) = wanted.pop() {
            let MessageResponse::FileDescriptorResponse(found) = reflect(&channel, request).await else {
                panic!("no file");
            };
            for file in found.file_descriptor_proto {
                let file = FileDescriptorProto::decode(&*file).unwrap();
                if known.insert(file.name().to_owned()) {
                    wanted.extend(file.dependency.iter().cloned().map(MessageRequest::FileByFilename));
                    files.push(file);
                }
            }
        }
        pool.add_file_descriptor_protos(files).unwrap();
        Self { channel, pool }
    }

    pub(crate) fn method(&self, service: &str, name: &str) -> MethodDescriptor {
        let service = self.pool.get_service_by_name(service).unwrap();
        service.methods().find(|method| method.name() == name).unwrap()
    }

    pub(crate) async fn call(&self, service: &str, method: &str, request: &Value) -> Result<Value, Status> {
        let method = self.method(service, method);
        let message = DynamicMessage::deserialize(method.input(), request).unwrap();
        self.send(&method, message).await
    }

    pub(crate) async fn send(
        &self,
        method: &MethodDescriptor,
        message: DynamicMessage,
    ) -> Result<Value, Status> {
        self.send_request(method, Request::new(message)).await
    }

    /// The same with metadata.
    pub(crate) async fn send_request(
        &self,
        method: &MethodDescriptor,
        request: Request<DynamicMessage>,
    ) -> Result<Value, Status> {
        let mut client = tonic::client::Grpc::new(self.channel.clone());
        client.ready().await.unwrap();
        let path = format!("/{}/{}", method.parent_service().full_name(), method.name());
        let answer = client.unary(request, path.parse().unwrap(), Dynamic(method.output())).await?;
        Ok(serde_json::to_value(answer.into_inner()).unwrap())
    }

    /// Asks as Envoy does.
    pub(crate) async fn ask(&self, request: &Value) -> Result<Value, Status> {
        self.call(ENVOY, "ShouldRateLimit", request).await
    }
}

/// Asks the server what it is.
pub(crate) async fn reflect(channel: &Channel, request: MessageRequest) -> MessageResponse {
    let request = ServerReflectionRequest { host: String::new(), message_request: Some(request) };
    let requests = tonic::codegen::tokio_stream::once(request);
    let mut client = ServerReflectionClient::new(channel.clone());
    let mut answers = client.server_reflection_info(requests).await.unwrap().into_inner();
    answers.message().await.unwrap().unwrap().message_response.unwrap()
}

/// The names of its services.
pub(crate) async fn services(channel: &Channel) -> Vec<String> {
    match reflect(channel, MessageRequest::ListServices(String::new())).await {
        MessageResponse::ListServicesResponse(list) => {
            list.service.into_iter().map(|ServiceResponse { name }| name).collect()
        }
        other => panic!("{other:?}"),
    }
}

/// Messages of any kind; those that come are of this one.
#[derive(Clone)]
pub(crate) struct Dynamic(pub(crate) MessageDescriptor);

impl Codec for Dynamic {
    type Encode = DynamicMessage;
    type Decode = DynamicMessage;
    type Encoder = Self;
    type Decoder = Self;

    fn encoder(&mut self) -> Self {
        self.clone()
    }

    fn decoder(&mut self) -> Self {
        self.clone()
    }
}

impl Encoder for Dynamic {
    type Item = DynamicMessage;
    type Error = Status;

    fn encode(&mut self, message: DynamicMessage, buffer: &mut EncodeBuf<'_>) -> Result<(), Status> {
        message.encode(buffer).map_err(|error| Status::internal(error.to_string()))
    }
}

impl Decoder for Dynamic {
    type Item = DynamicMessage;
    type Error = Status;

    fn decode(&mut self, buffer: &mut DecodeBuf<'_>) -> Result<Option<DynamicMessage>, Status> {
        let decoded = DynamicMessage::decode(self.0.clone(), buffer);
        decoded.map(Some).map_err(|error| Status::internal(error.to_string()))
    }
}

/// A stream of one message that is still to come.
pub(crate) struct Later(std::pin::Pin<Box<dyn Future<Output = DynamicMessage> + Send>>, bool);

impl Later {
    pub(crate) fn new(message: impl Future<Output = DynamicMessage> + Send + 'static) -> Self {
        Self(Box::pin(message), false)
    }
}

impl tonic::codegen::tokio_stream::Stream for Later {
    type Item = DynamicMessage;

    fn poll_next(
        mut self: std::pin::Pin<&mut Self>,
        context: &mut std::task::Context<'_>,
    ) -> std::task::Poll<Option<DynamicMessage>> {
        if self.1 {
            return std::task::Poll::Ready(None);
        }
        let message = std::task::ready!(self.0.as_mut().poll(context));
        self.1 = true;
        std::task::Poll::Ready(Some(message))
    }
}
