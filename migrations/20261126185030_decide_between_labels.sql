-- Where labelers rank the same candidates the other way round, somebody must decide, and find the worst cases
-- first. How far the rankings of a task contradict each other is kept beside it, measured with each
-- submission, since counting over all pairs of a project takes longer than a page may.

CREATE TABLE conflicts (
    task_id     UUID PRIMARY KEY REFERENCES tasks (id) ON DELETE CASCADE,
    project_id  UUID NOT NULL REFERENCES projects (id) ON DELETE CASCADE,
    n_rankings  INTEGER NOT NULL,
    n_pairs     INTEGER NOT NULL,
    n_conflicts INTEGER NOT NULL,
    share       DOUBLE PRECISION NOT NULL GENERATED ALWAYS AS (
        CASE WHEN n_pairs > 0 THEN n_conflicts::DOUBLE PRECISION / n_pairs ELSE 0 END) STORED
);
CREATE INDEX conflicts_worst_idx ON conflicts (project_id, share DESC, task_id) WHERE n_conflicts > 0;
COMMENT ON COLUMN conflicts.n_rankings IS 'newest versions of submitted labels, decisions not among them';
COMMENT ON COLUMN conflicts.n_pairs IS 'pairs of candidates that at least two of them judged';
COMMENT ON COLUMN conflicts.n_conflicts IS 'of these, pairs of which one labeler prefers the one and another the other; a tie contradicts nobody';

CREATE FUNCTION measure_conflicts(tasks_measured UUID[]) RETURNS VOID LANGUAGE sql AS $$
    WITH newest AS (
        SELECT DISTINCT ON (a.id) a.task_id, r.id
        FROM assignments a
        JOIN rankings r ON r.assignment_id = a.id
        WHERE a.task_id = ANY (tasks_measured) AND a.status = 'submitted' AND NOT a.is_adjudication
        ORDER BY a.id, r.version DESC
    ), pairs AS (
        SELECT n.task_id, count(*) AS n,
               coalesce(bool_or(c.preferred_id < c.other_id) FILTER (WHERE NOT c.is_tie), FALSE)
               AND coalesce(bool_or(c.preferred_id > c.other_id) FILTER (WHERE NOT c.is_tie), FALSE) AS is_conflict
        FROM newest n
        JOIN comparisons c ON c.ranking_id = n.id
        GROUP BY n.task_id, least(c.preferred_id, c.other_id), greatest(c.preferred_id, c.other_id)
    )
    INSERT INTO conflicts (task_id, project_id, n_rankings, n_pairs, n_conflicts)
    SELECT t.id, t.project_id, k.n,
           (SELECT count(*) FROM pairs p WHERE p.task_id = t.id AND p.n > 1),
           (SELECT count(*) FROM pairs p WHERE p.task_id = t.id AND p.is_conflict)
    FROM tasks t
    JOIN (SELECT task_id, count(*) AS n FROM newest GROUP BY task_id) k ON k.task_id = t.id
    WHERE k.n > 1
    ON CONFLICT (task_id) DO UPDATE
        SET n_rankings = EXCLUDED.n_rankings, n_pairs = EXCLUDED.n_pairs, n_conflicts = EXCLUDED.n_conflicts
$$;
SELECT measure_conflicts(ARRAY(SELECT id FROM tasks WHERE overlap > 1 AND purpose = 'label'));

-- A decision is a label of its own, of whoever decided; there may be several, and the newest stands.
CREATE INDEX assignments_decisions_idx ON assignments (task_id) WHERE is_adjudication;

-- Which labels a snapshot took. Those that were taken before there were decisions hold labels alone.
ALTER TABLE snapshots
    ADD COLUMN labels TEXT NOT NULL DEFAULT 'labels',
    ADD CONSTRAINT snapshots_labels_known CHECK (labels IN ('adjudicated', 'all', 'labels'));
ALTER TABLE snapshots ALTER COLUMN labels SET DEFAULT 'adjudicated';
COMMENT ON COLUMN snapshots.labels IS 'adjudicated: a decision in place of the labels it decides between; all: labels and decisions; labels: no decision';

-- Why a labeler got a task is written down with the lease: the task may be put elsewhere in the queue later,
-- and an exported line never changes.
ALTER TABLE assignments
    ADD COLUMN chosen_by    TEXT,
    ADD COLUMN disagreement REAL;
COMMENT ON COLUMN assignments.chosen_by IS 'the task''s when it was leased';
COMMENT ON COLUMN assignments.disagreement IS 'the task''s when it was leased';
ALTER TABLE snapshots ALTER COLUMN line_format SET DEFAULT 3;
COMMENT ON COLUMN snapshots.line_format IS '1: rankings without notes, 2: with notes, 3: with decisions marked and why the task was chosen; set when it is sealed and never changed';
