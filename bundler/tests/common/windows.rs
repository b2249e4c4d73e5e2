//! A small executable for Windows whose headers are as a linker writes them.

/// Where its sections begin.
pub const FIRST_SECTION: usize = 0x400;
/// Where the record of its debug directory begins.
pub const DEBUG_RECORD: usize = 0x610;
/// Where its headers begin.
pub const HEADERS: usize = 0x80;

/// Two sections of 512 bytes, one without data, a debug record and the data it points to, and a symbol table.
pub fn executable() -> Vec<u8> {
    let mut bytes: Vec<u8> = (0..251_u8).cycle().take(0xa00).collect();
    bytes[..FIRST_SECTION].fill(0);
    let mut put = |at: usize, value: &[u8]| bytes[at..at + value.len()].copy_from_slice(value);
    let long = |value: u32| value.to_le_bytes();
    let short = |value: u16| value.to_le_bytes();
    put(0, b"MZ");
    put(0x3c, &long(0x80));
    put(HEADERS, b"PE\0\0");
    put(HEADERS + 4, &short(0x8664));
    put(HEADERS + 6, &short(3)); // sections
    put(HEADERS + 12, &long(0x900)); // symbols
    put(HEADERS + 16, &long(1));
    put(HEADERS + 20, &short(240)); // the optional header's length
    let optional = HEADERS + 24;
    put(optional, &short(0x20b));
    put(optional + 32, &long(0x1000)); // alignment in memory
    put(optional + 36, &long(0x200)); // and in the file
    put(optional + 56, &long(0x4000)); // the image
    put(optional + 60, &long(0x400)); // the headers
    put(optional + 64, &long(0x1234)); // the sum
    put(optional + 108, &long(16)); // directories
    put(optional + 112 + 6 * 8, &long(0x2010)); // debug
    put(optional + 112 + 6 * 8 + 4, &long(28));
    let table = optional + 240;
    let sections =
        [(".text", 0x1000, 0x200, 0x400), (".rdata", 0x2000, 0x200, 0x600), (".bss", 0x3000, 0, 0)];
    for (index, (name, address, len, place)) in sections.into_iter().enumerate() {
        let at = table + 40 * index;
        put(at, name.as_bytes());
        put(at + 8, &long(0x200));
        put(at + 12, &long(address));
        put(at + 16, &long(len));
        put(at + 20, &long(place));
    }
    put(DEBUG_RECORD + 20, &long(0x2100));
    put(DEBUG_RECORD + 24, &long(0x700));
    bytes
}
