#![allow(clippy::indexing_slicing, clippy::arithmetic_side_effects, reason = "tests may panic")]

use super::*;

/// Writes GGUF bytes by hand, so that each attack is one visible field.
struct Writer(Vec<u8>);

impl Writer {
    fn new(tensors: u64, metadata: u64) -> Self {
        let mut w = Self(MAGIC.to_vec());
        w.u32(3).u64(tensors).u64(metadata);
        w
    }
    fn u32(&mut self, n: u32) -> &mut Self {
        self.0.extend(n.to_le_bytes());
        self
    }
    fn u64(&mut self, n: u64) -> &mut Self {
        self.0.extend(n.to_le_bytes());
        self
    }
    fn string(&mut self, s: &str) -> &mut Self {
        self.u64(s.len() as u64);
        self.0.extend(s.as_bytes());
        self
    }
    fn tensor(&mut self, name: &str, dims: &[u64], dtype: u32, offset: u64) -> &mut Self {
        self.string(name).u32(u32::try_from(dims.len()).unwrap());
        for &d in dims {
            self.u64(d);
        }
        self.u32(dtype).u64(offset)
    }
    /// Pads to the data section and appends `bytes` zeros.
    fn data(&mut self, bytes: usize) -> Vec<u8> {
        let start = self.0.len().next_multiple_of(32);
        self.0.resize(start + bytes, 0);
        self.0.clone()
    }
}

fn error(bytes: &[u8]) -> String {
    Gguf::parse(bytes).unwrap_err().to_string()
}

#[test]
fn reads_scalars_arrays_and_tensors_in_place() {
    let mut w = Writer::new(2, 3);
    w.string("general.architecture").u32(8).string("llama");
    w.string("n").u32(4).u32(7);
    w.string("tokens").u32(9).u32(8).u64(2).string("a").string("bc");
    w.tensor("x", &[4, 2], 0, 0).tensor("y", &[32], 8, 32);
    let bytes = w.data(32 + 34);
    let gguf = Gguf::parse(&bytes).unwrap();
    assert_eq!(gguf.get("general.architecture").unwrap().as_str(), Some("llama"));
    assert_eq!(gguf.get("n").unwrap().as_u64(), Some(7));
    let tokens = gguf.get("tokens").unwrap().as_array().unwrap();
    assert_eq!(tokens.strings(&bytes).collect::<Vec<_>>(), [&b"a"[..], b"bc"]);
    assert_eq!(gguf.tensors()[0].range.len(), 32);
    assert_eq!(gguf.tensors()[1].range, bytes.len() - 34..bytes.len());
}

#[test]
fn any_power_of_two_alignment_works_and_a_scalar_is_one_element() {
    for alignment in [1_u32, 2, 4, 8, 64] {
        let mut w = Writer::new(2, 1);
        w.string("general.alignment").u32(4).u32(alignment);
        let second = 4_u64.next_multiple_of(alignment.into());
        w.tensor("scale", &[], 0, 0).tensor("x", &[8], 0, second);
        let start = w.0.len().next_multiple_of(alignment as usize);
        w.0.resize(start + second as usize + 32, 0);
        let gguf = Gguf::parse(&w.0).unwrap();
        assert_eq!(gguf.tensors()[0].dims, [1]);
        assert_eq!(gguf.tensors()[0].range, start..start + 4, "{alignment}");
        assert_eq!(gguf.tensors()[1].range.end, w.0.len(), "{alignment}");
    }
}

#[test]
fn every_truncation_is_an_error() {
    let mut w = Writer::new(1, 1);
    w.string("k").u32(9).u32(8).u64(1).string("abc");
    w.tensor("x", &[32], 8, 0);
    let bytes = w.data(34);
    assert!(Gguf::parse(&bytes).is_ok());
    for end in 0..bytes.len() {
        assert!(Gguf::parse(&bytes[..end]).is_err(), "cut at {end}");
    }
}

#[test]
fn counts_larger_than_the_file_allocate_nothing() {
    assert!(error(&Writer::new(u64::MAX, 0).0).contains("tensor count at offset 8"));
    assert!(error(&Writer::new(0, u64::MAX).0).contains("metadata count at offset 16"));
    let mut w = Writer::new(0, 1);
    w.string("k").u32(9).u32(8).u64(u64::MAX);
    assert!(error(&w.0).contains("metadata `k`"));
    let mut w = Writer::new(0, 1);
    w.string("k").u32(9).u32(4).u64(u64::MAX / 2);
    assert!(error(&w.0).contains("needs 18446744073709551615 bytes"));
    let mut w = Writer::new(0, 1);
    w.u64(u64::MAX);
    assert!(error(&w.0).contains("metadata key 0"));
}

#[test]
fn nested_arrays_are_refused() {
    let mut w = Writer::new(0, 1);
    w.string("k").u32(9).u32(9).u64(1);
    assert!(error(&w.0).contains("array of arrays"));
}

#[test]
fn sizes_that_overflow_are_refused() {
    let mut w = Writer::new(1, 0);
    w.tensor("x", &[1 << 40, 1 << 40], 0, 0);
    assert!(error(&w.data(64)).contains("fewer than 2^63 bytes"));
    let mut w = Writer::new(1, 0);
    w.tensor("x", &[32], 0, u64::MAX - 31);
    assert!(error(&w.data(64)).contains("file has 0 left"));
    let mut w = Writer::new(1, 0);
    w.tensor("x", &[0], 0, 0);
    assert!(error(&w.data(64)).contains("a dimension of 0"));
}

#[test]
fn out_of_bounds_overlapping_misaligned_or_duplicate_tensors_are_refused() {
    let mut w = Writer::new(1, 0);
    w.tensor("x", &[32], 0, 0);
    assert!(error(&w.data(127)).contains("tensor `x`: needs 128 bytes"));
    let mut w = Writer::new(2, 0);
    w.tensor("x", &[32], 0, 0).tensor("y", &[8], 0, 64);
    assert!(error(&w.data(256)).contains("`x` and `y` overlap"));
    let mut w = Writer::new(1, 0);
    w.tensor("x", &[8], 0, 4);
    assert!(error(&w.data(256)).contains("multiple of the alignment 32"));
    let mut w = Writer::new(2, 0);
    w.tensor("x", &[8], 0, 0).tensor("x", &[8], 0, 32);
    assert!(error(&w.data(256)).contains("tensor `x` occurs twice"));
    let mut w = Writer::new(1, 0);
    w.tensor("x", &[33], 8, 0);
    assert!(error(&w.data(256)).contains("multiple of 32 elements"));
}

#[test]
fn unknown_types_versions_and_alignments_are_named() {
    let mut w = Writer::new(1, 0);
    w.tensor("x", &[8], 99, 0);
    assert!(error(&w.data(256)).contains("type number 99"));
    let mut w = Writer::new(1, 0);
    w.tensor("x", &[1; 5], 0, 0);
    assert!(error(&w.0).contains("5 dimensions"));
    for alignment in [0, 3, 1 << 21] {
        let mut w = Writer::new(0, 1);
        w.string("general.alignment").u32(4).u32(alignment);
        assert!(error(&w.0).contains("general.alignment"), "{alignment}");
    }
    let mut bytes = Writer::new(0, 0).0;
    bytes[4] = 1;
    assert!(error(&bytes).contains("GGUF version 1"));
    bytes[4..8].copy_from_slice(&3_u32.to_be_bytes());
    assert!(error(&bytes).contains("big-endian"));
    assert!(error(b"MZ").contains("not a GGUF file"));
}
