-- A loop of a labeler, lease and submission, took some twenty-five statements, and most of its time went into
-- sending them. Each step has to see what the step before it locked, so they cannot be one statement; but in a
-- function every statement sees it, too, and the program asks once. All or nothing, as any statement.

-- Comparisons follow from ranks: kept beside them they were ten more rows for each ranking, each held against
-- three keys, and the one place where the two could contradict each other.
CREATE VIEW comparisons_of_ratings AS
SELECT a.ranking_id,
       CASE WHEN b.rank < a.rank THEN b.completion_id ELSE a.completion_id END AS preferred_id,
       CASE WHEN b.rank < a.rank THEN a.completion_id ELSE b.completion_id END AS other_id,
       a.rank = b.rank AS is_tie
FROM ratings a
JOIN ratings b ON b.ranking_id = a.ranking_id AND b.slot > a.slot
WHERE a.rank IS NOT NULL AND b.rank IS NOT NULL;

DO $$
DECLARE
    n_lost BIGINT;
BEGIN
    SELECT count(*) INTO n_lost FROM (
        (TABLE comparisons EXCEPT TABLE comparisons_of_ratings)
        UNION ALL (TABLE comparisons_of_ratings EXCEPT TABLE comparisons)) AS d;
    IF n_lost > 0 THEN
        RAISE EXCEPTION '% comparisons do not follow from the ranks of their ranking; nothing was changed', n_lost;
    END IF;
END
$$;

DROP TABLE comparisons;
ALTER VIEW comparisons_of_ratings RENAME TO comparisons;
COMMENT ON VIEW comparisons IS 'the C(K,2) pairs of a ranking, of candidates that have a rank; for a tie the two stand in slot order';

-- A rating is of a candidate of its ranking's task, which says more than that its completion exists; asked once
-- for all ratings of a ranking, and not for each. `OFFSET 0`, here and below, has rows looked up by their keys: made a
-- join, the plan of a table that was small when it was first asked for would read all of it ever after.
CREATE FUNCTION refuse_ratings_of_others() RETURNS TRIGGER LANGUAGE plpgsql AS $$
BEGIN
    IF EXISTS (
        SELECT 1
        FROM new_ratings n
        WHERE NOT EXISTS (
            SELECT 1
            FROM candidates c
            WHERE c.slot = n.slot AND c.completion_id = n.completion_id
              AND c.task_id = (SELECT a.task_id FROM assignments a
                               WHERE a.id = (SELECT r.assignment_id FROM rankings r WHERE r.id = n.ranking_id))
            OFFSET 0))
    THEN
        RAISE EXCEPTION 'a rating is of a candidate of its task' USING ERRCODE = 'foreign_key_violation';
    END IF;
    RETURN NULL;
END
$$;
CREATE TRIGGER ratings_are_of_candidates AFTER INSERT ON ratings
    REFERENCING NEW TABLE AS new_ratings
    FOR EACH STATEMENT EXECUTE FUNCTION refuse_ratings_of_others();
-- The completion of a candidate cannot go (candidates_completion_id_fkey), and candidates go with their task alone
-- (candidates_are_kept), which stays where somebody labelled it.
ALTER TABLE ratings DROP CONSTRAINT ratings_completion_id_fkey;

-- What was spent on a task before its lease was renewed counts on, and nobody spends more than that and the time since.
ALTER TABLE assignments ADD COLUMN spent_before_ms BIGINT NOT NULL DEFAULT 0 CHECK (spent_before_ms >= 0);
COMMENT ON COLUMN assignments.spent_before_ms IS 'active and idle time as of the last renewal of the lease';

-- Takes the lowest free place of a locked task: among n + 1 places n holders leave one free. An expired
-- assignment of the same labeler is renewed, with its order and draft. No row when this labeler ended work on
-- the task after it was chosen: the choice cannot see what another request of theirs wrote while it ran.
-- `shuffle` holds nine random numbers: candidates are shown in the order of theirs. With `opens` the task is shown
-- at once, and its time begins.
CREATE FUNCTION hold_place(
    held_task UUID, holder UUID, new_id UUID, shuffle DOUBLE PRECISION[], guidelines INTEGER, form INTEGER,
    opens BOOLEAN)
RETURNS TABLE (lease_id UUID, task_kind TEXT, shown SMALLINT[]) LANGUAGE plpgsql AS $$
BEGIN
    RETURN QUERY
    WITH held AS (
        INSERT INTO assignments AS a
            (id, task_id, labeler_id, place, display_order, guidelines_version, form_version, lease_until,
             opened_at, chosen_by, disagreement)
        SELECT new_id, t.id, holder, free.place,
               ARRAY(SELECT c.slot FROM candidates c WHERE c.task_id = t.id
                     ORDER BY shuffle[c.slot + 1], c.slot),
               guidelines, form, now() + make_interval(secs => p.lease_seconds),
               CASE WHEN opens THEN now() END, t.chosen_by, t.disagreement
        FROM tasks t
        JOIN projects p ON p.id = t.project_id
        CROSS JOIN LATERAL (
            SELECT n::SMALLINT AS place FROM generate_series(0, t.n_held) AS n
            WHERE NOT EXISTS (SELECT 1 FROM assignments b WHERE b.task_id = t.id AND b.place = n OFFSET 0)
            ORDER BY n LIMIT 1
        ) AS free
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
        RETURNING a.id, a.task_id, a.display_order
    )
    SELECT held.id, t.kind, held.display_order FROM held JOIN tasks t ON t.id = held.task_id;
END
$$;

-- Chooses the next task of a project for a labeler, and holds a place of it: now and then a gold task or one that
-- they did before, otherwise the first of the queue that they have not had.
--
-- `draw` is a random number from 0 to 1 that decides between gold, repeat and queue; `new_id` and `new_task` are
-- keys for the assignment, and for the task where a repeat is made. `outcome` says what came of it:
--   leased             the other columns tell which
--   nothing            no task waits for this labeler
--   unknown_project, not_assigned, acknowledge_first, most_leases (with `n_held`): as they say
--   expired_first      leases of the project ran out: end them in a transaction of their own, so that its locks are
--                      gone, and ask again with `passes_expired`. Asked so, those that others hold are left alone.
--   busy               another request of the labeler ended work on the chosen task meanwhile: ask again
CREATE FUNCTION lease_next(
    project UUID, labeler UUID, new_id UUID, new_task UUID, draw DOUBLE PRECISION, shuffle DOUBLE PRECISION[],
    most_held BIGINT, passes_expired BOOLEAN, opens BOOLEAN,
    OUT outcome TEXT, OUT n_held BIGINT, OUT lease_id UUID, OUT chosen UUID, OUT chosen_kind TEXT, OUT shown SMALLINT[])
LANGUAGE plpgsql AS $$
DECLARE
    rules RECORD;
    knows BOOLEAN;
BEGIN
    IF NOT passes_expired AND EXISTS (
        SELECT 1 FROM assignments a JOIN tasks t ON t.id = a.task_id
        WHERE a.status = 'leased' AND a.lease_until <= now() AND t.project_id = project)
    THEN
        outcome := 'expired_first';
        RETURN;
    END IF;

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
              AND a.status = 'leased' AND a.lease_until > now()) AS n_held
    INTO rules
    FROM projects p
    JOIN accounts u ON u.id = labeler
    LEFT JOIN members m ON m.project_id = p.id AND m.account_id = u.id
    CROSS JOIN LATERAL (SELECT max(version) AS version FROM guidelines WHERE project_id = p.id) g
    CROSS JOIN LATERAL (SELECT max(version) AS version FROM consents WHERE project_id = p.id) c
    WHERE p.id = project;
    outcome := CASE
        WHEN NOT FOUND THEN 'unknown_project'
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

    SELECT h.lease_id, h.task_kind, h.shown INTO lease_id, chosen_kind, shown
    FROM hold_place(chosen, labeler, new_id, shuffle, rules.guidelines_version, rules.form_version, opens) h;
    outcome := CASE WHEN FOUND THEN 'leased' ELSE 'busy' END;
END
$$;

-- A repeat for this labeler, locked: one that waits for them (its lease ran out), or a new one, of a random one of
-- the hundred tasks that they did longest ago, long enough ago and never again. Null when there is no such task.
CREATE FUNCTION find_or_make_repeat(project UUID, labeler UUID, after_days INTEGER, new_task UUID)
RETURNS UUID LANGUAGE plpgsql AS $$
DECLARE
    found_task UUID;
BEGIN
    SELECT t.id INTO found_task
    FROM tasks t
    WHERE t.only_for = labeler AND t.purpose = 'repeat' AND t.project_id = project
      AND t.closed_at IS NULL AND t.n_held < t.overlap
      AND NOT EXISTS (
          SELECT 1 FROM assignments a
          WHERE a.task_id = t.id AND a.labeler_id = labeler AND a.status <> 'expired')
    LIMIT 1
    FOR UPDATE OF t SKIP LOCKED;
    IF found_task IS NULL THEN
        WITH old AS (
            SELECT t.*
            FROM assignments a
            JOIN tasks t ON t.id = a.task_id
            WHERE a.labeler_id = labeler AND a.status = 'submitted' AND t.project_id = project
              AND t.purpose = 'label' AND t.kind IN ('rank', 'compare') AND NOT a.is_adjudication
              AND a.ended_at <= now() - make_interval(days => after_days)
              AND NOT EXISTS (
                  SELECT 1 FROM tasks r
                  WHERE r.only_for = labeler AND r.repeat_of = t.id AND r.purpose = 'repeat')
            ORDER BY a.ended_at
            LIMIT 100
        ), drawn AS (
            SELECT * FROM old ORDER BY random() LIMIT 1
        ), made AS (
            INSERT INTO tasks (id, project_id, prompt_id, kind, purpose, overlap, language, repeat_of, only_for)
            SELECT new_task, project_id, prompt_id, kind, 'repeat', 1, language, id, labeler FROM drawn
            RETURNING id, repeat_of
        ), copied AS (
            INSERT INTO candidates (task_id, slot, completion_id)
            SELECT made.id, c.slot, c.completion_id FROM made JOIN candidates c ON c.task_id = made.repeat_of
        )
        SELECT id INTO found_task FROM made;
    END IF;
    RETURN found_task;
END
$$;

-- What was submitted, of whatever kind.
CREATE VIEW submissions AS
SELECT id, assignment_id, version, idempotency_key, request_sha256 FROM rankings
UNION ALL
SELECT id, assignment_id, version, idempotency_key, request_sha256 FROM writings
UNION ALL
SELECT id, assignment_id, version, idempotency_key, request_sha256 FROM reviews;

-- A labeler's last submissions, newest first, which they can correct. What was said in a screening can be corrected
-- until its last task is done: from then on it is graded and counted as it stands.
CREATE FUNCTION correctable_assignments(labeler UUID, most BIGINT) RETURNS TABLE (id UUID) LANGUAGE sql STABLE AS $$
    SELECT a.id FROM assignments a
    WHERE a.labeler_id = labeler AND a.status = 'submitted' AND NOT a.is_adjudication
      AND NOT EXISTS (
          SELECT 1
          FROM screening_items i
          JOIN screenings s ON s.id = i.screening_id
          WHERE i.task_id = a.task_id AND s.status <> 'started')
    ORDER BY a.ended_at DESC, a.id DESC
    LIMIT most
$$;

-- Ends the work of a labeler with a submission, of whatever kind: locks the task, as leasing does, before the
-- assignment itself, so that neither waits for the other; takes the place back where the lease ran out; keeps what
-- was said as the draft, where a correction begins. What was said is then written by the same transaction.
--
-- `replaced` is the version that is corrected, null for the first submission; `seen` the revision of the draft that
-- the submission began with, null where it is not said; `form` the version under which `content` was read. `outcome` says what came of it:
--   written            go on: `version` is the one to write, `active` and `idle` the time spent until then
--   repeated           this very request was carried out before: `said` and `version` tell what it wrote
--   key_used           its key was used for something else
--   not_found, submitted_already, skipped_already, corrected_already, nothing_to_correct, too_old_to_correct
--   newer_draft        another window saved something else since
--   other_form         the form has changed since it was read: read the assignment again
CREATE FUNCTION begin_submission(
    submitted UUID, labeler UUID, key TEXT, digest BYTEA, replaced INTEGER, seen BIGINT, form INTEGER, content JSONB,
    active_until BIGINT, idle_until BIGINT, correctable BIGINT,
    OUT outcome TEXT, OUT said UUID, OUT version INTEGER, OUT active BIGINT, OUT idle BIGINT)
LANGUAGE plpgsql AS $$
DECLARE
    own RECORD;
    earlier RECORD;
BEGIN
    PERFORM 1
    FROM tasks t
    WHERE t.id = (SELECT a.task_id FROM assignments a WHERE a.id = submitted)
    FOR UPDATE;
    -- Saving a draft locks the assignment alone: one that is being saved is waited for, and seen.
    SELECT a.status, a.form_version, a.draft, a.draft_revision INTO own
    FROM assignments a
    WHERE a.id = submitted AND a.labeler_id = labeler
    FOR NO KEY UPDATE;
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

-- Writes a ranking with its ratings: one entry of each array for each candidate. The caller holds the task locked,
-- and ends the assignment. Where several labelers have the task, it is measured again how far they contradict
-- each other; because of late labels these may be more than the task asks for.
CREATE FUNCTION write_ranking(
    new_id UUID, ranked UUID, new_version INTEGER, key TEXT, digest BYTEA, ranking_note TEXT, new_strength SMALLINT,
    all_bad BOOLEAN, untouched BOOLEAN, active BIGINT, idle BIGINT,
    slots SMALLINT[], ranks SMALLINT[], overalls SMALLINT[], all_scales JSONB[], all_flags JSONB[], notes TEXT[])
RETURNS VOID LANGUAGE plpgsql AS $$
DECLARE
    own RECORD;
BEGIN
    INSERT INTO rankings (id, assignment_id, version, idempotency_key, request_sha256, note, strength,
                          is_all_bad, is_untouched, active_ms, idle_ms)
    VALUES (new_id, ranked, new_version, key, digest, ranking_note, new_strength, all_bad, untouched, active, idle);
    SELECT a.task_id, t.purpose INTO own
    FROM assignments a
    JOIN tasks t ON t.id = a.task_id
    WHERE a.id = ranked;
    INSERT INTO ratings (ranking_id, completion_id, slot, rank, overall, scales, flags, note)
    SELECT new_id, c.completion_id, c.slot, n.rank, n.overall, n.scales, n.flags, n.note
    FROM unnest(slots, ranks, overalls, all_scales, all_flags, notes) AS n (slot, rank, overall, scales, flags, note)
    JOIN candidates c ON c.task_id = own.task_id AND c.slot = n.slot;
    -- Asked by the end and not by the status, which an index of all that was submitted serves: it would be read.
    IF own.purpose = 'label' AND EXISTS (
        SELECT 1 FROM assignments a WHERE a.task_id = own.task_id AND a.id <> ranked AND a.ended_at IS NOT NULL)
    THEN
        PERFORM measure_conflicts(ARRAY[own.task_id]);
    END IF;
END
$$;

-- A whole submission of a ranking: begins it, as `begin_submission` says, and writes it where that may go on.
CREATE FUNCTION submit_ranking(
    submitted UUID, labeler UUID, key TEXT, digest BYTEA, replaced INTEGER, seen BIGINT, form INTEGER, content JSONB,
    active_until BIGINT, idle_until BIGINT, correctable BIGINT,
    new_id UUID, ranking_note TEXT, new_strength SMALLINT, all_bad BOOLEAN, untouched BOOLEAN,
    slots SMALLINT[], ranks SMALLINT[], overalls SMALLINT[], all_scales JSONB[], all_flags JSONB[], notes TEXT[],
    OUT outcome TEXT, OUT said UUID, OUT version INTEGER)
LANGUAGE plpgsql AS $$
DECLARE
    begun RECORD;
BEGIN
    begun := begin_submission(submitted, labeler, key, digest, replaced, seen, form, content, active_until, idle_until,
                              correctable);
    outcome := begun.outcome;
    said := begun.said;
    version := begun.version;
    IF outcome = 'written' THEN
        said := new_id;
        PERFORM write_ranking(new_id, submitted, version, key, digest, ranking_note, new_strength, all_bad, untouched,
                              begun.active, begun.idle, slots, ranks, overalls, all_scales, all_flags, notes);
    END IF;
END
$$;
