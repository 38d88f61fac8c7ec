-- Whoever labels all day chooses which key does what, or switches single keys off. A row is there only
-- for those who chose; words of both sides come from lists in the program.

CREATE TABLE key_bindings (
    account_id UUID PRIMARY KEY REFERENCES accounts (id) ON DELETE CASCADE,
    keys       JSONB NOT NULL DEFAULT '{}',
    are_on     BOOLEAN NOT NULL DEFAULT TRUE,
    CONSTRAINT key_bindings_keys_object CHECK (jsonb_typeof(keys) = 'object')
);
COMMENT ON COLUMN key_bindings.keys IS '{"next": "j"}: actions of the labeling pages and the key of each';
COMMENT ON COLUMN key_bindings.are_on IS 'whether single keys do anything';
