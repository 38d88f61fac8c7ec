-- Two snapshots of one name cannot be told apart where a run is started, so within a project a name
-- is given once. Where that was not so, the oldest keeps its name and the others get a number, as
-- snapshots taken from now on do.

DO $$
DECLARE
    twin RECORD;
    n INT;
BEGIN
    FOR twin IN
        SELECT s.id, s.project_id, s.name
        FROM snapshots s
        WHERE EXISTS (SELECT 1 FROM snapshots o
                      WHERE o.project_id = s.project_id AND o.name = s.name
                        AND (o.created_at, o.id) < (s.created_at, s.id))
        ORDER BY s.created_at, s.id
    LOOP
        n := 2;
        WHILE EXISTS (SELECT 1 FROM snapshots
                      WHERE project_id = twin.project_id AND name = format('%s (%s)', twin.name, n))
        LOOP
            n := n + 1;
        END LOOP;
        UPDATE snapshots SET name = format('%s (%s)', twin.name, n) WHERE id = twin.id;
    END LOOP;
END
$$;

ALTER TABLE snapshots ADD CONSTRAINT snapshots_project_id_name_key UNIQUE (project_id, name);
