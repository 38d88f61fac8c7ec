-- Pages tell labelers how many tasks wait. Counted over all tasks of a project that took longer with each task
-- that was done; from here on only open ones are read, and those whose lease ran out.

CREATE FUNCTION waiting_tasks(project UUID) RETURNS SETOF tasks LANGUAGE sql STABLE AS $$
    SELECT t.*
    FROM tasks t
    WHERE t.project_id = project AND t.purpose = 'label' AND t.closed_at IS NULL AND t.n_held < t.overlap
    UNION ALL
    -- A lease that ran out holds nothing, even before the next lease says so in the table.
    SELECT t.*
    FROM tasks t
    WHERE t.project_id = project AND t.purpose = 'label' AND t.closed_at IS NULL AND t.n_held >= t.overlap
      AND t.id IN (SELECT a.task_id FROM assignments a WHERE a.status = 'leased' AND a.lease_until <= now())
$$;

-- Small ones: runs are counted and deleted by their tasks, acknowledgements by their project.
CREATE INDEX tasks_run_id_idx ON tasks (run_id) WHERE run_id IS NOT NULL;
CREATE INDEX acknowledgements_project_id_idx ON acknowledgements (project_id, subject);

-- A builder that was not heard of for a minute may come back after another took its place.
ALTER TABLE exports ADD COLUMN n_claims INTEGER NOT NULL DEFAULT 0;
COMMENT ON COLUMN exports.n_claims IS 'which builder it is; what an earlier one reports counts no more';
