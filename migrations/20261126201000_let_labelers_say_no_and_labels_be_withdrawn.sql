-- Whoever does not agree, or no longer, says so and goes on with other projects; and what somebody said can
-- be left out of everything that is made later, while what was frozen before stays the same bytes.

ALTER TABLE acknowledgements ADD COLUMN withdrawn_at TIMESTAMPTZ;
COMMENT ON COLUMN acknowledgements.withdrawn_at IS 'when the labeler withdrew this consent; null while it holds. To agree again clears it: consent_refusals keeps what was';

CREATE TABLE consent_refusals (
    id         UUID PRIMARY KEY,
    account_id UUID NOT NULL REFERENCES accounts (id) ON DELETE CASCADE,
    project_id UUID NOT NULL REFERENCES projects (id) ON DELETE CASCADE,
    version    INTEGER NOT NULL,
    agreed_at  TIMESTAMPTZ,
    at         TIMESTAMPTZ NOT NULL DEFAULT now()
);
CREATE INDEX consent_refusals_account_idx ON consent_refusals (account_id, project_id, version);
COMMENT ON TABLE consent_refusals IS 'a labeler declined a version of a consent, or withdrew their agreement to it';
COMMENT ON COLUMN consent_refusals.agreed_at IS 'when they had agreed to it; null where they declined at once';
CREATE TRIGGER consent_refusals_are_immutable BEFORE UPDATE ON consent_refusals
    FOR EACH ROW EXECUTE FUNCTION refuse_change();

CREATE TABLE label_withdrawals (
    id           UUID PRIMARY KEY,
    project_id   UUID NOT NULL REFERENCES projects (id) ON DELETE CASCADE,
    account_id   UUID NOT NULL REFERENCES accounts (id) ON DELETE CASCADE,
    withdrawn_by UUID REFERENCES accounts (id) ON DELETE SET NULL,
    withdrawn_at TIMESTAMPTZ NOT NULL DEFAULT now(),
    ended_by     UUID REFERENCES accounts (id) ON DELETE SET NULL,
    ended_at     TIMESTAMPTZ
);
CREATE UNIQUE INDEX label_withdrawals_open_key ON label_withdrawals (project_id, account_id) WHERE ended_at IS NULL;
COMMENT ON TABLE label_withdrawals IS 'what this account said in this project is left out of snapshots that are taken while a row is open; those taken before stay as they are';
COMMENT ON COLUMN label_withdrawals.withdrawn_by IS 'an admin, or the labeler who withdrew their consent';

-- Snapshots say how they were chosen and what that left out.
ALTER TABLE snapshots
    ADD COLUMN filters  JSONB NOT NULL DEFAULT '{}',
    ADD COLUMN left_out JSONB NOT NULL DEFAULT '{}',
    ADD CONSTRAINT snapshots_filters_object CHECK (jsonb_typeof(filters) = 'object'),
    ADD CONSTRAINT snapshots_left_out_object CHECK (jsonb_typeof(left_out) = 'object');
COMMENT ON COLUMN snapshots.filters IS 'which tasks and labelers were left out on purpose: domain/snapshot_filters.rs';
COMMENT ON COLUMN snapshots.left_out IS 'how many, by reason; counted when it was sealed';

ALTER TABLE snapshots ALTER COLUMN line_format SET DEFAULT 4;
COMMENT ON COLUMN snapshots.line_format IS '1: rankings without notes, 2: with notes, 3: with decisions marked and why the task was chosen, 4: with candidates that were left unranked, and demonstrations with what they were made of; set when it is sealed and never changed';

ALTER TABLE demonstrations ADD COLUMN writing TEXT;
COMMENT ON COLUMN demonstrations.writing IS 'of a file: what demonstrations were made of; those of one stay on one side of a split';

CREATE FUNCTION has_refused(labeler UUID, project UUID) RETURNS BOOLEAN LANGUAGE SQL STABLE AS $$
    SELECT EXISTS (
        SELECT 1
        FROM (SELECT max(version) AS version FROM consents WHERE project_id = project) c
        JOIN consent_refusals f ON f.account_id = labeler AND f.project_id = project AND f.version = c.version
        WHERE NOT EXISTS (SELECT 1 FROM acknowledgements k
                          WHERE k.account_id = labeler AND k.project_id = project AND k.subject = 'consent'
                            AND k.version = c.version AND k.withdrawn_at IS NULL))
$$;
COMMENT ON FUNCTION has_refused IS 'whether somebody declined a project''s newest consent, or withdrew their agreement to it, and has not agreed since';
