//! The service that awc asks for connections: one that waits in the pool, or a new one. It decides nothing else.

use std::rc::Rc;
use std::task::{Context, Poll};

use actix_service::Service;
use actix_tls::connect::{ConnectError, ConnectInfo, Connection};
use futures_util::future::LocalBoxFuture;
use http::Uri;

use super::connect::Target;
use super::guard::Guard;
use super::pool::Pool;

/// The user part that a request's authority carries when it must not reuse a connection. It is never sent.
pub(super) const FRESH: &str = "fresh";

/// Gives awc its connections.
#[derive(Clone)]
pub(super) struct Connector {
    pub(super) target: Rc<Target>,
    pub(super) pool: Rc<Pool>,
}

impl Service<ConnectInfo<Uri>> for Connector {
    type Response = Connection<Uri, Guard>;
    type Error = ConnectError;
    type Future = LocalBoxFuture<'static, Result<Self::Response, Self::Error>>;

    fn poll_ready(&self, _cx: &mut Context<'_>) -> Poll<Result<(), Self::Error>> {
        Poll::Ready(Ok(()))
    }

    fn call(&self, info: ConnectInfo<Uri>) -> Self::Future {
        let Connector { target, pool } = self.clone();
        Box::pin(async move {
            let uri = info.request().clone();
            let may_reuse = !uri.authority().is_some_and(|authority| {
                authority.as_str().strip_prefix(FRESH).is_some_and(|rest| rest.starts_with('@'))
            });
            if may_reuse && let Some(wire) = pool.take() {
                return Ok(Connection::new(uri, Guard::reused(wire, &pool)));
            }
            match target.dial().await {
                Ok(wire) => Ok(Connection::new(uri, Guard::fresh(wire, &pool))),
                Err(failure) => Err(ConnectError::Io(failure.into_io())),
            }
        })
    }
}
