//! The TCP port for readers: HTTP on a few threads of its own.

use std::io;
use std::net::TcpListener;
use std::sync::Arc;
use std::thread::{self, JoinHandle};

use axum::Router;
use axum::routing::get;
use tokio::sync::oneshot;

use super::reads::{self, Reads};

/// A port that is open until this is dropped.
#[derive(Debug)]
pub(super) struct Port {
    stop: Option<oneshot::Sender<()>>,
    thread: Option<JoinHandle<()>>,
}

impl Port {
    /// Serves readers at this listener.
    pub(super) fn open(listener: TcpListener, reads: Reads) -> io::Result<Port> {
        listener.set_nonblocking(true)?;
        let runtime = tokio::runtime::Builder::new_current_thread()
            .enable_all()
            .max_blocking_threads(reads::READS_MAX)
            .build()?;
        let listener = {
            let _entered = runtime.enter();
            tokio::net::TcpListener::from_std(listener)?
        };
        let routes = Router::new()
            .route("/v1/node", get(reads::node))
            .route("/v1/state", get(reads::state))
            .route("/v1/files", get(reads::files))
            .route("/v1/file", get(reads::file))
            .route("/v1/operation", get(reads::operation))
            .route("/v1/content", get(reads::content))
            .with_state(Arc::new(reads));
        let (stop, stopped) = oneshot::channel::<()>();
        let serve = move || {
            runtime.block_on(async {
                tokio::select! {
                    // It goes on for ever: errors of single connections are its own.
                    _ = axum::serve(listener, routes) => {}
                    // Asked, or the port was dropped.
                    _ = stopped => {}
                }
            });
            // Whoever reads at the end is cut off, and asks another node.
            runtime.shutdown_background();
        };
        let thread = thread::Builder::new().name("readers".to_owned()).spawn(serve)?;
        Ok(Port { stop: Some(stop), thread: Some(thread) })
    }
}

impl Drop for Port {
    fn drop(&mut self) {
        drop(self.stop.take());
        if let Some(thread) = self.thread.take() {
            // Its panic has ended the process.
            let _ = thread.join();
        }
    }
}
