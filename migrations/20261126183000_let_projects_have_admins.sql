-- Somebody may look after one project without seeing the others: an admin of it, named among its members.
-- Whether an account may administer a project is decided in one place, may_administer, which every page,
-- list and export asks.

ALTER TABLE members
    ADD COLUMN role TEXT NOT NULL DEFAULT 'labeler',
    ADD CONSTRAINT members_role_known CHECK (role IN ('labeler', 'admin'));
CREATE INDEX members_account_id_idx ON members (account_id);
COMMENT ON TABLE members IS 'who works in a project: labelers assigned to it, and its admins';
COMMENT ON COLUMN members.role IS 'admin: also sets its rules, sees its labels and exports them; whether either may label is a role of the account';

CREATE FUNCTION may_administer(visitor UUID, project UUID) RETURNS BOOLEAN LANGUAGE sql STABLE AS $$
    SELECT EXISTS (
        SELECT 1
        FROM accounts u
        WHERE u.id = visitor AND u.disabled_at IS NULL
          AND ('admin' = ANY (u.roles)
               OR EXISTS (SELECT 1 FROM members m
                          WHERE m.project_id = project AND m.account_id = visitor AND m.role = 'admin')))
$$;
COMMENT ON FUNCTION may_administer IS 'the one decision on who sees and sets what of a project: its own admins, and the admins of everything';

-- Guidelines and consent are versioned and acknowledged alike.
CREATE VIEW rules AS
    SELECT 'guidelines' AS subject, project_id, version, markdown, created_by, created_at FROM guidelines
    UNION ALL
    SELECT 'consent' AS subject, project_id, version, markdown, created_by, created_at FROM consents;
COMMENT ON VIEW rules IS 'every version of what labelers acknowledge before they work';

ALTER TABLE forms ADD COLUMN created_by UUID REFERENCES accounts (id) ON DELETE SET NULL;

-- A task's draw in the random order of a queue. It depends on nothing but the task, so the order is drawn
-- once, and one that comes later falls into its place in the same order.
CREATE FUNCTION random_key(task UUID) RETURNS DOUBLE PRECISION LANGUAGE sql IMMUTABLE AS $$
    SELECT ('x' || substr(md5('queue order ' || task::TEXT), 1, 13))::BIT(52)::BIGINT / 4503599627370496.0::DOUBLE PRECISION
$$;
COMMENT ON FUNCTION random_key IS 'uniform over 0 to below 1: 52 bits of a hash of the key';
