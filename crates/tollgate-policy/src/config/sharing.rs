//! What policies say of the store that nodes share.

use tollgate_core::quota::parse_length;
use tollgate_core::{Consistency, OnFailure, Sharing};

use super::decode::{Decoder, Fields, shortened};
use super::tree::Node;

/// Takes the settings from a policy.
pub(super) fn sharing(decoder: &mut Decoder, fields: &mut Fields<'_>) -> Sharing {
    let [consistency, failure] = ["consistency", "on_store_failure"].map(|setting| fields.take(setting));
    Sharing {
        consistency: consistency.and_then(|node| {
            let choices = Consistency::ALL.map(|choice| (choice.name(), choice));
            decoder.choice(node, "consistency", &choices)
        }),
        on_failure: failure.and_then(|node| on_failure(decoder, node)),
    }
}

/// `deny`, `local`, or `allow 30s`.
fn on_failure(decoder: &mut Decoder, node: &Node) -> Option<OnFailure> {
    let text = decoder.text(node)?;
    let grace = text.strip_prefix("allow ").and_then(|length| parse_length(length.trim()).ok());
    let choice = match (text, grace) {
        ("deny", _) => Some(OnFailure::Deny),
        ("local", _) => Some(OnFailure::Local),
        (_, Some(grace)) => Some(OnFailure::Allow { grace }),
        _ => None,
    };
    if choice.is_none() {
        decoder.hinted(
            &node.span,
            format!("`{}` is no choice for when the store cannot be asked", shortened(text)),
            "write `local` (by this node's share), `deny`, or `allow` and for how long at most, as in `allow 30s`",
        );
    }
    choice
}
