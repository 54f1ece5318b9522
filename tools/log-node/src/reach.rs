//! How a command reaches the cluster: the settings of a client, put together.

use std::time::Duration;

use annals::transport::{Credentials, TlsFiles};

use crate::cli::Reach;
use crate::error::{Error, Result};
use crate::settings::required;

/// Where the cluster is, and who asks.
#[derive(Clone, Debug)]
pub(crate) struct Target {
    pub(crate) endpoints: Vec<String>,
    pub(crate) files: TlsFiles,
    pub(crate) deadline: Duration,
}

impl Reach {
    /// The settings of the flags and the file, all that is needed.
    pub(crate) fn target(&self) -> Result<Target> {
        let settings = self.settings.clone().with_file(self.config.as_deref())?;
        let endpoints = required(settings.endpoints, "endpoints").map_err(|error| match &self.config {
            // Whoever gives nothing at all is helped best by the name of the file that `dev` has made.
            None => Error::NoCluster,
            Some(_) => error,
        })?;
        if endpoints.is_empty() {
            return Err(Error::MissingSetting { name: "endpoints" });
        }
        let files = TlsFiles {
            ca: required(settings.ca, "ca")?,
            cert: required(settings.cert, "cert")?,
            key: required(settings.key, "key")?,
        };
        let deadline = settings.deadline.map_or(Duration::from_secs(10), |span| span.0);
        Ok(Target { endpoints, files, deadline })
    }
}

impl Target {
    /// The certificates, read.
    pub(crate) fn credentials(&self) -> Result<Credentials> {
        Ok(Credentials::load(&self.files)?)
    }
}
