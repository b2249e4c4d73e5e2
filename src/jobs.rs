//! What worker processes do.

use crate::chat;
use crate::worker::{Handler, Topic};

/// Does a job; see [`crate::worker`].
pub const HANDLER: Handler = |topic, job| match topic {
    Topic::Template => chat::work_on_template(job),
    Topic::Constraint => Vec::new(),
};
