-- A snapshot is written out as the same bytes each time because nothing that its lines are made of ever
-- changes. What labelers said was guarded already; so is the rest from here on, whoever asks: what a prompt is
-- and whose, what was shown to whom and under which rules, which completions a task has, who is a program,
-- the snapshot's own row, and that none of this goes away.

CREATE FUNCTION refuse_change_of_exported() RETURNS TRIGGER LANGUAGE plpgsql AS $$
BEGIN
    RAISE EXCEPTION 'what snapshots hold of % is never changed', TG_TABLE_NAME USING ERRCODE = 'restrict_violation';
END
$$;
COMMENT ON FUNCTION refuse_change_of_exported IS 'for columns that an export reads; when it fires is said by the trigger';

-- Until the file is in that brings a prompt, a later line may say whose it is.
CREATE TRIGGER prompts_stay_as_exported BEFORE UPDATE ON prompts
    FOR EACH ROW WHEN (OLD.created_at <> now()
        AND (OLD.id, OLD.project_id, OLD.external_id, OLD.category, OLD.customer, OLD.created_at)
            IS DISTINCT FROM (NEW.id, NEW.project_id, NEW.external_id, NEW.category, NEW.customer, NEW.created_at))
    EXECUTE FUNCTION refuse_change_of_exported();
CREATE TRIGGER demonstrations_stay_as_exported BEFORE UPDATE ON demonstrations
    FOR EACH ROW WHEN ((OLD.id, OLD.project_id, OLD.writing) IS DISTINCT FROM (NEW.id, NEW.project_id, NEW.writing))
    EXECUTE FUNCTION refuse_change_of_exported();
CREATE TRIGGER texts_stay_as_exported BEFORE UPDATE ON texts
    FOR EACH ROW WHEN ((OLD.id, OLD.project_id, OLD.external_id, OLD.body)
        IS DISTINCT FROM (NEW.id, NEW.project_id, NEW.external_id, NEW.body))
    EXECUTE FUNCTION refuse_change_of_exported();
CREATE TRIGGER tasks_stay_as_exported BEFORE UPDATE ON tasks
    FOR EACH ROW WHEN (OLD.prompt_id IS DISTINCT FROM NEW.prompt_id)
    EXECUTE FUNCTION refuse_change_of_exported();
CREATE TRIGGER accounts_stay_as_exported BEFORE UPDATE ON accounts
    FOR EACH ROW WHEN (OLD.is_simulated <> NEW.is_simulated)
    EXECUTE FUNCTION refuse_change_of_exported();
CREATE TRIGGER candidates_are_immutable BEFORE UPDATE ON candidates
    FOR EACH ROW EXECUTE FUNCTION refuse_change_of_exported();

-- Who had a task, and what they saw of it: once they ranked.
CREATE FUNCTION refuse_change_of_ranked() RETURNS TRIGGER LANGUAGE plpgsql AS $$
BEGIN
    IF EXISTS (SELECT 1 FROM rankings WHERE assignment_id = OLD.id) THEN
        RAISE EXCEPTION 'what snapshots hold of % is never changed once it was ranked', TG_TABLE_NAME
            USING ERRCODE = 'restrict_violation';
    END IF;
    RETURN NEW;
END
$$;
CREATE TRIGGER assignments_stay_as_exported BEFORE UPDATE ON assignments
    FOR EACH ROW WHEN (
        (OLD.task_id, OLD.labeler_id, OLD.display_order, OLD.guidelines_version, OLD.form_version,
         OLD.is_adjudication, OLD.chosen_by, OLD.disagreement)
        IS DISTINCT FROM (NEW.task_id, NEW.labeler_id, NEW.display_order, NEW.guidelines_version, NEW.form_version,
                          NEW.is_adjudication, NEW.chosen_by, NEW.disagreement))
    EXECUTE FUNCTION refuse_change_of_ranked();

-- The card of a dataset and the names of files have the project's short name.
CREATE FUNCTION refuse_change_of_snapshotted() RETURNS TRIGGER LANGUAGE plpgsql AS $$
BEGIN
    IF EXISTS (SELECT 1 FROM snapshots WHERE project_id = OLD.id) THEN
        RAISE EXCEPTION 'what snapshots hold of % is never changed', TG_TABLE_NAME USING ERRCODE = 'restrict_violation';
    END IF;
    RETURN NEW;
END
$$;
CREATE TRIGGER projects_stay_as_exported BEFORE UPDATE ON projects
    FOR EACH ROW WHEN (OLD.slug <> NEW.slug)
    EXECUTE FUNCTION refuse_change_of_snapshotted();

-- Once it is sealed, nothing of a snapshot changes but that whoever took it may go, and nothing comes to it.
CREATE TRIGGER snapshots_stay_as_sealed BEFORE UPDATE ON snapshots
    FOR EACH ROW WHEN (OLD.sha256 <> '' AND (to_jsonb(OLD) - 'created_by') IS DISTINCT FROM (to_jsonb(NEW) - 'created_by'))
    EXECUTE FUNCTION refuse_change_of_exported();

CREATE FUNCTION refuse_rows_of_sealed() RETURNS TRIGGER LANGUAGE plpgsql AS $$
BEGIN
    IF EXISTS (SELECT 1 FROM snapshots WHERE sha256 <> '' AND id IN (SELECT snapshot_id FROM added)) THEN
        RAISE EXCEPTION 'a snapshot that is sealed takes no more rows' USING ERRCODE = 'restrict_violation';
    END IF;
    RETURN NULL;
END
$$;
CREATE TRIGGER snapshot_items_come_before_the_seal AFTER INSERT ON snapshot_items
    REFERENCING NEW TABLE AS added FOR EACH STATEMENT EXECUTE FUNCTION refuse_rows_of_sealed();

-- A row goes with what it belongs to, or not at all. What it belongs to stays where it has labels or snapshots:
-- rankings and the items of snapshots are not deleted, whatever is.
CREATE FUNCTION refuse_delete_alone() RETURNS TRIGGER LANGUAGE plpgsql AS $$
DECLARE
    is_there BOOLEAN;
BEGIN
    EXECUTE format('SELECT EXISTS (SELECT 1 FROM %I WHERE id = ($1).%I)', TG_ARGV[0], TG_ARGV[1]) INTO is_there USING OLD;
    IF is_there THEN
        RAISE EXCEPTION 'rows of % are deleted together with their % only', TG_TABLE_NAME, TG_ARGV[0]
            USING ERRCODE = 'restrict_violation';
    END IF;
    RETURN OLD;
END
$$;
COMMENT ON FUNCTION refuse_delete_alone IS 'arguments: the table of what a row belongs to, and the column that names it';
CREATE TRIGGER candidates_are_kept BEFORE DELETE ON candidates
    FOR EACH ROW EXECUTE FUNCTION refuse_delete_alone('tasks', 'task_id');
CREATE TRIGGER prompts_are_kept BEFORE DELETE ON prompts
    FOR EACH ROW EXECUTE FUNCTION refuse_delete_alone('projects', 'project_id');
CREATE TRIGGER demonstrations_are_kept BEFORE DELETE ON demonstrations
    FOR EACH ROW EXECUTE FUNCTION refuse_delete_alone('projects', 'project_id');
CREATE TRIGGER texts_are_kept BEFORE DELETE ON texts
    FOR EACH ROW EXECUTE FUNCTION refuse_delete_alone('projects', 'project_id');

-- Lines say all that was answered.
ALTER TABLE snapshots ALTER COLUMN line_format SET DEFAULT 5;
COMMENT ON COLUMN snapshots.line_format IS '1: rankings without notes, 2: with notes, 3: with decisions marked and why the task was chosen, 4: with candidates that were left unranked, and demonstrations with what they were made of, 5: with further scales and notes of candidates, strength, all bad and times; set when it is sealed and never changed';

-- A file need not say in which order candidates were shown.
COMMENT ON COLUMN assignments.display_order IS 'slots in the order shown, random for each assignment; empty where a file brought the ranking and did not say';
