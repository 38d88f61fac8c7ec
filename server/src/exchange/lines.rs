//! Lines of a file that somebody else wrote: bounded in length, numbered, with the byte-order mark
//! and carriage returns of other systems taken off. A line never costs more than [`LONGEST_LINE`].

use std::io::{self, BufRead, Read};
use std::sync::Arc;
use std::sync::atomic::{AtomicUsize, Ordering};

use crate::message::Message;

/// Longest line or CSV record that is read, in bytes.
pub const LONGEST_LINE: usize = 4 * 1024 * 1024;

const BYTE_ORDER_MARK: &[u8] = b"\xEF\xBB\xBF";

/// Reads numbered lines from `R`.
pub struct Lines<R> {
    source: R,
    number: usize,
    buffer: Vec<u8>,
}

impl<R: BufRead> Lines<R> {
    /// Lines of `source`, counted from 1.
    pub fn new(source: R) -> Self {
        Self {
            source,
            number: 0,
            buffer: Vec::new(),
        }
    }

    /// The next line that is not blank: its number, and its text or what is wrong with it.
    ///
    /// # Errors
    /// When the source cannot be read on.
    pub fn next_line(&mut self) -> io::Result<Option<(usize, Result<&str, Message>)>> {
        loop {
            self.buffer.clear();
            let limit = LONGEST_LINE as u64 + 1;
            let n = (&mut self.source)
                .take(limit)
                .read_until(b'\n', &mut self.buffer)?;
            if n == 0 {
                return Ok(None);
            }
            self.number += 1;
            if n as u64 == limit && self.buffer.last() != Some(&b'\n') {
                skip_line(&mut self.source)?;
                let message = Message::new("import-longer-mib").with("most", LONGEST_LINE >> 20);
                return Ok(Some((self.number, Err(message))));
            }
            if !self.buffer.trim_ascii().is_empty() {
                break;
            }
        }
        let line = strip_ends(&self.buffer, self.number);
        Ok(Some((self.number, read_utf8(line))))
    }
}

/// The text of some bytes, or a sentence about the first wrong one.
pub fn read_utf8(bytes: &[u8]) -> Result<&str, Message> {
    if bytes.starts_with(&[0xFF, 0xFE]) || bytes.starts_with(&[0xFE, 0xFF]) {
        return Err(Message::new("import-utf16"));
    }
    std::str::from_utf8(bytes)
        .map_err(|error| Message::new("import-not-utf8").with("byte", error.valid_up_to() + 1))
}

fn strip_ends(line: &[u8], number: usize) -> &[u8] {
    let line = line.strip_suffix(b"\n").unwrap_or(line);
    let line = line.strip_suffix(b"\r").unwrap_or(line);
    match line.strip_prefix(BYTE_ORDER_MARK) {
        Some(rest) if number == 1 => rest,
        _ => line,
    }
}

fn skip_line(source: &mut impl BufRead) -> io::Result<()> {
    loop {
        let chunk = source.fill_buf()?;
        if chunk.is_empty() {
            return Ok(());
        }
        let end = chunk.iter().position(|byte| *byte == b'\n');
        let used = end.map_or(chunk.len(), |index| index + 1);
        source.consume(used);
        if end.is_some() {
            return Ok(());
        }
    }
}

/// Takes a byte-order mark off the start of a file.
///
/// # Errors
/// When the source cannot be read.
pub fn skip_byte_order_mark(source: &mut impl BufRead) -> io::Result<()> {
    if source.fill_buf()?.starts_with(BYTE_ORDER_MARK) {
        source.consume(BYTE_ORDER_MARK.len());
    }
    Ok(())
}

/// A source that refuses to go on when one record grows too long, so that a quote left open in a
/// CSV file does not read the whole file into memory.
pub struct Bounded<R> {
    source: R,
    since_record: Arc<AtomicUsize>,
}

/// What is wrong where a record does not end. [`Bounded`] gives up with `FileTooLarge` then.
pub fn open_quote() -> Message {
    Message::new("import-open-quote").with("most", LONGEST_LINE >> 20)
}

impl<R: Read> Bounded<R> {
    /// The source, and the counter to set to 0 after each record.
    pub fn new(source: R) -> (Self, Arc<AtomicUsize>) {
        let since_record = Arc::new(AtomicUsize::new(0));
        let counter = Arc::clone(&since_record);
        (
            Self {
                source,
                since_record,
            },
            counter,
        )
    }
}

impl<R: Read> Read for Bounded<R> {
    fn read(&mut self, buffer: &mut [u8]) -> io::Result<usize> {
        let n = self.source.read(buffer)?;
        let total = self.since_record.fetch_add(n, Ordering::Relaxed) + n;
        if total > LONGEST_LINE + buffer.len() {
            return Err(io::Error::new(
                io::ErrorKind::FileTooLarge,
                open_quote().to_string(),
            ));
        }
        Ok(n)
    }
}

#[cfg(test)]
mod tests {
    #![expect(clippy::unwrap_used, reason = "a failed unwrap is a failed test")]
    use super::*;

    fn all(bytes: &[u8]) -> Vec<(usize, Result<String, String>)> {
        let mut lines = Lines::new(bytes);
        let mut found = Vec::new();
        while let Some((number, line)) = lines.next_line().unwrap() {
            let line = line.map(str::to_owned);
            found.push((number, line.map_err(|message| message.to_string())));
        }
        found
    }

    #[test]
    fn marks_and_carriage_returns_go_and_blank_lines_still_count() {
        let lines = all(b"\xEF\xBB\xBFone\r\n\r\n  \nfour");
        assert_eq!(
            lines,
            [(1, Ok("one".to_owned())), (4, Ok("four".to_owned()))]
        );
    }

    #[test]
    fn wrong_bytes_are_named_and_the_next_line_is_read() {
        let lines = all(b"ab\xFFc\nnext\n");
        assert_eq!(lines[0], (1, Err("is not UTF-8 at byte 3".to_owned())));
        assert_eq!(lines[1], (2, Ok("next".to_owned())));
        let utf16 = all(&[0xFF, 0xFE, b'{', 0]);
        assert!(utf16[0].1.as_ref().unwrap_err().contains("UTF-16"));
    }

    #[test]
    fn a_line_longer_than_the_limit_is_refused_and_the_next_one_read() {
        let mut bytes = vec![b'x'; LONGEST_LINE + 10];
        bytes.extend_from_slice(b"\nshort\n");
        let lines = all(&bytes);
        assert_eq!(lines[0], (1, Err("is longer than 4 MiB".to_owned())));
        assert_eq!(lines[1], (2, Ok("short".to_owned())));
        let exact = vec![b'y'; LONGEST_LINE];
        assert!(all(&exact)[0].1.is_ok());
    }
}
