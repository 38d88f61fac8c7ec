-- Lines of a rankings snapshot now carry what the labeler wrote beside the ranking. A snapshot that
-- was sealed before keeps its bytes, and with them its SHA-256: it goes on without notes.

ALTER TABLE snapshots ADD COLUMN line_format SMALLINT NOT NULL DEFAULT 1;
ALTER TABLE snapshots ALTER COLUMN line_format SET DEFAULT 2;
COMMENT ON COLUMN snapshots.line_format IS '1: rankings without notes, 2: with notes; set when it is sealed and never changed';
