-- A reward model takes the mean score of demonstrations as its zero point (InstructGPT, 3.5), so
-- a reward run may name a snapshot of them beside its rankings.

ALTER TABLE runs ADD COLUMN demonstrations_snapshot_id UUID REFERENCES snapshots (id);
