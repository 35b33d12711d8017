//! Charging for what has been spent already.

use tollgate_core::{Combine, Decision, Group, Hit, Outcome, Sharing};
use tollgate_store::{Store, StoreError};

/// How often what is left of a limit is looked for.
const CHARGES_MAX: usize = 4;

/// Charges a hit that nobody can deny any more: in full, or else as far as there is anything left. The outcome says whether it was
/// there in full, what was taken, and what is left.
///
/// By itself: if several were charged in one call they would deny each other, or would have to be shadows, which a store that is
/// away lets pass without a word.
pub(crate) async fn charge<S: Store>(
    store: &S,
    sharing: Sharing,
    shadow: bool,
    hit: &Hit<'_>,
) -> Result<Outcome, StoreError> {
    let ask = async |hit: Hit<'_>| {
        let group = Group { hits: &[hit], combine: Combine::All, shadow, sharing };
        let answer = store.acquire(&[group]).await?;
        let nothing = || StoreError::Unavailable("the store gave no answer".to_owned());
        answer.outcomes.first().copied().ok_or_else(nothing)
    };
    let mut charged = ask(*hit).await?;
    let Decision { allowed, retry_after, .. } = charged.decision;
    // Others may be quicker, so this may need more than one try.
    for _ in 0..CHARGES_MAX {
        let left = u32::try_from(charged.decision.remaining).unwrap_or(u32::MAX).min(hit.cost);
        if charged.decision.allowed || charged.grant.is_some() || left == 0 {
            break;
        }
        charged = ask(hit.with_cost(left)).await?;
    }
    charged.decision = Decision { allowed, retry_after, ..charged.decision };
    Ok(charged)
}
