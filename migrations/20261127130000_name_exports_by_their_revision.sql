-- A new version of the program may write the same snapshot in the same format with other bytes: another column, another
-- word on the card. An export is the same only by the same revision of the formats; what was built before stays
-- what it was, and is built no second time under its name.

-- 0 is what was built before revisions were counted.
ALTER TABLE exports ADD COLUMN revision SMALLINT NOT NULL DEFAULT 0;
ALTER TABLE exports
    DROP CONSTRAINT exports_choice_key,
    ADD CONSTRAINT exports_choice_key UNIQUE (snapshot_id, format, container, margin, aggregation, revision);
COMMENT ON COLUMN exports.revision IS 'of the formats that it is written in (REVISION in server/src/domain/export.rs)';
