//! A small HTTP/1.1 client over one kept connection. The load shares the processor with the server
//! and the database that it measures, so it does no more than it must.

use std::io::{Error, ErrorKind, Result};
use std::net::SocketAddr;

use tokio::io::{AsyncReadExt, AsyncWriteExt};
use tokio::net::TcpStream;

/// One connection, opened again when the server closed it.
pub(crate) struct Connection {
    address: SocketAddr,
    stream: Option<TcpStream>,
    request: Vec<u8>,
    answer: Vec<u8>,
}

/// What came back. A body that came compressed stays so.
#[derive(Debug)]
pub(crate) struct Answer {
    pub(crate) status: u16,
    pub(crate) location: Option<String>,
    pub(crate) is_compressed: bool,
    pub(crate) body: Vec<u8>,
}

impl Answer {
    pub(crate) fn text(&self) -> String {
        String::from_utf8_lossy(&self.body).into_owned()
    }
}

impl Connection {
    pub(crate) fn new(address: SocketAddr) -> Self {
        Self {
            address,
            stream: None,
            request: Vec::new(),
            answer: Vec::new(),
        }
    }

    /// Sends a request and reads its answer. `headers` are whole lines, each with its line end.
    pub(crate) async fn send(
        &mut self,
        method: &str,
        path: &str,
        headers: &str,
        body: &str,
    ) -> Result<Answer> {
        self.request.clear();
        let head = format!(
            "{method} {path} HTTP/1.1\r\nhost: {}\r\n{headers}content-length: {}\r\n\r\n",
            self.address,
            body.len()
        );
        self.request.extend_from_slice(head.as_bytes());
        self.request.extend_from_slice(body.as_bytes());
        let answered = self.exchange().await;
        if answered.is_err() {
            self.stream = None;
        }
        answered
    }

    async fn exchange(&mut self) -> Result<Answer> {
        let stream = match &mut self.stream {
            Some(stream) => stream,
            None => {
                let stream = TcpStream::connect(self.address).await?;
                stream.set_nodelay(true)?;
                self.stream.insert(stream)
            }
        };
        stream.write_all(&self.request).await?;
        let (answer, keeps) = read_answer(stream, &mut self.answer).await?;
        if !keeps {
            self.stream = None;
        }
        Ok(answer)
    }
}

fn wrong(what: &str) -> Error {
    Error::new(ErrorKind::InvalidData, what)
}

/// The part of an answer's head that decides how to go on.
#[derive(Default)]
struct Head {
    status: u16,
    length: Option<usize>,
    is_chunked: bool,
    is_compressed: bool,
    closes: bool,
    location: Option<String>,
}

/// Reads one answer; `buffer` is only kept to spare allocations. Says whether the connection goes on.
pub(crate) async fn read_answer(
    stream: &mut TcpStream,
    buffer: &mut Vec<u8>,
) -> Result<(Answer, bool)> {
    buffer.clear();
    let end = loop {
        if let Some(place) = buffer.windows(4).position(|four| four == b"\r\n\r\n") {
            break place + 4;
        }
        read_more(stream, buffer).await?;
    };
    let head = std::str::from_utf8(&buffer[..end]).map_err(|_| wrong("the head is not text"))?;
    let head = parse_head(head)?;
    let body = match (head.is_chunked, head.length) {
        (true, _) => read_chunks(stream, buffer, end).await?,
        (false, length) => {
            let whole = end + length.unwrap_or(0);
            while buffer.len() < whole {
                read_more(stream, buffer).await?;
            }
            buffer[end..whole].to_vec()
        }
    };
    let answer = Answer {
        status: head.status,
        location: head.location,
        is_compressed: head.is_compressed,
        body,
    };
    Ok((answer, !head.closes))
}

async fn read_more(stream: &mut TcpStream, buffer: &mut Vec<u8>) -> Result<()> {
    buffer.reserve(32 * 1024);
    match stream.read_buf(buffer).await? {
        0 => Err(ErrorKind::UnexpectedEof.into()),
        _ => Ok(()),
    }
}

fn parse_head(head: &str) -> Result<Head> {
    let mut lines = head.split("\r\n");
    let status = lines.next().and_then(|line| line.split(' ').nth(1));
    let mut found = Head {
        status: status
            .and_then(|word| word.parse().ok())
            .ok_or_else(|| wrong("no status"))?,
        ..Head::default()
    };
    for line in lines {
        let Some((name, value)) = line.split_once(':') else {
            continue;
        };
        let value = value.trim();
        match name.to_ascii_lowercase().as_str() {
            "content-length" => found.length = value.parse().ok(),
            "transfer-encoding" => found.is_chunked = value.eq_ignore_ascii_case("chunked"),
            "content-encoding" => found.is_compressed = true,
            "connection" => found.closes = value.eq_ignore_ascii_case("close"),
            "location" => found.location = Some(value.to_owned()),
            _ => (),
        }
    }
    Ok(found)
}

/// Reads a chunked body that begins at `at` (RFC 9112, 7.1).
async fn read_chunks(
    stream: &mut TcpStream,
    buffer: &mut Vec<u8>,
    mut at: usize,
) -> Result<Vec<u8>> {
    let mut body = Vec::new();
    loop {
        let line = loop {
            if let Some(n) = buffer[at..].windows(2).position(|two| two == b"\r\n") {
                break at..at + n;
            }
            read_more(stream, buffer).await?;
        };
        let size = std::str::from_utf8(&buffer[line.clone()])
            .ok()
            .and_then(|text| usize::from_str_radix(text, 16).ok())
            .ok_or_else(|| wrong("a chunk has no size"))?;
        let begin = line.end + 2;
        while buffer.len() < begin + size + 2 {
            read_more(stream, buffer).await?;
        }
        if size == 0 {
            return Ok(body);
        }
        body.extend_from_slice(&buffer[begin..begin + size]);
        at = begin + size + 2;
    }
}
