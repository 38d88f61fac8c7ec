-- A gold task is a copy of the task that its answer was learnt from, so that what labelers said of that one
-- stays theirs; the copy knows it, and nobody is given both. Screening tasks are copies too.

ALTER TABLE tasks ADD COLUMN copy_of UUID REFERENCES tasks (id) ON DELETE SET NULL;
COMMENT ON COLUMN tasks.copy_of IS 'of a gold or screening task: the task whose prompt and candidates it has';

CREATE INDEX tasks_copy_of_idx ON tasks (copy_of) WHERE copy_of IS NOT NULL;
-- Mixed in twice, one task would be known the second time.
CREATE UNIQUE INDEX tasks_gold_copy_key ON tasks (copy_of) WHERE purpose = 'gold' AND closed_at IS NULL;
