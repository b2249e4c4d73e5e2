//! Limits for all filters, methods and functions: text length, and operations that Python lacks.

use minijinja::{Error, ErrorKind, Value};

/// Longest text that a filter or method may produce.
pub(super) const TEXT_BYTES_MAX: usize = 16 << 20;
/// The error for an operation that Python would reject.
pub(super) fn invalid(message: impl Into<std::borrow::Cow<'static, str>>) -> Error {
    Error::new(ErrorKind::InvalidOperation, message)
}

/// Rejects a text of `bytes` bytes if that is too long.
pub(super) fn bounded(bytes: usize) -> Result<(), Error> {
    if bytes <= TEXT_BYTES_MAX {
        return Ok(());
    }
    Err(invalid(format!("found a string of {bytes} bytes, expected at most {TEXT_BYTES_MAX}")))
}

/// Whether it comes from `namespace()`; the type has no public name.
pub(super) fn is_namespace(value: &Value) -> bool {
    value.as_object().is_some_and(|object| object.type_name().ends_with("Namespace"))
}
