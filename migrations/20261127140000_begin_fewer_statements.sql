-- Most of what a lease and a submission cost in the database is the beginning of statements, not their work: each is
-- prepared to run anew, with every check constraint and condition of a trigger of the table that it writes. So the same
-- is said in fewer statements, and conditions are read only where a column is written that they are about.

-- They fire where one of the columns is written, which nobody does for most of a row's life; with a condition
-- alone, Postgres reads it for every change.
DROP TRIGGER assignments_stay_as_exported ON assignments;
CREATE TRIGGER assignments_stay_as_exported
    BEFORE UPDATE OF task_id, labeler_id, display_order, guidelines_version, form_version, is_adjudication, chosen_by,
                     disagreement
    ON assignments
    FOR EACH ROW WHEN (
        (OLD.task_id, OLD.labeler_id, OLD.display_order, OLD.guidelines_version, OLD.form_version,
         OLD.is_adjudication, OLD.chosen_by, OLD.disagreement)
        IS DISTINCT FROM (NEW.task_id, NEW.labeler_id, NEW.display_order, NEW.guidelines_version, NEW.form_version,
                          NEW.is_adjudication, NEW.chosen_by, NEW.disagreement))
    EXECUTE FUNCTION refuse_change_of_ranked();
DROP TRIGGER tasks_stay_as_exported ON tasks;
CREATE TRIGGER tasks_stay_as_exported BEFORE UPDATE OF prompt_id ON tasks
    FOR EACH ROW WHEN (OLD.prompt_id IS DISTINCT FROM NEW.prompt_id)
    EXECUTE FUNCTION refuse_change_of_exported();

-- assignments_place_held says which places go with which status, and so knows them all.
ALTER TABLE assignments DROP CONSTRAINT assignments_status_known;
ALTER TABLE assignments
    DROP CONSTRAINT assignments_times_range,
    DROP CONSTRAINT assignments_spent_before_ms_check,
    ADD CONSTRAINT assignments_times_range CHECK (active_ms >= 0 AND idle_ms >= 0 AND spent_before_ms >= 0);

-- As before (20261127100000), one statement fewer: nulls when this labeler ended work on the task after it was
-- chosen.
DROP FUNCTION hold_place(UUID, UUID, UUID, DOUBLE PRECISION[], INTEGER, INTEGER, BOOLEAN);
CREATE FUNCTION hold_place(
    held_task UUID, holder UUID, new_id UUID, shuffle DOUBLE PRECISION[], guidelines INTEGER, form INTEGER,
    opens BOOLEAN,
    OUT lease_id UUID, OUT task_kind TEXT, OUT shown SMALLINT[])
LANGUAGE plpgsql AS $$
BEGIN
    INSERT INTO assignments AS a
        (id, task_id, labeler_id, place, display_order, guidelines_version, form_version, lease_until,
         opened_at, chosen_by, disagreement)
    SELECT new_id, t.id, holder,
           (SELECT min(n) FROM generate_series(0, t.n_held) AS n
            WHERE NOT EXISTS (SELECT 1 FROM assignments b WHERE b.task_id = t.id AND b.place = n OFFSET 0)),
           ARRAY(SELECT c.slot FROM candidates c WHERE c.task_id = t.id ORDER BY shuffle[c.slot + 1], c.slot),
           guidelines, form, now() + make_interval(secs => p.lease_seconds),
           CASE WHEN opens THEN now() END, t.chosen_by, t.disagreement
    FROM tasks t
    JOIN projects p ON p.id = t.project_id
    WHERE t.id = held_task
    ON CONFLICT ON CONSTRAINT assignments_task_labeler_key DO UPDATE
        SET status = 'leased', place = EXCLUDED.place, leased_at = now(),
            lease_until = EXCLUDED.lease_until, ended_at = NULL,
            opened_at = EXCLUDED.opened_at, spent_before_ms = a.active_ms + a.idle_ms,
            -- The rules in force now; but what was typed belongs to its form.
            guidelines_version = EXCLUDED.guidelines_version,
            form_version = CASE WHEN a.draft IS NULL THEN EXCLUDED.form_version ELSE a.form_version END,
            chosen_by = EXCLUDED.chosen_by, disagreement = EXCLUDED.disagreement
        WHERE a.status = 'expired'
    RETURNING a.id, (SELECT t.kind FROM tasks t WHERE t.id = a.task_id), a.display_order
    INTO lease_id, task_kind, shown;
END
$$;

-- As before; whether leases ran out is asked with the rest.
CREATE OR REPLACE FUNCTION lease_next(
    project UUID, labeler UUID, new_id UUID, new_task UUID, draw DOUBLE PRECISION, shuffle DOUBLE PRECISION[],
    most_held BIGINT, passes_expired BOOLEAN, opens BOOLEAN,
    OUT outcome TEXT, OUT n_held BIGINT, OUT lease_id UUID, OUT chosen UUID, OUT chosen_kind TEXT, OUT shown SMALLINT[])
LANGUAGE plpgsql AS $$
DECLARE
    rules RECORD;
    held RECORD;
    knows BOOLEAN;
BEGIN
    -- Makes the leases of an account wait for each other, so that each counts those before it. Before any task is
    -- locked: two leases of one account then never wait for each other's tasks. The lock leaves other tables free
    -- to refer to the account.
    PERFORM 1 FROM accounts u WHERE u.id = labeler FOR NO KEY UPDATE;

    SELECT p.gold_share, p.repeat_share, p.repeat_after_days::INT AS repeat_after_days, u.is_simulated,
           p.archived_at IS NULL AND (p.is_open OR m.account_id IS NOT NULL OR u.is_simulated) AS is_assigned,
           coalesce(m.languages, '{}') AS languages,
           coalesce(g.version, 0) AS guidelines_version,
           coalesce((SELECT max(f.version) FROM forms f WHERE f.project_id = p.id), 0) AS form_version,
           -- A simulated labeler reads no guidelines.
           u.is_simulated
           OR (g.version IS NULL OR EXISTS (
                   SELECT 1 FROM acknowledgements k
                   WHERE k.account_id = u.id AND k.project_id = p.id
                     AND k.subject = 'guidelines' AND k.version = g.version))
              AND (c.version IS NULL OR EXISTS (
                   SELECT 1 FROM acknowledgements k
                   WHERE k.account_id = u.id AND k.project_id = p.id
                     AND k.subject = 'consent' AND k.version = c.version AND k.withdrawn_at IS NULL))
               AS has_acknowledged,
           (SELECT count(*) FROM assignments a JOIN tasks t ON t.id = a.task_id
            WHERE a.labeler_id = u.id AND t.project_id = p.id
              AND a.status = 'leased' AND a.lease_until > now()) AS n_held,
           NOT passes_expired AND EXISTS (
               SELECT 1 FROM assignments a JOIN tasks t ON t.id = a.task_id
               WHERE a.status = 'leased' AND a.lease_until <= now() AND t.project_id = p.id) AS has_expired
    INTO rules
    FROM projects p
    JOIN accounts u ON u.id = labeler
    LEFT JOIN members m ON m.project_id = p.id AND m.account_id = u.id
    CROSS JOIN LATERAL (SELECT max(version) AS version FROM guidelines WHERE project_id = p.id) g
    CROSS JOIN LATERAL (SELECT max(version) AS version FROM consents WHERE project_id = p.id) c
    WHERE p.id = project;
    outcome := CASE
        WHEN NOT FOUND THEN 'unknown_project'
        WHEN rules.has_expired THEN 'expired_first'
        WHEN NOT rules.is_assigned THEN 'not_assigned'
        WHEN NOT rules.has_acknowledged THEN 'acknowledge_first'
        WHEN rules.n_held >= most_held THEN 'most_leases'
    END;
    n_held := rules.n_held;
    IF outcome IS NOT NULL THEN
        RETURN;
    END IF;

    IF draw < rules.gold_share THEN
        -- Any gold task whose prompt this labeler has not had, in this task or another: what comes a second time
        -- is known again, and says that it is not there for its label.
        SELECT t.id INTO chosen
        FROM tasks t
        WHERE t.project_id = project AND t.purpose = 'gold' AND t.closed_at IS NULL AND t.n_held < t.overlap
          AND (cardinality(rules.languages) = 0 OR t.language IS NULL OR t.language = ANY (rules.languages))
          AND NOT (rules.is_simulated AND t.kind IN ('demonstrate', 'review'))
          AND NOT EXISTS (
              SELECT 1 FROM assignments a JOIN tasks o ON o.id = a.task_id
              WHERE a.labeler_id = labeler AND o.prompt_id = t.prompt_id)
        ORDER BY random()
        LIMIT 1
        FOR UPDATE OF t SKIP LOCKED;
    ELSIF draw < rules.gold_share + rules.repeat_share THEN
        chosen := find_or_make_repeat(project, labeler, rules.repeat_after_days, new_task);
    END IF;

    -- Rows that others are leasing right now are passed over, and tasks whose copy this labeler had as gold or when
    -- they were screened: they would know them again. `OFFSET 0` has each exclusion looked up by the key of a task
    -- that is met: made a join, it would read all that the labeler ever had, for one task.
    IF chosen IS NULL THEN
        SELECT t.id INTO chosen
        FROM tasks t
        WHERE t.project_id = project AND t.purpose = 'label' AND t.closed_at IS NULL AND t.n_held < t.overlap
          AND (cardinality(rules.languages) = 0 OR t.language IS NULL OR t.language = ANY (rules.languages))
          AND NOT (rules.is_simulated AND t.kind IN ('demonstrate', 'review'))
          AND NOT EXISTS (
              SELECT 1 FROM assignments a
              WHERE a.task_id = t.id AND a.labeler_id = labeler AND a.status <> 'expired'
              OFFSET 0)
          AND NOT EXISTS (
              SELECT 1 FROM tasks c JOIN assignments a ON a.task_id = c.id
              WHERE c.copy_of = t.id AND a.labeler_id = labeler
              OFFSET 0)
        ORDER BY t.sort_key, t.id
        LIMIT 1
        FOR UPDATE OF t SKIP LOCKED;
    END IF;

    -- Only when nothing else is left do we wait for those that others hold, since one of them may still have a free
    -- place; and a task that is known from its copy is better labelled than never done.
    FOREACH knows IN ARRAY ARRAY[FALSE, TRUE] LOOP
        EXIT WHEN chosen IS NOT NULL;
        SELECT t.id INTO chosen
        FROM tasks t
        WHERE t.project_id = project AND t.purpose = 'label' AND t.closed_at IS NULL AND t.n_held < t.overlap
          AND (cardinality(rules.languages) = 0 OR t.language IS NULL OR t.language = ANY (rules.languages))
          AND NOT (rules.is_simulated AND t.kind IN ('demonstrate', 'review'))
          AND NOT EXISTS (
              SELECT 1 FROM assignments a
              WHERE a.task_id = t.id AND a.labeler_id = labeler AND a.status <> 'expired'
              OFFSET 0)
          AND (knows OR NOT EXISTS (
              SELECT 1 FROM tasks c JOIN assignments a ON a.task_id = c.id
              WHERE c.copy_of = t.id AND a.labeler_id = labeler
              OFFSET 0))
        ORDER BY t.sort_key, t.id
        LIMIT 1
        FOR UPDATE OF t;
    END LOOP;
    IF chosen IS NULL THEN
        outcome := 'nothing';
        RETURN;
    END IF;

    held := hold_place(chosen, labeler, new_id, shuffle, rules.guidelines_version, rules.form_version, opens);
    lease_id := held.lease_id;
    chosen_kind := held.task_kind;
    shown := held.shown;
    outcome := CASE WHEN lease_id IS NOT NULL THEN 'leased' ELSE 'busy' END;
END
$$;

-- As before; the task and the assignment are locked by one statement.
CREATE OR REPLACE FUNCTION begin_submission(
    submitted UUID, labeler UUID, key TEXT, digest BYTEA, replaced INTEGER, seen BIGINT, form INTEGER, content JSONB,
    active_until BIGINT, idle_until BIGINT, correctable BIGINT,
    OUT outcome TEXT, OUT said UUID, OUT version INTEGER, OUT active BIGINT, OUT idle BIGINT)
LANGUAGE plpgsql AS $$
DECLARE
    own RECORD;
    earlier RECORD;
BEGIN
    -- The task first, in the order of the clauses. Saving a draft locks the assignment alone: one that is being
    -- saved is waited for, and seen.
    SELECT a.status, a.form_version, a.draft, a.draft_revision INTO own
    FROM assignments a
    JOIN tasks t ON t.id = a.task_id
    WHERE a.id = submitted AND a.labeler_id = labeler
    FOR UPDATE OF t
    FOR NO KEY UPDATE OF a;
    IF NOT FOUND THEN
        outcome := 'not_found';
        RETURN;
    END IF;

    SELECT coalesce(max(s.version), 0) AS newest,
           (array_agg(s.id) FILTER (WHERE s.idempotency_key = key))[1] AS id,
           min(s.version) FILTER (WHERE s.idempotency_key = key) AS version,
           bool_and(s.request_sha256 = digest) FILTER (WHERE s.idempotency_key = key) AS is_same
    INTO earlier
    FROM submissions s
    WHERE s.assignment_id = submitted;
    IF earlier.id IS NOT NULL THEN
        outcome := CASE WHEN earlier.is_same THEN 'repeated' ELSE 'key_used' END;
        said := earlier.id;
        version := earlier.version;
        RETURN;
    END IF;
    outcome := CASE
        WHEN own.status = 'skipped' THEN 'skipped_already'
        WHEN own.status = 'submitted' AND replaced IS NULL THEN 'submitted_already'
        WHEN own.status = 'submitted' AND replaced <> earlier.newest THEN 'corrected_already'
        WHEN own.status <> 'submitted' AND replaced IS NOT NULL THEN 'nothing_to_correct'
        WHEN own.form_version <> form THEN 'other_form'
        WHEN own.draft_revision <> seen AND own.draft IS DISTINCT FROM content THEN 'newer_draft'
    END;
    IF outcome IS NULL AND own.status = 'submitted'
        AND NOT EXISTS (SELECT 1 FROM correctable_assignments(labeler, correctable) c WHERE c.id = submitted)
    THEN
        outcome := 'too_old_to_correct';
    END IF;
    IF outcome IS NOT NULL THEN
        RETURN;
    END IF;

    IF own.status = 'expired' THEN
        -- A free place again, or late without one.
        UPDATE assignments a
        SET status = 'submitted', is_late = TRUE, ended_at = NULL,
            place = (
                SELECT n::SMALLINT FROM generate_series(0, t.overlap - 1) AS n
                WHERE NOT EXISTS (SELECT 1 FROM assignments b WHERE b.task_id = t.id AND b.place = n)
                ORDER BY n LIMIT 1)
        FROM tasks t
        WHERE a.id = submitted AND t.id = a.task_id;
    END IF;
    UPDATE assignments a
    SET status = 'submitted',
        ended_at = CASE a.status WHEN 'submitted' THEN coalesce(a.ended_at, now()) ELSE now() END,
        draft = content, draft_revision = a.draft_revision + 1,
        active_ms = greatest(a.active_ms, active_until), idle_ms = greatest(a.idle_ms, idle_until)
    WHERE a.id = submitted
    RETURNING a.active_ms, a.idle_ms INTO active, idle;
    outcome := 'written';
    version := earlier.newest + 1;
END
$$;

-- As before; the ranking and its ratings are written by one statement.
CREATE OR REPLACE FUNCTION write_ranking(
    new_id UUID, ranked UUID, new_version INTEGER, key TEXT, digest BYTEA, ranking_note TEXT, new_strength SMALLINT,
    all_bad BOOLEAN, untouched BOOLEAN, active BIGINT, idle BIGINT,
    slots SMALLINT[], ranks SMALLINT[], overalls SMALLINT[], all_scales JSONB[], all_flags JSONB[], notes TEXT[])
RETURNS VOID LANGUAGE plpgsql AS $$
DECLARE
    own RECORD;
BEGIN
    -- Asked by the end and not by the status, which an index of all that was submitted serves: it would be read.
    SELECT a.task_id,
           t.purpose = 'label' AND EXISTS (
               SELECT 1 FROM assignments b WHERE b.task_id = a.task_id AND b.id <> a.id AND b.ended_at IS NOT NULL)
               AS has_others
    INTO own
    FROM assignments a
    JOIN tasks t ON t.id = a.task_id
    WHERE a.id = ranked;
    WITH said AS (
        INSERT INTO rankings (id, assignment_id, version, idempotency_key, request_sha256, note, strength,
                              is_all_bad, is_untouched, active_ms, idle_ms)
        VALUES (new_id, ranked, new_version, key, digest, ranking_note, new_strength, all_bad, untouched, active, idle)
    )
    INSERT INTO ratings (ranking_id, completion_id, slot, rank, overall, scales, flags, note)
    SELECT new_id, c.completion_id, c.slot, ranks[c.at], overalls[c.at], all_scales[c.at], all_flags[c.at], notes[c.at]
    FROM (SELECT k.completion_id, k.slot, array_position(slots, k.slot) AS at
          FROM candidates k
          WHERE k.task_id = own.task_id) AS c
    WHERE c.at IS NOT NULL;
    IF own.has_others THEN
        PERFORM measure_conflicts(ARRAY[own.task_id]);
    END IF;
END
$$;

-- As before, but in a language that keeps the plan of its query: of an SQL function it is made anew in each query that
-- asks, and pages of labelers ask each time (1 ms of a page's 8).
CREATE OR REPLACE FUNCTION has_refused(labeler UUID, project UUID) RETURNS BOOLEAN LANGUAGE plpgsql STABLE AS $$
BEGIN
    RETURN EXISTS (
        SELECT 1
        FROM (SELECT max(version) AS version FROM consents WHERE project_id = project) c
        JOIN consent_refusals f ON f.account_id = labeler AND f.project_id = project AND f.version = c.version
        WHERE NOT EXISTS (SELECT 1 FROM acknowledgements k
                          WHERE k.account_id = labeler AND k.project_id = project AND k.subject = 'consent'
                            AND k.version = c.version AND k.withdrawn_at IS NULL));
END
$$;
