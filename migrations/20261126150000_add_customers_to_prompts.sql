-- A reward model that is measured on a customer whose prompts it learnt from looks better than it is, so
-- all prompts of a customer stay on one side of a split (InstructGPT, section 3.2, by user). A prompt keeps
-- what it was stored with, and so does every snapshot that holds it.

ALTER TABLE prompts
    ADD COLUMN customer TEXT,
    ADD CONSTRAINT prompts_customer_named CHECK (btrim(customer) <> '');
COMMENT ON COLUMN prompts.customer IS 'whose prompt it is, where the file said; never changed, and never shown';
