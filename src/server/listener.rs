//! One listener: its socket, its HTTP server and the settings that a relay of long streams needs.

use std::io;
use std::net::{SocketAddr, TcpListener};
use std::rc::Rc;
use std::sync::Arc;
use std::time::Duration;

use actix_http::{KeepAlive, Request, ServiceConfigBuilder};
use actix_service::IntoServiceFactory;
use actix_web::dev::{AppConfig, Server, ServiceFactory, fn_factory, fn_service};
use actix_web::{App, web};
use socket2::{Domain, Protocol, Socket, TcpKeepalive, Type};
use tokio::net::TcpStream;
use tracing_actix_web::TracingLogger;

use super::edge::Door;
use super::{connection, serve};
use crate::telemetry::RootSpan;

const TCP_KEEP_ALIVE: Duration = Duration::from_secs(30);
const BACKLOG: i32 = 1024;
/// What has to end when `drain` is over gets this long to say so.
const CUT: Duration = Duration::from_secs(2);
/// The kernel gives a reader up later than demuxai does, which knows what to count it as. Its clock begins earlier, too:
/// when its own buffers are still being filled.
#[cfg(target_os = "linux")]
const KERNEL_MARGIN: Duration = Duration::from_secs(5);

/// Opens the socket. Accepted connections inherit its options: a peer that vanished is noticed, and one that takes
/// nothing for a while longer than `stalled_reader` is dropped by the kernel.
///
/// # Errors
/// When the address is in use or not ours.
pub fn bind(address: SocketAddr, stalled_reader: Duration) -> io::Result<TcpListener> {
    let socket = Socket::new(Domain::for_address(address), Type::STREAM, Some(Protocol::TCP))?;
    socket.set_reuse_address(true)?;
    if address.is_ipv6() {
        socket.set_only_v6(false)?;
    }
    socket.set_tcp_keepalive(&TcpKeepalive::new().with_time(TCP_KEEP_ALIVE).with_interval(TCP_KEEP_ALIVE))?;
    #[cfg(target_os = "linux")]
    socket.set_tcp_user_timeout(Some(stalled_reader + stalled_reader / 4 + KERNEL_MARGIN))?;
    #[cfg(not(target_os = "linux"))]
    let _ = stalled_reader;
    socket.set_nonblocking(true)?;
    socket.bind(&address.into())?;
    socket.listen(BACKLOG)?;
    Ok(socket.into())
}

/// Builds the HTTP server on this socket. Signals are handled by the application.
///
/// # Errors
/// When the socket cannot be listened on.
pub fn server(socket: TcpListener, door: Arc<Door>) -> io::Result<Server> {
    let bound = Arc::clone(&door.place().bound);
    let workers = bound.workers;
    // The server library counts whole seconds, and cuts.
    let drain = (bound.drain + CUT).as_millis().div_ceil(1000).try_into().unwrap_or(u64::MAX);
    let closing = Arc::clone(&door.place().closing);
    let data = web::Data::from(door);
    // Once for each worker.
    let service = move || {
        let (data, closing) = (data.clone(), Arc::clone(&closing));
        fn_factory(move || {
            let (data, closing) = (data.clone(), Arc::clone(&closing));
            async move {
                let app = App::new()
                    .app_data(data)
                    .wrap(TracingLogger::<RootSpan>::new())
                    .default_service(web::to(serve));
                let app: Rc<_> =
                    ServiceFactory::<Request>::new_service(&app.into_factory(), AppConfig::default())
                        .await?
                        .into();
                let config = ServiceConfigBuilder::new()
                    .keep_alive(KeepAlive::Timeout(connection::KEEP_ALIVE))
                    .build();
                Ok::<_, ()>(fn_service(move |socket: TcpStream| {
                    let (app, config, closing) = (Rc::clone(&app), config.clone(), Arc::clone(&closing));
                    async move {
                        connection::serve(socket, &*app, config, &closing).await;
                        Ok::<(), ()>(())
                    }
                }))
            }
        })
    };
    let server = Server::build()
        .workers(workers)
        .disable_signals()
        .shutdown_timeout(drain)
        .listen("http", socket, service)?
        .run();
    Ok(server)
}
