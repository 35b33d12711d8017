//! The layer as middleware for reqwest.

use async_trait::async_trait;
use http::{Extensions, Uri};
use reqwest::{Request, Response};
use reqwest_middleware::{Error, Middleware, Next, Result};
use tollgate_store::Store;

use super::OutgoingLayer;

/// Keeps the requests of a reqwest client under limits, as the layer does for others.
///
/// Add it after middleware that retries, so that each try is counted. Redirects are followed further in: however many there are, the
/// request is counted once, and the last answer is taken for that of the host that was asked first. What `with_extension` gives to a
/// request is there for the key.
///
/// A request that is not sent fails with `reqwest_middleware::Error::Middleware`, and the reason in it is a
/// [`Refused`](super::Refused):
///
/// ```
/// use std::time::Duration;
/// use reqwest_middleware::{ClientBuilder, Error};
/// use tollgate::Quota;
/// use tollgate::outgoing::{Outgoing, OutgoingLayer, Refused};
///
/// # async fn example() -> Result<(), Box<dyn std::error::Error>> {
/// // Ten a second, and nobody waits for more than five.
/// let outgoing = Outgoing::new(Quota::per_second(10), Duration::from_secs(5))?;
/// let client = ClientBuilder::new(reqwest::Client::new()).with(OutgoingLayer::new(outgoing)).build();
/// match client.get("http://api.example.com/").send().await {
///     Ok(answer) => println!("{}", answer.status()),
///     Err(Error::Middleware(why)) => match why.downcast_ref() {
///         Some(Refused::Limited { retry_after }) => println!("not sent, try again in {:?}", retry_after.duration()),
///         _ => println!("not sent: {why}"),
///     },
///     Err(Error::Reqwest(error)) => println!("the client failed: {error}"),
/// }
/// # Ok(())
/// # }
/// ```
#[async_trait]
impl<S: Store + 'static> Middleware for OutgoingLayer<S> {
    async fn handle(
        &self,
        request: Request,
        extensions: &mut Extensions,
        next: Next<'_>,
    ) -> Result<Response> {
        let Ok(uri) = Uri::try_from(request.url().as_str()) else {
            // The client cannot send it either, and says so.
            return next.run(request, extensions).await;
        };
        let key = (self.key)(request.method(), &uri, request.headers(), extensions);
        self.outgoing.admit(&key).await.map_err(Error::middleware)?;
        let answer = next.run(request, extensions).await?;
        self.outgoing.learn(&key, answer.status(), answer.headers());
        Ok(answer)
    }
}
