-- An order submitted as it was shown stays a sign when it is corrected a moment later: otherwise one click would
-- wipe it. Any version counts, so that one which came to the order shown only later is a sign as before.

CREATE OR REPLACE VIEW attention AS
SELECT a.id AS assignment_id, a.task_id, a.labeler_id, t.project_id, a.ended_at,
       coalesce(versions.is_untouched, FALSE) AS is_untouched,
       versions.is_untouched IS NOT NULL AND k.n_candidates > 2 AS can_be_untouched,
       k.n_candidates,
       s.active_ms,
       s.elapsed_ms,
       -- Who is active for at most as long as the page is open: without a count of activity that is what is known.
       least(s.active_ms, s.elapsed_ms) < p.least_seconds * 1000::BIGINT AS is_too_fast
FROM assignments a
JOIN tasks t ON t.id = a.task_id
JOIN projects p ON p.id = t.project_id
JOIN accounts u ON u.id = a.labeler_id
LEFT JOIN rankings first ON first.assignment_id = a.id AND first.version = 1
CROSS JOIN LATERAL (
    SELECT bool_or(r.is_untouched) AS is_untouched FROM rankings r WHERE r.assignment_id = a.id
) versions
CROSS JOIN LATERAL (SELECT count(*) AS n_candidates FROM candidates c WHERE c.task_id = t.id) k
CROSS JOIN LATERAL (
    SELECT nullif(CASE WHEN first.id IS NULL THEN a.active_ms ELSE first.active_ms END, 0) AS active_ms,
           (extract(epoch FROM coalesce(first.created_at, a.ended_at) - coalesce(a.opened_at, a.leased_at)) * 1000)::BIGINT
               + a.spent_before_ms AS elapsed_ms
) s
WHERE a.status = 'submitted' AND NOT a.is_adjudication AND NOT u.is_simulated
  -- What came in as a file was leased and submitted in one moment.
  AND coalesce(first.created_at, a.ended_at) > coalesce(a.opened_at, a.leased_at);
COMMENT ON COLUMN attention.is_untouched IS 'of any version: a correction does not take the sign away';
