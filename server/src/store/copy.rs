//! Many rows at once: Postgres' binary COPY format. A row costs a small part of what an INSERT of
//! its own costs.

use serde_json::Value;
use sqlx::PgConnection;
use uuid::Uuid;

/// What every binary COPY begins with: the signature, no flags, no extension.
const HEADER: &[u8] = b"PGCOPY\n\xff\r\n\0\0\0\0\0\0\0\0\0";

/// In the place of a number of columns: no more rows.
const TRAILER: i16 = -1;

/// In the place of a length: NULL.
const NULL: i32 = -1;

/// What stands before the text of a `jsonb` value.
const JSONB_VERSION: u8 = 1;

/// Sets foreign keys aside, where the role may: Postgres looks a key up for each row, and for rows that
/// refer to several others that takes longer than all the rest. Only for rows whose keys this
/// transaction has written itself or has locked, so that nobody can take away what they refer to, and
/// into tables without triggers of our own on inserts, which would not run either. Returns whether it
/// was done; [`mind_keys`] must follow then, before any other statement.
pub(super) async fn set_keys_aside(db: &mut PgConnection) -> sqlx::Result<bool> {
    let may = sqlx::query_scalar!(r#"SELECT current_setting('is_superuser') = 'on' AS "may!""#)
        .fetch_one(&mut *db)
        .await?;
    if may {
        sqlx::query!("SET LOCAL session_replication_role = 'replica'")
            .execute(db)
            .await?;
    }
    Ok(may)
}

/// Ends [`set_keys_aside`].
pub(super) async fn mind_keys(db: &mut PgConnection) -> sqlx::Result<()> {
    sqlx::query!("SET LOCAL session_replication_role TO DEFAULT")
        .execute(db)
        .await?;
    Ok(())
}

/// Rows for one COPY, each begun by [`CopyRows::row`] and followed by its columns in their order.
pub(super) struct CopyRows {
    bytes: Vec<u8>,
    n_columns: i16,
    n_rows: usize,
}

impl CopyRows {
    /// No rows yet, of so many columns each.
    pub(super) fn new(n_columns: i16) -> Self {
        Self {
            bytes: HEADER.to_vec(),
            n_columns,
            n_rows: 0,
        }
    }

    pub(super) fn row(&mut self) -> &mut Self {
        self.n_rows += 1;
        self.bytes.extend_from_slice(&self.n_columns.to_be_bytes());
        self
    }

    fn value(&mut self, value: &[u8]) -> &mut Self {
        // A value is at most a line of a file, of a few mebibytes.
        let length = value.len() as i32;
        self.bytes.extend_from_slice(&length.to_be_bytes());
        self.bytes.extend_from_slice(value);
        self
    }

    pub(super) fn null(&mut self) -> &mut Self {
        self.bytes.extend_from_slice(&NULL.to_be_bytes());
        self
    }

    pub(super) fn uuid(&mut self, value: Uuid) -> &mut Self {
        self.value(value.as_bytes())
    }

    pub(super) fn uuid_or_null(&mut self, value: Option<Uuid>) -> &mut Self {
        match value {
            Some(value) => self.uuid(value),
            None => self.null(),
        }
    }

    pub(super) fn text(&mut self, value: &str) -> &mut Self {
        self.value(value.as_bytes())
    }

    pub(super) fn text_or_null(&mut self, value: Option<&str>) -> &mut Self {
        match value {
            Some(value) => self.text(value),
            None => self.null(),
        }
    }

    /// A `smallint`.
    pub(super) fn small(&mut self, value: i16) -> &mut Self {
        self.value(&value.to_be_bytes())
    }

    pub(super) fn small_or_null(&mut self, value: Option<i16>) -> &mut Self {
        match value {
            Some(value) => self.small(value),
            None => self.null(),
        }
    }

    pub(super) fn bool(&mut self, value: bool) -> &mut Self {
        self.value(&[u8::from(value)])
    }

    /// A `jsonb`.
    pub(super) fn json(&mut self, value: &Value) -> &mut Self {
        let text = value.to_string();
        let length = text.len() as i32 + 1;
        self.bytes.extend_from_slice(&length.to_be_bytes());
        self.bytes.push(JSONB_VERSION);
        self.bytes.extend_from_slice(text.as_bytes());
        self
    }

    /// Sends the rows by a statement `COPY … FROM STDIN (FORMAT BINARY)`.
    ///
    /// # Errors
    /// When a constraint refuses a row: then none is written, and the transaction has failed.
    pub(super) async fn send(mut self, db: &mut PgConnection, statement: &str) -> sqlx::Result<()> {
        if self.n_rows == 0 {
            return Ok(());
        }
        self.bytes.extend_from_slice(&TRAILER.to_be_bytes());
        let mut copy = db.copy_in_raw(statement).await?;
        copy.send(self.bytes).await?;
        copy.finish().await?;
        Ok(())
    }
}
