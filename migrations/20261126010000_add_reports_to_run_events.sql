-- A reward run tells at its end what is to be known of its model: calibration, accuracy by category
-- and labeler, agreement. The run's page draws it from the event.

ALTER TABLE run_events DROP CONSTRAINT run_events_kind_known;
ALTER TABLE run_events ADD CONSTRAINT run_events_kind_known
    CHECK (kind IN ('status', 'phase', 'metrics', 'log', 'check', 'sample', 'report', 'checkpoint'));
