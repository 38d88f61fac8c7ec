-- Who did what, for those who must answer for the data: written in the transaction of the deed, so that
-- neither is there without the other, and never changed afterwards, whoever asks.

CREATE TABLE audit_events (
    id           UUID PRIMARY KEY,
    at           TIMESTAMPTZ NOT NULL DEFAULT now(),
    account_id   UUID REFERENCES accounts (id),
    action       TEXT NOT NULL,
    subject_kind TEXT,
    subject_id   UUID,
    project_id   UUID REFERENCES projects (id),
    data         JSONB NOT NULL DEFAULT '{}',
    CONSTRAINT audit_events_action_is_word CHECK (action ~ '^[a-z_]+$'),
    CONSTRAINT audit_events_subject_whole CHECK (subject_id IS NULL OR subject_kind IS NOT NULL),
    CONSTRAINT audit_events_data_object CHECK (jsonb_typeof(data) = 'object')
);
CREATE INDEX audit_events_account_idx ON audit_events (account_id, id);
CREATE INDEX audit_events_action_idx ON audit_events (action, id);
CREATE INDEX audit_events_project_idx ON audit_events (project_id, id);
COMMENT ON COLUMN audit_events.account_id IS 'who did it; of a failed sign-in, whose address was typed; null from the command line';
COMMENT ON COLUMN audit_events.action IS 'a word of domain/audit.rs';
COMMENT ON COLUMN audit_events.data IS 'numbers, names of fields and choices; never a secret, never a text of a prompt or a label';

CREATE TRIGGER audit_events_are_immutable BEFORE UPDATE OR DELETE ON audit_events
    FOR EACH ROW EXECUTE FUNCTION refuse_change();
CREATE TRIGGER audit_events_are_kept BEFORE TRUNCATE ON audit_events
    FOR EACH STATEMENT EXECUTE FUNCTION refuse_change();
