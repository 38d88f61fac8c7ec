//! TensorBoard's event file: TFRecord framing with masked CRC-32C around two protobuf messages,
//! of which only scalars are written.

use std::fs::File;
use std::io::Write;
use std::path::Path;
use std::time::{SystemTime, UNIX_EPOCH};

use crate::error::{AtPath, Result};

/// How the names of event files begin; TensorBoard reads no others.
pub const EVENTS: &str = "events.out.tfevents";

/// Writes scalars for TensorBoard.
pub struct EventWriter {
    file: File,
    path: std::path::PathBuf,
}

impl EventWriter {
    /// Makes the event file in `folder`.
    ///
    /// # Errors
    /// When it cannot be written.
    pub fn create(folder: &Path) -> Result<Self> {
        // A run that goes on within the second gets a file of its own.
        let name = |n: usize| format!("{EVENTS}.{}.plackett.{n}", now() as u64);
        let free = (0..)
            .map(|n| folder.join(name(n)))
            .find(|path| !path.exists());
        let path = free.unwrap_or_else(|| folder.join(EVENTS));
        let mut writer = Self {
            file: File::create(&path).at(&path)?,
            path,
        };
        let mut event = double(1, now());
        event.extend(bytes(3, b"brain.Event:2"));
        writer.frame(&event)?;
        Ok(writer)
    }

    /// Adds one scalar.
    ///
    /// # Errors
    /// When it cannot be written.
    pub fn scalar(&mut self, step: u64, name: &str, value: f64) -> Result<()> {
        let mut scalar = bytes(1, name.as_bytes());
        scalar.extend(float(2, value as f32));
        let mut event = double(1, now());
        event.extend(integer(2, step));
        event.extend(bytes(5, &bytes(1, &scalar)));
        self.frame(&event)
    }

    fn frame(&mut self, event: &[u8]) -> Result<()> {
        let length = (event.len() as u64).to_le_bytes();
        let mut record = length.to_vec();
        record.extend(masked_crc(&length).to_le_bytes());
        record.extend(event);
        record.extend(masked_crc(event).to_le_bytes());
        self.file.write_all(&record).at(&self.path)
    }
}

fn now() -> f64 {
    SystemTime::now()
        .duration_since(UNIX_EPOCH)
        .map_or(0.0, |since| since.as_secs_f64())
}

fn masked_crc(data: &[u8]) -> u32 {
    crc32c::crc32c(data)
        .rotate_right(15)
        .wrapping_add(0xa282_ead8)
}

/// Protobuf: a field's key is its number times 8 plus its wire type.
fn integer(field: u64, value: u64) -> Vec<u8> {
    let mut out = varint(field << 3);
    out.extend(varint(value));
    out
}

fn double(field: u64, value: f64) -> Vec<u8> {
    let mut out = varint(field << 3 | 1);
    out.extend(value.to_le_bytes());
    out
}

fn float(field: u64, value: f32) -> Vec<u8> {
    let mut out = varint(field << 3 | 5);
    out.extend(value.to_le_bytes());
    out
}

fn bytes(field: u64, value: &[u8]) -> Vec<u8> {
    let mut out = varint(field << 3 | 2);
    out.extend(varint(value.len() as u64));
    out.extend(value);
    out
}

fn varint(mut value: u64) -> Vec<u8> {
    let mut out = Vec::new();
    while value >= 0x80 {
        out.push((value as u8 & 0x7f) | 0x80);
        value >>= 7;
    }
    out.push(value as u8);
    out
}

#[cfg(test)]
mod tests {
    use super::*;

    /// The check value of CRC-32C is that of RFC 3720; the mask is TFRecord's.
    #[test]
    fn the_checksum_is_masked_as_tfrecord_asks() {
        assert_eq!(crc32c::crc32c(b"123456789"), 0xe306_9283);
        let crc: u32 = 0xe306_9283;
        assert_eq!(
            masked_crc(b"123456789"),
            crc.rotate_right(15).wrapping_add(0xa282_ead8)
        );
    }

    #[test]
    fn numbers_are_encoded_as_protobuf_asks() {
        assert_eq!(varint(300), [0xac, 0x02]);
        assert_eq!(integer(2, 5), [0x10, 5]);
        assert_eq!(bytes(1, b"kl"), [0x0a, 2, b'k', b'l']);
    }
}
