//! What worker processes do.

use crate::worker::{Handler, Topic};
use crate::{chat, constraint};

/// Runs a job; see [`crate::worker`].
pub const HANDLER: Handler = |topic, job| match topic {
    Topic::Template => chat::work_on_template(job),
    Topic::Constraint => constraint::work_on_constraint(job),
};
