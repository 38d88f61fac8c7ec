-- Two promises the database keeps by itself. What a labeler said is never overwritten: a
-- correction is a new version, so changing or deleting these rows is refused whoever asks. And
-- tasks.n_held always equals the places held, however an assignment changes.

CREATE FUNCTION refuse_change() RETURNS TRIGGER LANGUAGE plpgsql AS $$
BEGIN
    RAISE EXCEPTION 'rows of % are never changed or deleted: write a new version', TG_TABLE_NAME
        USING ERRCODE = 'restrict_violation';
END
$$;

CREATE TRIGGER rankings_are_immutable BEFORE UPDATE OR DELETE ON rankings
    FOR EACH ROW EXECUTE FUNCTION refuse_change();
CREATE TRIGGER ratings_are_immutable BEFORE UPDATE OR DELETE ON ratings
    FOR EACH ROW EXECUTE FUNCTION refuse_change();
CREATE TRIGGER comparisons_are_immutable BEFORE UPDATE OR DELETE ON comparisons
    FOR EACH ROW EXECUTE FUNCTION refuse_change();
CREATE TRIGGER snapshot_items_are_immutable BEFORE UPDATE OR DELETE ON snapshot_items
    FOR EACH ROW EXECUTE FUNCTION refuse_change();
CREATE TRIGGER guidelines_are_immutable BEFORE UPDATE OR DELETE ON guidelines
    FOR EACH ROW EXECUTE FUNCTION refuse_change();
CREATE TRIGGER forms_are_immutable BEFORE UPDATE OR DELETE ON forms
    FOR EACH ROW EXECUTE FUNCTION refuse_change();
CREATE TRIGGER completions_are_immutable BEFORE UPDATE OF prompt_id, text, model, sampling ON completions
    FOR EACH ROW EXECUTE FUNCTION refuse_change();
CREATE TRIGGER prompts_are_immutable BEFORE UPDATE OF body ON prompts
    FOR EACH ROW EXECUTE FUNCTION refuse_change();

CREATE FUNCTION count_held_places() RETURNS TRIGGER LANGUAGE plpgsql AS $$
DECLARE
    change SMALLINT := (NEW.place IS NOT NULL)::INT
        - (CASE WHEN TG_OP = 'UPDATE' THEN (OLD.place IS NOT NULL)::INT ELSE 0 END);
BEGIN
    IF change <> 0 THEN
        UPDATE tasks SET n_held = n_held + change WHERE id = NEW.task_id;
    END IF;
    RETURN NEW;
END
$$;

CREATE TRIGGER assignments_count_held_places AFTER INSERT OR UPDATE OF place ON assignments
    FOR EACH ROW EXECUTE FUNCTION count_held_places();
