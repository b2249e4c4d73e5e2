//! What all filters, methods and functions refuse: texts that are too long, and operations that Python has not.

use minijinja::{Error, ErrorKind, Value};

/// Longest text that a filter or method makes.
pub(super) const TEXT_BYTES_MAX: usize = 16 << 20;
/// An operation that Python would not do.
pub(super) fn invalid(message: impl Into<std::borrow::Cow<'static, str>>) -> Error {
    Error::new(ErrorKind::InvalidOperation, message)
}

/// Refuses to make a text of so many bytes, if that is too long.
pub(super) fn bounded(bytes: usize) -> Result<(), Error> {
    if bytes <= TEXT_BYTES_MAX {
        return Ok(());
    }
    Err(invalid(format!("a text of {bytes} bytes, expected at most {TEXT_BYTES_MAX}")))
}

/// Whether it is what `namespace()` gives; the type has no public name.
pub(super) fn is_namespace(value: &Value) -> bool {
    value.as_object().is_some_and(|object| object.type_name().ends_with("Namespace"))
}
