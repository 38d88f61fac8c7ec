-- Which review of a prompt counts, and whether anybody found personal data in it, is asked for snapshots of every
-- kind: said once here.

CREATE FUNCTION reviewed_prompts(project UUID, without UUID[])
    RETURNS TABLE (prompt_id UUID, review_id UUID, category TEXT, is_personal BOOLEAN) LANGUAGE sql STABLE AS $$
    SELECT DISTINCT ON (c.prompt_id) c.prompt_id, CASE WHEN NOT x.is_out THEN c.id END,
           CASE WHEN NOT x.is_out THEN c.content ->> 'category' END,
           coalesce(bool_or((c.content ->> 'personal_data')::BOOLEAN) OVER (PARTITION BY c.prompt_id), FALSE)
    FROM current_reviews c
    JOIN reviews v ON v.id = c.id
    JOIN assignments a ON a.id = v.assignment_id
    CROSS JOIN LATERAL (SELECT a.labeler_id = ANY (without) AS is_out) x
    WHERE c.project_id = project
    ORDER BY c.prompt_id, x.is_out, c.created_at DESC, c.id DESC
$$;
COMMENT ON FUNCTION reviewed_prompts IS 'the newest review of each prompt but for those of the labelers left out, whose word counts only where they found personal data';
