-- The paper's labelers had a chat room for questions. Here a question belongs to the task at hand, an admin
-- answers it where it stands, and an answer that helps everybody can be published beside the guidelines.
-- Nothing of it is ever changed: another answer is another row, and so is taking a published one back.

CREATE TABLE questions (
    id              UUID PRIMARY KEY,
    project_id      UUID NOT NULL REFERENCES projects (id) ON DELETE CASCADE,
    task_id         UUID NOT NULL REFERENCES tasks (id) ON DELETE CASCADE,
    assignment_id   UUID NOT NULL REFERENCES assignments (id) ON DELETE CASCADE,
    asked_by        UUID NOT NULL REFERENCES accounts (id),
    markdown        TEXT NOT NULL,
    idempotency_key TEXT NOT NULL,
    created_at      TIMESTAMPTZ NOT NULL DEFAULT now(),
    CONSTRAINT questions_markdown_said CHECK (btrim(markdown) <> ''),
    CONSTRAINT questions_idempotency_key UNIQUE (assignment_id, idempotency_key)
);
CREATE INDEX questions_project_id_idx ON questions (project_id, id);
CREATE INDEX questions_asked_by_idx ON questions (asked_by);
CREATE TRIGGER questions_are_immutable BEFORE UPDATE OR DELETE ON questions
    FOR EACH ROW EXECUTE FUNCTION refuse_change();

CREATE TABLE answers (
    id                 UUID PRIMARY KEY,
    question_id        UUID NOT NULL REFERENCES questions (id) ON DELETE CASCADE,
    answered_by        UUID NOT NULL REFERENCES accounts (id),
    markdown           TEXT NOT NULL,
    published_question TEXT,
    created_at         TIMESTAMPTZ NOT NULL DEFAULT now(),
    CONSTRAINT answers_markdown_said CHECK (btrim(markdown) <> ''),
    CONSTRAINT answers_published_question_said CHECK (btrim(published_question) <> '')
);
CREATE INDEX answers_question_id_idx ON answers (question_id);
CREATE TRIGGER answers_are_immutable BEFORE UPDATE OR DELETE ON answers
    FOR EACH ROW EXECUTE FUNCTION refuse_change();
COMMENT ON COLUMN answers.published_question IS 'the question as every labeler of the project reads it beside this answer, without who asked; null where only the asker reads it';

CREATE TABLE answer_reads (
    answer_id  UUID NOT NULL REFERENCES answers (id) ON DELETE CASCADE,
    account_id UUID NOT NULL REFERENCES accounts (id) ON DELETE CASCADE,
    at         TIMESTAMPTZ NOT NULL DEFAULT now(),
    PRIMARY KEY (answer_id, account_id)
);

CREATE TABLE answer_withdrawals (
    answer_id    UUID PRIMARY KEY REFERENCES answers (id) ON DELETE CASCADE,
    withdrawn_by UUID NOT NULL REFERENCES accounts (id),
    at           TIMESTAMPTZ NOT NULL DEFAULT now()
);
COMMENT ON TABLE answer_withdrawals IS 'published answers that were taken back: only the asker reads them now';
