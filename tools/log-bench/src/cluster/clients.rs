//! The clients of a cluster as the engine of a workload.

use annals::client::{Client, ClientOptions, Target, Ticket};
use annals::protocol::request::Copies;

use crate::drive::Engine;
use crate::error::{Error, Result};

/// Clients, dealt out to the threads that append.
#[derive(Debug)]
pub(crate) struct Clients {
    clients: Vec<Client>,
    copies: Copies,
}

impl Clients {
    /// So many clients, which are connected: no append that is measured waits for a handshake.
    pub(crate) fn connect(options: &ClientOptions, connections: usize, copies: Copies) -> Result<Clients> {
        let connect = |_| options.connect().map_err(Error::cluster("connect to"));
        let clients: Vec<Client> = (0..connections).map(connect).collect::<Result<_>>()?;
        let answers: Vec<_> = clients.iter().map(|client| client.status(Target::Primary)).collect();
        for answer in answers {
            answer.wait().map_err(Error::cluster("connect to"))?;
        }
        Ok(Clients { clients, copies })
    }
}

impl Engine for Clients {
    type Pending = Ticket;

    fn submit(&self, thread: usize, records: &[&[u8]]) -> Result<Ticket> {
        let client = &self.clients[thread % self.clients.len()];
        let appended = match records {
            [record] => client.append_with(record, self.copies),
            batch => client.append_batch_with(batch, self.copies),
        };
        appended.map_err(Error::cluster("append to"))
    }

    fn is_done(&self, ticket: &Ticket) -> bool {
        ticket.is_settled()
    }

    fn wait(&self, ticket: Ticket) -> Result<u64> {
        let receipt = ticket.wait().map_err(Error::cluster("append to"))?;
        Ok(receipt.lsn().get())
    }
}
