-- A task is no longer always the ranking of K candidates: two may be compared, a demonstration written,
-- a prompt reviewed. Some tasks are there to learn about labelers (gold, repeats, screening) and never
-- reach a dataset. The queue's order is a key of the task, so that the next task is the first entry of an
-- index, however the order came about.

ALTER TABLE tasks
    ADD COLUMN purpose      TEXT NOT NULL DEFAULT 'label',
    ADD COLUMN language     TEXT,
    ADD COLUMN sort_key     DOUBLE PRECISION NOT NULL DEFAULT extract(epoch FROM clock_timestamp()),
    ADD COLUMN chosen_by    TEXT NOT NULL DEFAULT 'oldest',
    ADD COLUMN disagreement REAL,
    ADD COLUMN brief        JSONB,
    ADD COLUMN only_for     UUID REFERENCES accounts (id),
    ADD COLUMN repeat_of    UUID REFERENCES tasks (id) ON DELETE CASCADE,
    ALTER COLUMN prompt_id DROP NOT NULL,
    DROP CONSTRAINT tasks_kind_known,
    DROP CONSTRAINT tasks_overlap_range,
    ADD CONSTRAINT tasks_kind_known CHECK (kind IN ('rank', 'compare', 'demonstrate', 'review')),
    ADD CONSTRAINT tasks_purpose_known CHECK (purpose IN ('label', 'gold', 'repeat', 'screening')),
    ADD CONSTRAINT tasks_chosen_by_known CHECK (chosen_by IN ('oldest', 'random', 'informative', 'evaluation')),
    -- Everybody answers a gold task.
    ADD CONSTRAINT tasks_overlap_range CHECK (overlap BETWEEN 1 AND CASE WHEN purpose IN ('gold', 'screening') THEN 10000 ELSE 100 END),
    ADD CONSTRAINT tasks_prompt_known CHECK (prompt_id IS NOT NULL OR kind = 'demonstrate'),
    ADD CONSTRAINT tasks_repeat_is_for_one CHECK ((purpose = 'repeat') = (repeat_of IS NOT NULL AND only_for IS NOT NULL));

UPDATE tasks t SET sort_key = extract(epoch FROM t.created_at), language = p.language
FROM prompts p WHERE p.id = t.prompt_id;

COMMENT ON COLUMN tasks.purpose IS 'label: for the dataset; gold, repeat, screening: to learn about labelers, never in a snapshot. Never sent to a labeler';
COMMENT ON COLUMN tasks.language IS 'of the prompt, copied so that the queue reads one table';
COMMENT ON COLUMN tasks.sort_key IS 'the queue''s order within a project, lowest first';
COMMENT ON COLUMN tasks.chosen_by IS 'why it stands where it stands in the queue';
COMMENT ON COLUMN tasks.disagreement IS 'of an ensemble of reward models over its candidates, where it was measured';
COMMENT ON COLUMN tasks.brief IS 'of a demonstration: {"kind": "plain" | "few_shot" | "user_based", "use_case": "..."}';
COMMENT ON COLUMN tasks.repeat_of IS 'the task that the labeler in only_for did before: a task of its own, so that a labeler never has one task twice';

DROP INDEX tasks_open_idx;
CREATE INDEX tasks_queue_idx ON tasks (project_id, sort_key, id)
    WHERE closed_at IS NULL AND n_held < overlap AND purpose = 'label';
CREATE INDEX tasks_gold_idx ON tasks (project_id) WHERE closed_at IS NULL AND purpose = 'gold';
CREATE INDEX tasks_repeats_idx ON tasks (only_for, repeat_of) WHERE purpose = 'repeat';
CREATE INDEX tasks_prompt_id_idx ON tasks (prompt_id);

-- What is known to be right of a gold or screening task.
CREATE TABLE gold_answers (
    task_id    UUID NOT NULL REFERENCES tasks (id) ON DELETE CASCADE,
    version    INTEGER NOT NULL,
    answer     JSONB NOT NULL,
    created_by UUID REFERENCES accounts (id) ON DELETE SET NULL,
    created_at TIMESTAMPTZ NOT NULL DEFAULT now(),
    PRIMARY KEY (task_id, version)
);
COMMENT ON COLUMN gold_answers.answer IS '{"candidates": [{"slot": 0, "rank": 1, "flags": {"hallucination": true}}, ...]}: only what is known';
CREATE TRIGGER gold_answers_are_immutable BEFORE UPDATE OR DELETE ON gold_answers
    FOR EACH ROW EXECUTE FUNCTION refuse_change();

ALTER TABLE assignments
    ADD COLUMN opened_at       TIMESTAMPTZ,
    ADD COLUMN active_ms       BIGINT NOT NULL DEFAULT 0,
    ADD COLUMN idle_ms         BIGINT NOT NULL DEFAULT 0,
    ADD COLUMN is_adjudication BOOLEAN NOT NULL DEFAULT FALSE,
    DROP CONSTRAINT assignments_place_held,
    ADD CONSTRAINT assignments_place_held CHECK (
        (status = 'leased' AND place IS NOT NULL)
        OR (status = 'submitted' AND (place IS NOT NULL OR is_late OR is_adjudication))
        OR (status IN ('skipped', 'expired') AND place IS NULL)),
    ADD CONSTRAINT assignments_times_range CHECK (active_ms >= 0 AND idle_ms >= 0);
CREATE INDEX assignments_ended_idx ON assignments (labeler_id, ended_at) WHERE status = 'submitted';
COMMENT ON COLUMN assignments.opened_at IS 'when its page was first shown; a prefetched one is leased before';
COMMENT ON COLUMN assignments.active_ms IS 'milliseconds with the page in sight and keys or pointer used within the last minute, as the browser counted';
COMMENT ON COLUMN assignments.idle_ms IS 'milliseconds open but not active';
COMMENT ON COLUMN assignments.is_adjudication IS 'a decision between conflicting labels: a label of its own that holds no place';

ALTER TABLE rankings
    ADD COLUMN strength     SMALLINT,
    ADD COLUMN is_all_bad   BOOLEAN NOT NULL DEFAULT FALSE,
    ADD COLUMN is_untouched BOOLEAN NOT NULL DEFAULT FALSE,
    ADD COLUMN active_ms    BIGINT,
    ADD COLUMN idle_ms      BIGINT,
    ADD CONSTRAINT rankings_strength_range CHECK (strength BETWEEN 1 AND 4);
COMMENT ON COLUMN rankings.strength IS 'of a comparison of two: 1 barely, 2 slightly, 3 clearly, 4 far better; null where it was not asked or is a tie';
COMMENT ON COLUMN rankings.is_all_bad IS 'none of the candidates is any good, whatever their order';
COMMENT ON COLUMN rankings.is_untouched IS 'the ranks are the order shown, first to last: an attention signal';
COMMENT ON COLUMN rankings.active_ms IS 'of the assignment when this version was submitted';

ALTER TABLE ratings
    ALTER COLUMN rank DROP NOT NULL,
    ADD COLUMN scales JSONB NOT NULL DEFAULT '{}',
    ADD COLUMN note   TEXT NOT NULL DEFAULT '';
COMMENT ON COLUMN ratings.rank IS '1 is best; equal ranks are ties; null where the labeler could not judge this one';
COMMENT ON COLUMN ratings.scales IS 'answers to the form''s further scales: {"truthful": 6}; a missing key is unanswered';
