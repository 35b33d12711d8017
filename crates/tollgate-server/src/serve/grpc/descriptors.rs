//! What the server says of its services to clients that ask (server reflection): names, numbers and types of what is in
//! [`messages`](super::messages).

use prost_types::field_descriptor_proto::{Label, Type};
use prost_types::{
    DescriptorProto, EnumDescriptorProto, EnumValueDescriptorProto, FieldDescriptorProto,
    FileDescriptorProto, FileDescriptorSet, MethodDescriptorProto, ServiceDescriptorProto,
};

/// The service that Envoy asks.
pub(super) const ENVOY_SERVICE: &str = "envoy.service.ratelimit.v3.RateLimitService";
/// Kuadrant's, which looks first and is charged afterwards.
pub(super) const KUADRANT_SERVICE: &str = "kuadrant.service.ratelimit.v1.RateLimitService";

const REQUEST: &str = ".envoy.service.ratelimit.v3.RateLimitRequest";
const RESPONSE: &str = ".envoy.service.ratelimit.v3.RateLimitResponse";

const UNITS: [&str; 8] = ["UNKNOWN", "SECOND", "MINUTE", "HOUR", "DAY", "MONTH", "YEAR", "WEEK"];

/// All files, each behind those that it needs.
pub(super) fn descriptors() -> FileDescriptorSet {
    let duration =
        message("Duration", vec![field(1, "seconds", Type::Int64), field(2, "nanos", Type::Int32)]);
    let wrappers = [
        ("Double", Type::Double),
        ("Float", Type::Float),
        ("Int64", Type::Int64),
        ("UInt64", Type::Uint64),
        ("Int32", Type::Int32),
        ("UInt32", Type::Uint32),
        ("Bool", Type::Bool),
        ("String", Type::String),
        ("Bytes", Type::Bytes),
    ];
    let wrapper = |(name, kind)| message(&format!("{name}Value"), vec![field(1, "value", kind)]);
    let header = message("HeaderValue", vec![field(1, "key", Type::String), field(2, "value", Type::String)]);
    let google = |name: &str, messages| file(&format!("google/protobuf/{name}"), "google.protobuf", messages);
    let mut units = file("envoy/type/v3/ratelimit_unit.proto", "envoy.type.v3", Vec::new());
    units.enum_type = vec![enumeration("RateLimitUnit", &UNITS)];
    FileDescriptorSet {
        file: vec![
            google("duration.proto", vec![duration]),
            google("wrappers.proto", wrappers.into_iter().map(wrapper).collect()),
            file("envoy/config/core/v3/base.proto", "envoy.config.core.v3", vec![header]),
            units,
            common(),
            envoy(),
            kuadrant(),
        ],
    }
}

/// What a request says of who asks.
fn common() -> FileDescriptorProto {
    const DESCRIPTOR: &str = ".envoy.extensions.common.ratelimit.v3.RateLimitDescriptor";
    let nested = |name: &str| format!("{DESCRIPTOR}.{name}");
    let entry = message("Entry", vec![field(1, "key", Type::String), field(2, "value", Type::String)]);
    let rate = message(
        "RateLimitOverride",
        vec![
            field(1, "requests_per_unit", Type::Uint32),
            typed(2, "unit", Type::Enum, ".envoy.type.v3.RateLimitUnit"),
        ],
    );
    let mut descriptor = message(
        "RateLimitDescriptor",
        vec![
            repeated(typed(1, "entries", Type::Message, &nested("Entry"))),
            typed(2, "limit", Type::Message, &nested("RateLimitOverride")),
            typed(3, "hits_addend", Type::Message, ".google.protobuf.UInt64Value"),
            field(4, "is_negative_hits", Type::Bool),
        ],
    );
    descriptor.nested_type = vec![entry, rate];
    let path = "envoy/extensions/common/ratelimit/v3/ratelimit.proto";
    let mut file = file(path, "envoy.extensions.common.ratelimit.v3", vec![descriptor]);
    file.dependency =
        vec!["envoy/type/v3/ratelimit_unit.proto".into(), "google/protobuf/wrappers.proto".into()];
    file
}

/// Envoy's request, answer and service.
fn envoy() -> FileDescriptorProto {
    let nested = |name: &str| format!("{RESPONSE}.{name}");
    let request = message(
        "RateLimitRequest",
        vec![
            field(1, "domain", Type::String),
            repeated(typed(
                2,
                "descriptors",
                Type::Message,
                ".envoy.extensions.common.ratelimit.v3.RateLimitDescriptor",
            )),
            field(3, "hits_addend", Type::Uint32),
        ],
    );
    let mut limit = message(
        "RateLimit",
        vec![
            field(1, "requests_per_unit", Type::Uint32),
            typed(2, "unit", Type::Enum, &nested("RateLimit.Unit")),
            field(3, "name", Type::String),
        ],
    );
    limit.enum_type = vec![enumeration("Unit", &UNITS)];
    let status = message(
        "DescriptorStatus",
        vec![
            typed(1, "code", Type::Enum, &nested("Code")),
            typed(2, "current_limit", Type::Message, &nested("RateLimit")),
            field(3, "limit_remaining", Type::Uint32),
            typed(4, "duration_until_reset", Type::Message, ".google.protobuf.Duration"),
        ],
    );
    let mut response = message(
        "RateLimitResponse",
        vec![
            typed(1, "overall_code", Type::Enum, &nested("Code")),
            repeated(typed(2, "statuses", Type::Message, &nested("DescriptorStatus"))),
            repeated(typed(3, "response_headers_to_add", Type::Message, ".envoy.config.core.v3.HeaderValue")),
        ],
    );
    response.nested_type = vec![limit, status];
    response.enum_type = vec![enumeration("Code", &["UNKNOWN", "OK", "OVER_LIMIT"])];
    let mut file =
        file("envoy/service/ratelimit/v3/rls.proto", "envoy.service.ratelimit.v3", vec![request, response]);
    file.dependency = vec![
        "envoy/config/core/v3/base.proto".into(),
        "envoy/extensions/common/ratelimit/v3/ratelimit.proto".into(),
        "google/protobuf/duration.proto".into(),
    ];
    file.service = vec![service(&["ShouldRateLimit"])];
    file
}

fn kuadrant() -> FileDescriptorProto {
    let path = "kuadrant/service/ratelimit/v1/ratelimit.proto";
    let mut file = file(path, "kuadrant.service.ratelimit.v1", Vec::new());
    file.dependency = vec!["envoy/service/ratelimit/v3/rls.proto".into()];
    file.service = vec![service(&["CheckRateLimit", "Report"])];
    file
}

fn file(name: &str, package: &str, messages: Vec<DescriptorProto>) -> FileDescriptorProto {
    FileDescriptorProto {
        name: Some(name.to_owned()),
        package: Some(package.to_owned()),
        message_type: messages,
        syntax: Some("proto3".to_owned()),
        ..FileDescriptorProto::default()
    }
}

fn message(name: &str, fields: Vec<FieldDescriptorProto>) -> DescriptorProto {
    DescriptorProto { name: Some(name.to_owned()), field: fields, ..DescriptorProto::default() }
}

fn field(number: i32, name: &str, kind: Type) -> FieldDescriptorProto {
    FieldDescriptorProto {
        name: Some(name.to_owned()),
        number: Some(number),
        label: Some(Label::Optional.into()),
        r#type: Some(kind.into()),
        ..FieldDescriptorProto::default()
    }
}

fn typed(number: i32, name: &str, kind: Type, of: &str) -> FieldDescriptorProto {
    FieldDescriptorProto { type_name: Some(of.to_owned()), ..field(number, name, kind) }
}

fn repeated(field: FieldDescriptorProto) -> FieldDescriptorProto {
    FieldDescriptorProto { label: Some(Label::Repeated.into()), ..field }
}

/// An enumeration whose values are numbered in this order.
fn enumeration(name: &str, values: &[&str]) -> EnumDescriptorProto {
    let value = |(number, name): (i32, &&str)| EnumValueDescriptorProto {
        name: Some((*name).to_owned()),
        number: Some(number),
        ..EnumValueDescriptorProto::default()
    };
    EnumDescriptorProto {
        name: Some(name.to_owned()),
        value: (0..).zip(values).map(value).collect(),
        ..EnumDescriptorProto::default()
    }
}

/// A service whose methods all take the same and answer the same.
fn service(methods: &[&str]) -> ServiceDescriptorProto {
    let method = |name: &&str| MethodDescriptorProto {
        name: Some((*name).to_owned()),
        input_type: Some(REQUEST.to_owned()),
        output_type: Some(RESPONSE.to_owned()),
        ..MethodDescriptorProto::default()
    };
    ServiceDescriptorProto {
        name: Some("RateLimitService".to_owned()),
        method: methods.iter().map(method).collect(),
        ..ServiceDescriptorProto::default()
    }
}
