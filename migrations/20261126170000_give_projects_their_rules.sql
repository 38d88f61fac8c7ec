-- What a researcher sets for a project: how many candidates and labelers a task has, which task comes
-- next, how many tasks in a hundred are gold or come back, who may label, and what they have agreed to.

ALTER TABLE projects
    ADD COLUMN candidates          SMALLINT NOT NULL DEFAULT 4,
    ADD COLUMN overlap_by_category JSONB NOT NULL DEFAULT '{}',
    ADD COLUMN next_task           TEXT NOT NULL DEFAULT 'oldest',
    ADD COLUMN evaluation_share    REAL NOT NULL DEFAULT 0.2,
    ADD COLUMN gold_share          REAL NOT NULL DEFAULT 0,
    ADD COLUMN repeat_share        REAL NOT NULL DEFAULT 0,
    ADD COLUMN repeat_after_days   SMALLINT NOT NULL DEFAULT 7,
    ADD COLUMN least_seconds       SMALLINT NOT NULL DEFAULT 10,
    ADD COLUMN is_open             BOOLEAN NOT NULL DEFAULT TRUE,
    ADD COLUMN archived_at         TIMESTAMPTZ,
    ADD CONSTRAINT projects_candidates_range CHECK (candidates BETWEEN 4 AND 9),
    ADD CONSTRAINT projects_overlaps_object CHECK (jsonb_typeof(overlap_by_category) = 'object'),
    ADD CONSTRAINT projects_next_task_known CHECK (next_task IN ('oldest', 'random', 'informative')),
    ADD CONSTRAINT projects_evaluation_share_range CHECK (evaluation_share BETWEEN 0 AND 1),
    ADD CONSTRAINT projects_gold_share_range CHECK (gold_share BETWEEN 0 AND 0.5),
    ADD CONSTRAINT projects_repeat_share_range CHECK (repeat_share BETWEEN 0 AND 0.5),
    ADD CONSTRAINT projects_repeat_after_days_range CHECK (repeat_after_days BETWEEN 0 AND 365),
    ADD CONSTRAINT projects_least_seconds_range CHECK (least_seconds BETWEEN 0 AND 3600);
COMMENT ON COLUMN projects.candidates IS 'K, how many candidates a new ranking task has where nothing else is said';
COMMENT ON COLUMN projects.overlap_by_category IS '{"chat": 3}: labelers of each new task of a category, where not the project''s overlap';
COMMENT ON COLUMN projects.evaluation_share IS 'of new tasks, drawn at random and never by disagreement, so that evaluation is unbiased';
COMMENT ON COLUMN projects.gold_share IS 'of leases, that are gold tasks';
COMMENT ON COLUMN projects.repeat_share IS 'of leases, that are a task which the same labeler did at least repeat_after_days ago';
COMMENT ON COLUMN projects.least_seconds IS 'active seconds under which a submission is called too fast; never refused';
COMMENT ON COLUMN projects.is_open IS 'every labeler may take its tasks; otherwise only members';

CREATE TABLE members (
    project_id UUID NOT NULL REFERENCES projects (id) ON DELETE CASCADE,
    account_id UUID NOT NULL REFERENCES accounts (id) ON DELETE CASCADE,
    languages  TEXT[] NOT NULL DEFAULT '{}',
    added_by   UUID REFERENCES accounts (id) ON DELETE SET NULL,
    added_at   TIMESTAMPTZ NOT NULL DEFAULT now(),
    PRIMARY KEY (project_id, account_id)
);
COMMENT ON TABLE members IS 'labelers assigned to a project';
COMMENT ON COLUMN members.languages IS 'primary tags (en, zh): only tasks in these, or in no known language; empty is any';

CREATE TABLE consents (
    project_id UUID NOT NULL REFERENCES projects (id) ON DELETE CASCADE,
    version    INTEGER NOT NULL,
    markdown   JSONB NOT NULL,
    created_by UUID REFERENCES accounts (id) ON DELETE SET NULL,
    created_at TIMESTAMPTZ NOT NULL DEFAULT now(),
    PRIMARY KEY (project_id, version)
);
COMMENT ON TABLE consents IS 'what labelers agree to before they work: versions, as guidelines are';
CREATE TRIGGER consents_are_immutable BEFORE UPDATE OR DELETE ON consents
    FOR EACH ROW EXECUTE FUNCTION refuse_change();

CREATE TABLE acknowledgements (
    account_id UUID NOT NULL REFERENCES accounts (id) ON DELETE CASCADE,
    project_id UUID NOT NULL REFERENCES projects (id) ON DELETE CASCADE,
    subject    TEXT NOT NULL,
    version    INTEGER NOT NULL,
    at         TIMESTAMPTZ NOT NULL DEFAULT now(),
    PRIMARY KEY (account_id, project_id, subject, version),
    CONSTRAINT acknowledgements_subject_known CHECK (subject IN ('guidelines', 'consent'))
);
COMMENT ON TABLE acknowledgements IS 'which version of what a labeler has read and agreed to: nobody labels under rules that they have not seen';
