-- The labeling queue. Its promises are constraints, not handler code: one labeler holds a task at
-- most once (assignments_task_labeler_key), and a place of a task has one holder at a time
-- (assignments_task_place_key), so a task never has more holders than its overlap.

CREATE TABLE completions (
    id            UUID PRIMARY KEY,
    prompt_id     UUID NOT NULL REFERENCES prompts (id) ON DELETE CASCADE,
    text          TEXT NOT NULL,
    model         TEXT NOT NULL,
    checkpoint_id UUID REFERENCES checkpoints (id),
    run_id        UUID REFERENCES runs (id) ON DELETE SET NULL,
    sampling      JSONB NOT NULL DEFAULT '{}',
    is_finished   BOOLEAN NOT NULL DEFAULT TRUE,
    created_at    TIMESTAMPTZ NOT NULL DEFAULT now()
);
CREATE INDEX completions_prompt_id_idx ON completions (prompt_id);
COMMENT ON COLUMN completions.model IS 'never sent to a labeler''s browser';
COMMENT ON COLUMN completions.is_finished IS 'false when the token limit cut it off';

CREATE TABLE tasks (
    id         UUID PRIMARY KEY,
    project_id UUID NOT NULL REFERENCES projects (id) ON DELETE CASCADE,
    prompt_id  UUID NOT NULL REFERENCES prompts (id) ON DELETE CASCADE,
    kind       TEXT NOT NULL DEFAULT 'rank',
    overlap    SMALLINT NOT NULL,
    n_held     SMALLINT NOT NULL DEFAULT 0,
    run_id     UUID REFERENCES runs (id) ON DELETE SET NULL,
    created_at TIMESTAMPTZ NOT NULL DEFAULT now(),
    closed_at  TIMESTAMPTZ,
    CONSTRAINT tasks_kind_known CHECK (kind IN ('rank')),
    CONSTRAINT tasks_overlap_range CHECK (overlap BETWEEN 1 AND 100),
    CONSTRAINT tasks_n_held_range CHECK (n_held BETWEEN 0 AND overlap)
);
CREATE INDEX tasks_open_idx ON tasks (project_id, created_at, id) WHERE closed_at IS NULL AND n_held < overlap;
COMMENT ON COLUMN tasks.n_held IS 'places held, counted by a trigger on assignments, so that the queue index holds open tasks only';

CREATE TABLE candidates (
    task_id       UUID NOT NULL REFERENCES tasks (id) ON DELETE CASCADE,
    slot          SMALLINT NOT NULL,
    completion_id UUID NOT NULL REFERENCES completions (id),
    PRIMARY KEY (task_id, slot),
    CONSTRAINT candidates_completion_key UNIQUE (task_id, completion_id),
    CONSTRAINT candidates_slot_range CHECK (slot BETWEEN 0 AND 8)
);
COMMENT ON TABLE candidates IS 'a completion as an item of a task; slot is its place in storage, never its place on the page';

CREATE TABLE assignments (
    id                 UUID PRIMARY KEY,
    task_id            UUID NOT NULL REFERENCES tasks (id) ON DELETE CASCADE,
    labeler_id         UUID NOT NULL REFERENCES accounts (id),
    place              SMALLINT,
    status             TEXT NOT NULL DEFAULT 'leased',
    display_order      SMALLINT[] NOT NULL,
    guidelines_version INTEGER NOT NULL,
    form_version       INTEGER NOT NULL,
    skip_reason        TEXT,
    skip_note          TEXT,
    is_late            BOOLEAN NOT NULL DEFAULT FALSE,
    draft              JSONB,
    draft_revision     BIGINT NOT NULL DEFAULT 0,
    leased_at          TIMESTAMPTZ NOT NULL DEFAULT now(),
    lease_until        TIMESTAMPTZ NOT NULL,
    ended_at           TIMESTAMPTZ,
    CONSTRAINT assignments_task_labeler_key UNIQUE (task_id, labeler_id),
    CONSTRAINT assignments_status_known CHECK (status IN ('leased', 'submitted', 'skipped', 'expired')),
    CONSTRAINT assignments_skip_says_why CHECK (status <> 'skipped' OR skip_reason IS NOT NULL),
    CONSTRAINT assignments_place_held CHECK (
        (status = 'leased' AND place IS NOT NULL)
        OR (status = 'submitted' AND (place IS NOT NULL OR is_late))
        OR (status IN ('skipped', 'expired') AND place IS NULL))
);
CREATE UNIQUE INDEX assignments_task_place_key ON assignments (task_id, place) WHERE place IS NOT NULL;
CREATE INDEX assignments_labeler_idx ON assignments (labeler_id, status);
CREATE INDEX assignments_lease_idx ON assignments (lease_until) WHERE status = 'leased';
COMMENT ON COLUMN assignments.place IS 'which of the task''s overlap places this holds, 0-based; null once given back, or for a late submission whose place was taken';
COMMENT ON COLUMN assignments.display_order IS 'slots in the order shown, random for each assignment';

CREATE TABLE rankings (
    id              UUID PRIMARY KEY,
    assignment_id   UUID NOT NULL REFERENCES assignments (id),
    version         INTEGER NOT NULL,
    idempotency_key TEXT NOT NULL,
    request_sha256  BYTEA NOT NULL,
    note            TEXT NOT NULL DEFAULT '',
    created_at      TIMESTAMPTZ NOT NULL DEFAULT now(),
    CONSTRAINT rankings_assignment_version_key UNIQUE (assignment_id, version),
    CONSTRAINT rankings_idempotency_key UNIQUE (assignment_id, idempotency_key)
);
COMMENT ON TABLE rankings IS 'a weak order over a task''s candidates as one labeler gave it; a correction is a new version';

CREATE TABLE ratings (
    ranking_id    UUID NOT NULL REFERENCES rankings (id),
    completion_id UUID NOT NULL REFERENCES completions (id),
    slot          SMALLINT NOT NULL,
    rank          SMALLINT NOT NULL,
    overall       SMALLINT,
    flags         JSONB NOT NULL DEFAULT '{}',
    PRIMARY KEY (ranking_id, completion_id),
    CONSTRAINT ratings_rank_range CHECK (rank BETWEEN 1 AND 9),
    CONSTRAINT ratings_overall_range CHECK (overall BETWEEN 1 AND 7)
);
COMMENT ON COLUMN ratings.rank IS '1 is best; equal ranks are ties';
COMMENT ON COLUMN ratings.flags IS 'only the answered ones: {"hallucination": true}; a missing key is unanswered, not "no"';

CREATE TABLE comparisons (
    ranking_id   UUID NOT NULL REFERENCES rankings (id),
    preferred_id UUID NOT NULL REFERENCES completions (id),
    other_id     UUID NOT NULL REFERENCES completions (id),
    is_tie       BOOLEAN NOT NULL,
    PRIMARY KEY (ranking_id, preferred_id, other_id)
);
COMMENT ON TABLE comparisons IS 'the C(K,2) pairs of a ranking; for a tie the two stand in slot order';

CREATE TABLE snapshot_items (
    snapshot_id UUID NOT NULL REFERENCES snapshots (id) ON DELETE CASCADE,
    position    BIGINT NOT NULL,
    item_id     UUID NOT NULL,
    PRIMARY KEY (snapshot_id, position)
);
COMMENT ON COLUMN snapshot_items.item_id IS 'a ranking, demonstration, prompt or text, by the snapshot''s kind; all of them immutable';
