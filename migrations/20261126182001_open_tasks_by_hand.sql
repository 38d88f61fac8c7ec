-- An admin opens many tasks at once, whole or not at all, and once however often the form is sent. What was
-- asked for is kept, so that every task can say why it exists.

CREATE TABLE openings (
    id              UUID PRIMARY KEY,
    project_id      UUID NOT NULL REFERENCES projects (id) ON DELETE CASCADE,
    idempotency_key TEXT NOT NULL,
    request         JSONB NOT NULL,
    n_tasks         BIGINT NOT NULL,
    created_by      UUID REFERENCES accounts (id) ON DELETE SET NULL,
    created_at      TIMESTAMPTZ NOT NULL DEFAULT now(),
    CONSTRAINT openings_idempotency_key UNIQUE (project_id, idempotency_key)
);
COMMENT ON COLUMN openings.request IS 'the order as it was given: kind, which prompts or texts, overlap';

ALTER TABLE tasks ADD COLUMN opening_id UUID REFERENCES openings (id) ON DELETE SET NULL;
COMMENT ON COLUMN tasks.brief IS 'of a demonstration: {"kind": "plain" | "few_shot" | "user_based", "instruction": "...", "use_case": "..."}, the last two where they are given';

-- Whether a text has a task already. By a digest: the texts themselves are too long for an index.
CREATE INDEX tasks_brief_idx ON tasks (project_id, md5(brief::TEXT)) WHERE kind = 'demonstrate' AND prompt_id IS NULL;
