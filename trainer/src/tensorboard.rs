//! TensorBoard event files: scalars only, written by hand.
//!
//! A file is a row of records; each is the length (u64), its masked CRC-32C, the bytes, and their masked CRC-32C
//! (TFRecord). The bytes are a protobuf `Event`: 1 wall_time, 2 step, 3 file_version, 5 summary; a summary holds
//! values of 1 tag and 2 simple_value (tensorflow `event.proto`, `summary.proto`).

use std::collections::BTreeMap;
use std::fs::File;
use std::io::{self, Write};
use std::path::Path;

/// An open event file.
#[derive(Debug)]
pub struct EventFile {
    file: File,
}

impl EventFile {
    /// Creates `path` and writes the header that TensorBoard looks for; `time` is in seconds since 1970.
    ///
    /// # Errors
    /// A file that can't be written.
    pub fn create(path: &Path, time: f64) -> io::Result<Self> {
        let mut event_file = Self {
            file: File::create(path)?,
        };
        let mut event = Vec::new();
        put_double(&mut event, 1, time);
        put_bytes(&mut event, 3, b"brain.Event:2");
        event_file.file.write_all(&framed(&event))?;
        Ok(event_file)
    }

    /// Writes the scalars of one step as one event.
    ///
    /// # Errors
    /// A file that can't be written.
    pub fn write_scalars(
        &mut self,
        time: f64,
        step: u64,
        scalars: &BTreeMap<String, f64>,
    ) -> io::Result<()> {
        let mut summary = Vec::new();
        for (tag, value) in scalars {
            let mut entry = Vec::new();
            put_bytes(&mut entry, 1, tag.as_bytes());
            put_varint(&mut entry, 2 << 3 | 5);
            entry.extend((*value as f32).to_le_bytes());
            put_bytes(&mut summary, 1, &entry);
        }
        let mut event = Vec::new();
        put_double(&mut event, 1, time);
        put_varint(&mut event, 2 << 3);
        put_varint(&mut event, step);
        put_bytes(&mut event, 5, &summary);
        self.file.write_all(&framed(&event))
    }
}

fn put_varint(out: &mut Vec<u8>, mut value: u64) {
    while value >= 0x80 {
        out.push(value as u8 | 0x80);
        value >>= 7;
    }
    out.push(value as u8);
}

fn put_double(out: &mut Vec<u8>, field: u64, value: f64) {
    put_varint(out, field << 3 | 1);
    out.extend(value.to_le_bytes());
}

fn put_bytes(out: &mut Vec<u8>, field: u64, bytes: &[u8]) {
    put_varint(out, field << 3 | 2);
    put_varint(out, bytes.len() as u64);
    out.extend(bytes);
}

fn framed(payload: &[u8]) -> Vec<u8> {
    let length = (payload.len() as u64).to_le_bytes();
    let mut record = Vec::with_capacity(payload.len() + 16);
    record.extend(length);
    record.extend(masked_crc(&length).to_le_bytes());
    record.extend(payload);
    record.extend(masked_crc(payload).to_le_bytes());
    record
}

/// TFRecord rotates the checksum and adds a constant, so that a checksum of data with checksums stays useful.
fn masked_crc(bytes: &[u8]) -> u32 {
    crc32c::crc32c(bytes)
        .rotate_right(15)
        .wrapping_add(0xa282_ead8)
}

#[cfg(test)]
#[expect(clippy::unwrap_used, reason = "a failed unwrap is a failed test")]
mod tests {
    use super::*;

    #[test]
    fn records_are_framed_with_their_masked_checksums() {
        let folder = tempfile::tempdir().unwrap();
        let path = folder.path().join("events");
        let mut file = EventFile::create(&path, 1.5).unwrap();
        file.write_scalars(2.5, 300, &BTreeMap::from([("loss".to_owned(), 0.25)]))
            .unwrap();
        let bytes = std::fs::read(&path).unwrap();
        let mut rest = bytes.as_slice();
        let mut payloads = Vec::new();
        while !rest.is_empty() {
            let length = u64::from_le_bytes(rest[..8].try_into().unwrap()) as usize;
            assert_eq!(
                u32::from_le_bytes(rest[8..12].try_into().unwrap()),
                masked_crc(&rest[..8])
            );
            let payload = &rest[12..12 + length];
            let checksum = &rest[12 + length..16 + length];
            assert_eq!(
                u32::from_le_bytes(checksum.try_into().unwrap()),
                masked_crc(payload)
            );
            payloads.push(payload);
            rest = &rest[16 + length..];
        }
        assert!(payloads[0].ends_with(b"\x1a\x0dbrain.Event:2"));
        let expected = [
            b"\x10\xac\x02\x2a\x0d\x0a\x0b\x0a\x04loss\x15".as_slice(),
            &0.25f32.to_le_bytes(),
        ]
        .concat();
        assert_eq!(payloads[1][9..], expected);
    }

    #[test]
    fn the_checksum_is_crc_32c() {
        assert_eq!(crc32c::crc32c(b"123456789"), 0xe306_9283);
    }
}
