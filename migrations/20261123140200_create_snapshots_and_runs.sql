-- What is trained on and what training makes. A snapshot freezes a selection; a run is a row in
-- a queue that a worker claims; run_events is the append-only truth that pages follow; a
-- checkpoint is a model folder that names where it came from.

CREATE TABLE snapshots (
    id                 UUID PRIMARY KEY,
    project_id         UUID NOT NULL REFERENCES projects (id) ON DELETE CASCADE,
    kind               TEXT NOT NULL,
    name               TEXT NOT NULL,
    includes_simulated BOOLEAN NOT NULL DEFAULT FALSE,
    n_items            BIGINT NOT NULL,
    n_prompts          BIGINT NOT NULL,
    sha256             TEXT NOT NULL,
    created_by         UUID REFERENCES accounts (id) ON DELETE SET NULL,
    created_at         TIMESTAMPTZ NOT NULL DEFAULT now(),
    CONSTRAINT snapshots_kind_known CHECK (kind IN ('rankings', 'demonstrations', 'prompts', 'texts'))
);
COMMENT ON COLUMN snapshots.sha256 IS 'of the exported JSONL in lower-case hex';

CREATE TABLE runs (
    id                    UUID PRIMARY KEY,
    project_id            UUID NOT NULL REFERENCES projects (id) ON DELETE CASCADE,
    kind                  TEXT NOT NULL,
    name                  TEXT NOT NULL,
    preset                TEXT NOT NULL,
    config                JSONB NOT NULL,
    snapshot_id           UUID REFERENCES snapshots (id),
    texts_snapshot_id     UUID REFERENCES snapshots (id),
    base_checkpoint_id    UUID,
    reward_checkpoint_id  UUID,
    status                TEXT NOT NULL DEFAULT 'queued',
    phase                 TEXT NOT NULL DEFAULT '',
    progress_step         BIGINT NOT NULL DEFAULT 0,
    progress_total        BIGINT NOT NULL DEFAULT 0,
    error                 TEXT,
    summary               JSONB NOT NULL DEFAULT '{}',
    folder                TEXT,
    worker                TEXT,
    heartbeat_at          TIMESTAMPTZ,
    cancel_requested_at   TIMESTAMPTZ,
    created_by            UUID REFERENCES accounts (id) ON DELETE SET NULL,
    created_at            TIMESTAMPTZ NOT NULL DEFAULT now(),
    started_at            TIMESTAMPTZ,
    finished_at           TIMESTAMPTZ,
    CONSTRAINT runs_kind_known CHECK (kind IN ('sft', 'reward', 'ppo', 'generation', 'evaluation')),
    CONSTRAINT runs_status_known CHECK (status IN ('queued', 'running', 'finished', 'failed', 'cancelled')),
    CONSTRAINT runs_failed_says_why CHECK (status <> 'failed' OR error IS NOT NULL)
);
CREATE INDEX runs_queue_idx ON runs (created_at) WHERE status = 'queued';
CREATE INDEX runs_heartbeat_idx ON runs (heartbeat_at) WHERE status = 'running';

CREATE TABLE run_events (
    run_id UUID NOT NULL REFERENCES runs (id) ON DELETE CASCADE,
    seq    BIGINT NOT NULL,
    at     TIMESTAMPTZ NOT NULL DEFAULT now(),
    kind   TEXT NOT NULL,
    data   JSONB NOT NULL,
    PRIMARY KEY (run_id, seq),
    CONSTRAINT run_events_kind_known CHECK (kind IN ('status', 'phase', 'metrics', 'log', 'check', 'sample', 'checkpoint'))
);
COMMENT ON COLUMN run_events.seq IS '1, 2, 3 ... within the run without gaps; the event id of server-sent events';

CREATE TABLE checkpoints (
    id           UUID PRIMARY KEY,
    kind         TEXT NOT NULL,
    name         TEXT NOT NULL,
    path         TEXT NOT NULL,
    architecture TEXT NOT NULL,
    n_parameters BIGINT NOT NULL,
    sha256       TEXT NOT NULL,
    run_id       UUID REFERENCES runs (id) ON DELETE SET NULL,
    parent_id    UUID REFERENCES checkpoints (id),
    created_at   TIMESTAMPTZ NOT NULL DEFAULT now(),
    CONSTRAINT checkpoints_kind_known CHECK (kind IN ('base', 'sft', 'reward', 'policy')),
    CONSTRAINT checkpoints_path_key UNIQUE (path)
);
COMMENT ON COLUMN checkpoints.sha256 IS 'of model.safetensors in lower-case hex';

ALTER TABLE runs
    ADD CONSTRAINT runs_base_checkpoint_fkey FOREIGN KEY (base_checkpoint_id) REFERENCES checkpoints (id),
    ADD CONSTRAINT runs_reward_checkpoint_fkey FOREIGN KEY (reward_checkpoint_id) REFERENCES checkpoints (id);
