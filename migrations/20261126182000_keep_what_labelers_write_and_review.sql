-- Two more things that labelers say: a demonstration that they wrote, and what a prompt is. Both are kept
-- as rankings are, a correction being a new version. A demonstration of the dataset knows the writing that
-- it came from, so that an older version of it is left behind.

CREATE TABLE writings (
    id              UUID PRIMARY KEY,
    assignment_id   UUID NOT NULL REFERENCES assignments (id),
    version         INTEGER NOT NULL,
    idempotency_key TEXT NOT NULL,
    request_sha256  BYTEA NOT NULL,
    content         JSONB NOT NULL,
    note            TEXT NOT NULL DEFAULT '',
    active_ms       BIGINT NOT NULL,
    idle_ms         BIGINT NOT NULL,
    created_at      TIMESTAMPTZ NOT NULL DEFAULT now(),
    CONSTRAINT writings_assignment_version_key UNIQUE (assignment_id, version),
    CONSTRAINT writings_idempotency_key UNIQUE (assignment_id, idempotency_key)
);
COMMENT ON TABLE writings IS 'what a labeler wrote for a task of the kind demonstrate; a correction is a new version';
COMMENT ON COLUMN writings.content IS '{"response"}, {"prompt","response","category","language"} or {"instruction","pairs":[{"query","response"}],"category","language"}';
CREATE TRIGGER writings_are_immutable BEFORE UPDATE OR DELETE ON writings
    FOR EACH ROW EXECUTE FUNCTION refuse_change();

CREATE TABLE reviews (
    id              UUID PRIMARY KEY,
    assignment_id   UUID NOT NULL REFERENCES assignments (id),
    version         INTEGER NOT NULL,
    idempotency_key TEXT NOT NULL,
    request_sha256  BYTEA NOT NULL,
    content         JSONB NOT NULL,
    note            TEXT NOT NULL DEFAULT '',
    active_ms       BIGINT NOT NULL,
    idle_ms         BIGINT NOT NULL,
    created_at      TIMESTAMPTZ NOT NULL DEFAULT now(),
    CONSTRAINT reviews_assignment_version_key UNIQUE (assignment_id, version),
    CONSTRAINT reviews_idempotency_key UNIQUE (assignment_id, idempotency_key)
);
COMMENT ON TABLE reviews IS 'what a labeler said of a prompt; a correction is a new version';
COMMENT ON COLUMN reviews.content IS '{"category","language","flags":{"ambiguous":true},"personal_data":true,"found":[{"kind","passage"}]}; a missing answer is unanswered, not "no"';
CREATE TRIGGER reviews_are_immutable BEFORE UPDATE OR DELETE ON reviews
    FOR EACH ROW EXECUTE FUNCTION refuse_change();

CREATE VIEW current_reviews AS
SELECT r.id, t.project_id, t.prompt_id, r.content, r.created_at
FROM reviews r
JOIN assignments a ON a.id = r.assignment_id
JOIN tasks t ON t.id = a.task_id
WHERE a.status = 'submitted' AND t.purpose = 'label'
  AND NOT EXISTS (SELECT 1 FROM reviews n WHERE n.assignment_id = a.id AND n.version > r.version);
COMMENT ON VIEW current_reviews IS 'the newest version of each labeler''s review of a prompt, of tasks that are for the dataset';

ALTER TABLE demonstrations ADD COLUMN writing_id UUID REFERENCES writings (id);
CREATE INDEX demonstrations_writing_id_idx ON demonstrations (writing_id);
COMMENT ON COLUMN demonstrations.writing_id IS 'the version of a labeler''s writing that it was made of; null where a file brought it';
CREATE TRIGGER demonstrations_are_immutable BEFORE UPDATE OF external_id, messages, writing_id ON demonstrations
    FOR EACH ROW EXECUTE FUNCTION refuse_change();

-- A snapshot stays the same bytes whatever is reviewed later, so its items name the review they were taken with.
ALTER TABLE snapshot_items ADD COLUMN review_id UUID REFERENCES reviews (id);
COMMENT ON COLUMN snapshot_items.review_id IS 'the newest review of the item''s prompt when the snapshot was taken';
ALTER TABLE snapshots
    ADD COLUMN reviewed_categories BOOLEAN NOT NULL DEFAULT FALSE,
    ADD COLUMN includes_personal   BOOLEAN NOT NULL DEFAULT FALSE,
    ADD COLUMN n_left_out          BIGINT NOT NULL DEFAULT 0;
COMMENT ON COLUMN snapshots.reviewed_categories IS 'a prompt''s category is that of its review, where it has one';
COMMENT ON COLUMN snapshots.includes_personal IS 'prompts in which a reviewer found personal data were asked for';
COMMENT ON COLUMN snapshots.n_left_out IS 'records that were selected but left out for personal data in their prompt';
