-- A large export takes longer than a browser or a proxy waits, and one that breaks off should go on
-- where it broke. So an export is built in the background into a file in the data folder, and downloaded
-- from there. A snapshot and a choice give the same bytes, so each is built once.

CREATE TABLE exports (
    id           UUID PRIMARY KEY,
    snapshot_id  UUID NOT NULL REFERENCES snapshots (id) ON DELETE CASCADE,
    format       TEXT NOT NULL,
    container    TEXT NOT NULL,
    margin       TEXT NOT NULL,
    aggregation  TEXT NOT NULL,
    status       TEXT NOT NULL DEFAULT 'waiting',
    n_done       BIGINT NOT NULL DEFAULT 0,
    n_rows       BIGINT,
    n_bytes      BIGINT,
    sha256       TEXT,
    error        TEXT,
    created_by   UUID REFERENCES accounts (id) ON DELETE SET NULL,
    created_at   TIMESTAMPTZ NOT NULL DEFAULT now(),
    heartbeat_at TIMESTAMPTZ,
    finished_at  TIMESTAMPTZ,
    CONSTRAINT exports_choice_key UNIQUE (snapshot_id, format, container, margin, aggregation),
    CONSTRAINT exports_status_known CHECK (status IN ('waiting', 'building', 'ready', 'failed')),
    CONSTRAINT exports_ready_is_whole CHECK (
        status <> 'ready' OR (n_rows IS NOT NULL AND n_bytes IS NOT NULL AND sha256 IS NOT NULL))
);
CREATE INDEX exports_waiting_idx ON exports (created_at) WHERE status IN ('waiting', 'building');
COMMENT ON COLUMN exports.n_done IS 'records of the snapshot that are written, while it is built';
