//! Deleting and renaming: one record each.

use super::{FileClient, done};
use crate::error::Result;
use crate::name::FileName;
use crate::operation::OperationId;
use crate::record::Operation;
use crate::state::Finished;

impl FileClient {
    /// Deletes a file.
    ///
    /// # Errors
    /// [`Error::Refused`](crate::error::Error::Refused) if there is none of that name;
    /// [`Error::Unknown`](crate::error::Error::Unknown) if nobody could say what became of it: ask again with the same id.
    pub fn delete(&self, id: OperationId, name: &FileName) -> Result<Finished> {
        done(self.operate(&Operation::Delete { id, name: name.clone() })?)
    }

    /// Gives a file another name; one that has it already goes only if it is to be replaced.
    ///
    /// # Errors
    /// [`Error::Refused`](crate::error::Error::Refused) if there is no such file, or one in its way;
    /// [`Error::Unknown`](crate::error::Error::Unknown) if nobody could say what became of it: ask again with the same id.
    pub fn rename(&self, id: OperationId, from: &FileName, to: &FileName, replace: bool) -> Result<Finished> {
        done(self.operate(&Operation::Rename { id, from: from.clone(), to: to.clone(), replace })?)
    }
}
