//! Metadata values. Scalars are copied out; arrays (a vocabulary is megabytes) stay in the file and are read in place.

use super::GgufError;
use super::cursor::Cursor;
use std::ops::Range;

/// One metadata value.
#[derive(Debug, Clone, PartialEq)]
#[expect(missing_docs, reason = "the variants are the value types of the format")]
pub enum Value {
    Unsigned(u64),
    Signed(i64),
    Float(f64),
    Bool(bool),
    String(String),
    Array(Array),
}

/// An array that stays in the file: `len` elements in `range` (bytes from the start of the file).
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Array {
    /// The type of the elements.
    pub element: ElementType,
    /// The number of elements.
    pub len: usize,
    range: Range<usize>,
}

/// The type numbers of metadata values.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
#[expect(missing_docs, reason = "the variants are the value types of the format")]
pub enum ElementType {
    U8,
    I8,
    U16,
    I16,
    U32,
    I32,
    F32,
    Bool,
    String,
    Array,
    U64,
    I64,
    F64,
}

impl Value {
    /// A non-negative whole number.
    #[must_use]
    pub fn as_u64(&self) -> Option<u64> {
        match *self {
            Self::Unsigned(n) => Some(n),
            Self::Signed(n) => u64::try_from(n).ok(),
            _ => None,
        }
    }

    /// Any number.
    #[must_use]
    #[expect(clippy::cast_precision_loss, reason = "metadata numbers are small")]
    pub fn as_f64(&self) -> Option<f64> {
        match *self {
            Self::Unsigned(n) => Some(n as f64),
            Self::Signed(n) => Some(n as f64),
            Self::Float(x) => Some(x),
            _ => None,
        }
    }

    /// A boolean.
    #[must_use]
    pub fn as_bool(&self) -> Option<bool> {
        if let Self::Bool(b) = self { Some(*b) } else { None }
    }

    /// A string.
    #[must_use]
    pub fn as_str(&self) -> Option<&str> {
        if let Self::String(s) = self { Some(s) } else { None }
    }

    /// An array.
    #[must_use]
    pub fn as_array(&self) -> Option<&Array> {
        if let Self::Array(a) = self { Some(a) } else { None }
    }

    /// A short description of the value, for errors and listings.
    #[must_use]
    pub fn describe(&self) -> String {
        match self {
            Self::Unsigned(n) => n.to_string(),
            Self::Signed(n) => n.to_string(),
            Self::Float(x) => x.to_string(),
            Self::Bool(b) => b.to_string(),
            Self::String(s) if s.chars().count() > 60 => {
                format!("{:?}… ({} bytes)", s.chars().take(57).collect::<String>(), s.len())
            }
            Self::String(s) => format!("{s:?}"),
            Self::Array(a) => format!("[{:?}; {}]", a.element, a.len),
        }
    }
}

impl Array {
    /// The strings of an array of strings, as bytes: a vocabulary holds pieces of UTF-8 characters.
    /// Empty for any other element type. `file` is the file this array was read from.
    pub fn strings<'a>(&self, file: &'a [u8]) -> impl Iterator<Item = &'a [u8]> + use<'a> {
        let is_strings = self.element == ElementType::String;
        let bytes = file.get(self.range.clone()).filter(|_| is_strings).unwrap_or_default();
        let mut cursor = Cursor::new(bytes);
        std::iter::from_fn(move || cursor.string("string", u64::MAX).ok())
    }

    /// The elements as numbers; empty when they are not numbers.
    pub fn numbers<'a>(&self, file: &'a [u8]) -> impl Iterator<Item = f64> + use<'a> {
        let element = self.element;
        let bytes = file.get(self.range.clone()).unwrap_or_default();
        let size = element.bytes().filter(|_| element != ElementType::Bool).unwrap_or(usize::MAX);
        bytes.chunks_exact(size).filter_map(move |b| scalar(element, b)?.as_f64())
    }

    /// The elements as booleans; empty when they are not booleans.
    pub fn bools<'a>(&self, file: &'a [u8]) -> impl Iterator<Item = bool> + use<'a> {
        let is_bools = self.element == ElementType::Bool;
        let bytes = file.get(self.range.clone()).filter(|_| is_bools).unwrap_or_default();
        bytes.iter().map(|&b| b != 0)
    }
}

impl ElementType {
    fn from_id(id: u32) -> Option<Self> {
        use ElementType as E;
        const BY_ID: [ElementType; 13] = [
            E::U8,
            E::I8,
            E::U16,
            E::I16,
            E::U32,
            E::I32,
            E::F32,
            E::Bool,
            E::String,
            E::Array,
            E::U64,
            E::I64,
            E::F64,
        ];
        BY_ID.get(usize::try_from(id).ok()?).copied()
    }

    /// Bytes of one element, `None` for strings and arrays.
    fn bytes(self) -> Option<usize> {
        match self {
            Self::U8 | Self::I8 | Self::Bool => Some(1),
            Self::U16 | Self::I16 => Some(2),
            Self::U32 | Self::I32 | Self::F32 => Some(4),
            Self::U64 | Self::I64 | Self::F64 => Some(8),
            Self::String | Self::Array => None,
        }
    }
}

/// Reads one value: its type number, then the value.
pub(super) fn read(
    cursor: &mut Cursor<'_>,
    key: &str,
    string_bytes_max: u64,
) -> Result<Value, GgufError> {
    let what = format!("metadata `{key}`");
    let element = read_type(cursor, &what)?;
    match element {
        ElementType::String => {
            let bytes = cursor.string(&what, string_bytes_max)?;
            Ok(Value::String(String::from_utf8_lossy(bytes).into_owned()))
        }
        ElementType::Array => Ok(Value::Array(read_array(cursor, &what)?)),
        _ => {
            let bytes = cursor.take(element.bytes().unwrap_or(0) as u64, &what)?;
            let place = cursor.offset().saturating_sub(bytes.len());
            scalar(element, bytes).ok_or_else(|| GgufError::Value {
                what,
                offset: place,
                found: format!("{bytes:02x?}"),
                expected: "a number or a boolean".to_owned(),
            })
        }
    }
}

fn read_type(cursor: &mut Cursor<'_>, what: &str) -> Result<ElementType, GgufError> {
    let offset = cursor.offset();
    let id = cursor.u32(what)?;
    ElementType::from_id(id).ok_or_else(|| GgufError::Value {
        what: format!("value type of {what}"),
        offset,
        found: id.to_string(),
        expected: "0 to 12".to_owned(),
    })
}

fn read_array(cursor: &mut Cursor<'_>, what: &str) -> Result<Array, GgufError> {
    let type_offset = cursor.offset();
    let element = read_type(cursor, what)?;
    let count = cursor.u64(what)?;
    let start = cursor.offset();
    match element {
        ElementType::Array => {
            // No model uses them, and nesting would let a small file ask for a deep stack.
            return Err(GgufError::Value {
                what: what.to_owned(),
                offset: type_offset,
                found: "an array of arrays".to_owned(),
                expected: "an array of numbers, booleans or strings".to_owned(),
            });
        }
        ElementType::String => {
            // Each string takes at least its 8-byte length field, so a count that the file cannot hold fails here and
            // not after that many iterations.
            let needed = count.saturating_mul(8);
            if needed > cursor.rest().len() as u64 {
                cursor.take(needed, what)?;
            }
            for _ in 0..count {
                cursor.string(what, u64::MAX)?;
            }
        }
        _ => {
            let bytes = count.saturating_mul(element.bytes().unwrap_or(0) as u64);
            cursor.range(bytes, what)?;
        }
    }
    // The count is bounded by the bytes in the file, so it fits a usize.
    let len = usize::try_from(count).unwrap_or(usize::MAX);
    Ok(Array { element, len, range: start..cursor.offset() })
}

/// Decodes one little-endian number or boolean; `None` for other types.
fn scalar(element: ElementType, bytes: &[u8]) -> Option<Value> {
    fn le<const N: usize>(bytes: &[u8]) -> Option<[u8; N]> {
        bytes.try_into().ok()
    }
    Some(match element {
        ElementType::U8 => Value::Unsigned(u64::from(u8::from_le_bytes(le(bytes)?))),
        ElementType::I8 => Value::Signed(i64::from(i8::from_le_bytes(le(bytes)?))),
        ElementType::U16 => Value::Unsigned(u64::from(u16::from_le_bytes(le(bytes)?))),
        ElementType::I16 => Value::Signed(i64::from(i16::from_le_bytes(le(bytes)?))),
        ElementType::U32 => Value::Unsigned(u64::from(u32::from_le_bytes(le(bytes)?))),
        ElementType::I32 => Value::Signed(i64::from(i32::from_le_bytes(le(bytes)?))),
        ElementType::F32 => Value::Float(f64::from(f32::from_le_bytes(le(bytes)?))),
        ElementType::U64 => Value::Unsigned(u64::from_le_bytes(le(bytes)?)),
        ElementType::I64 => Value::Signed(i64::from_le_bytes(le(bytes)?)),
        ElementType::F64 => Value::Float(f64::from_le_bytes(le(bytes)?)),
        // Any non-zero byte is true, as in the reference and in arrays.
        ElementType::Bool => Value::Bool(*bytes.first()? != 0),
        ElementType::String | ElementType::Array => return None,
    })
}
