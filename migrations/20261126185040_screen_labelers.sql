-- Who labels is decided by a test, as in InstructGPT's appendix B.1: flags and rankings held against answers
-- that are known, texts graded by people who do not know who wrote them, and a word on one's own strengths
-- that decides nothing. A candidate gets copies of the screening tasks of their own, so that a retake is
-- possible and what was asked stays what it was.

CREATE TABLE screening_rules (
    project_id           UUID PRIMARY KEY REFERENCES projects (id) ON DELETE CASCADE,
    least_flags          DOUBLE PRECISION NOT NULL DEFAULT 0.75,
    least_ranks          DOUBLE PRECISION NOT NULL DEFAULT 0.75,
    least_demonstrations DOUBLE PRECISION NOT NULL DEFAULT 6,
    graders              SMALLINT NOT NULL DEFAULT 1,
    CONSTRAINT screening_rules_flags_range CHECK (least_flags BETWEEN 0 AND 1),
    CONSTRAINT screening_rules_ranks_range CHECK (least_ranks BETWEEN 0 AND 1),
    CONSTRAINT screening_rules_demonstrations_range CHECK (least_demonstrations BETWEEN 1 AND 7),
    CONSTRAINT screening_rules_graders_range CHECK (graders BETWEEN 1 AND 10)
);
COMMENT ON TABLE screening_rules IS 'what a candidate must reach; a project without a row has the paper''s cut-offs';
COMMENT ON COLUMN screening_rules.graders IS 'how many admins grade each text';

CREATE TABLE screenings (
    id          UUID PRIMARY KEY,
    project_id  UUID NOT NULL REFERENCES projects (id) ON DELETE CASCADE,
    account_id  UUID NOT NULL REFERENCES accounts (id),
    status      TEXT NOT NULL DEFAULT 'invited',
    topics      TEXT[] NOT NULL DEFAULT '{}',
    words       TEXT NOT NULL DEFAULT '',
    outcome     JSONB,
    invited_by  UUID REFERENCES accounts (id) ON DELETE SET NULL,
    invited_at  TIMESTAMPTZ NOT NULL DEFAULT now(),
    started_at  TIMESTAMPTZ,
    finished_at TIMESTAMPTZ,
    decided_at  TIMESTAMPTZ,
    CONSTRAINT screenings_status_known CHECK (status IN ('invited', 'started', 'waiting', 'passed', 'failed', 'withdrawn')),
    CONSTRAINT screenings_started_at CHECK ((status IN ('invited', 'withdrawn')) OR started_at IS NOT NULL),
    CONSTRAINT screenings_outcome_known CHECK ((status IN ('passed', 'failed')) = (outcome IS NOT NULL AND decided_at IS NOT NULL))
);
-- A retake is a new invitation, and there is one at a time.
CREATE UNIQUE INDEX screenings_open_key ON screenings (project_id, account_id)
    WHERE status IN ('invited', 'started', 'waiting');
CREATE INDEX screenings_account_id_idx ON screenings (account_id);
COMMENT ON COLUMN screenings.status IS 'waiting: all is done but the grades';
COMMENT ON COLUMN screenings.topics IS 'what the candidate is comfortable to judge, in their own view; decides nothing';
COMMENT ON COLUMN screenings.words IS 'the same in their own words';
COMMENT ON COLUMN screenings.outcome IS 'the numbers that decided, and the rules they were held against';

CREATE TABLE screening_items (
    screening_id UUID NOT NULL REFERENCES screenings (id) ON DELETE CASCADE,
    position     SMALLINT NOT NULL,
    task_id      UUID NOT NULL REFERENCES tasks (id) ON DELETE CASCADE,
    source_id    UUID NOT NULL REFERENCES tasks (id) ON DELETE CASCADE,
    PRIMARY KEY (screening_id, position),
    CONSTRAINT screening_items_task_key UNIQUE (task_id)
);
COMMENT ON COLUMN screening_items.task_id IS 'the candidate''s own copy';
COMMENT ON COLUMN screening_items.source_id IS 'the screening task that it was copied from, whose newest answer counts';

CREATE TABLE grades (
    id         UUID PRIMARY KEY,
    task_id    UUID NOT NULL REFERENCES screening_items (task_id) ON DELETE CASCADE,
    grade      SMALLINT NOT NULL,
    note       TEXT NOT NULL DEFAULT '',
    graded_by  UUID NOT NULL REFERENCES accounts (id),
    created_at TIMESTAMPTZ NOT NULL DEFAULT now(),
    CONSTRAINT grades_grade_range CHECK (grade BETWEEN 1 AND 7),
    CONSTRAINT grades_once_key UNIQUE (task_id, graded_by)
);
COMMENT ON TABLE grades IS 'of a text that a candidate wrote, 1 to 7, by admins who did not see who wrote it';
CREATE TRIGGER grades_are_immutable BEFORE UPDATE OR DELETE ON grades
    FOR EACH ROW EXECUTE FUNCTION refuse_change();
