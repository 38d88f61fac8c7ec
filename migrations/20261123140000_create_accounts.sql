-- Who signs in, what each may do, and how a browser or a program proves who it is.
-- Secrets (passwords, session, invite and API tokens) are stored only as hashes, so that a
-- leaked backup signs nobody in.

CREATE TABLE accounts (
    id            UUID PRIMARY KEY,
    email         TEXT NOT NULL,
    name          TEXT NOT NULL,
    password_hash TEXT,
    roles         TEXT[] NOT NULL DEFAULT '{}',
    is_simulated  BOOLEAN NOT NULL DEFAULT FALSE,
    created_at    TIMESTAMPTZ NOT NULL DEFAULT now(),
    disabled_at   TIMESTAMPTZ,
    CONSTRAINT accounts_roles_known CHECK (roles <@ ARRAY['labeler', 'admin', 'operator']),
    CONSTRAINT accounts_email_lower CHECK (email = lower(email) AND email <> ''),
    CONSTRAINT accounts_simulated_cannot_sign_in CHECK (NOT is_simulated OR password_hash IS NULL)
);
CREATE UNIQUE INDEX accounts_email_key ON accounts (email);
COMMENT ON COLUMN accounts.password_hash IS 'argon2id in PHC form; null until an invite was used';
COMMENT ON COLUMN accounts.is_simulated IS 'a labeler made by plackett simulate: marked on every page, left out of exports unless asked for';

CREATE TABLE sign_in_links (
    token_hash BYTEA PRIMARY KEY,
    account_id UUID NOT NULL REFERENCES accounts (id) ON DELETE CASCADE,
    created_by UUID REFERENCES accounts (id) ON DELETE SET NULL,
    created_at TIMESTAMPTZ NOT NULL DEFAULT now(),
    expires_at TIMESTAMPTZ NOT NULL,
    used_at    TIMESTAMPTZ
);
COMMENT ON TABLE sign_in_links IS 'single-use links: an invite for a new account, or a way back in; SHA-256 of the token';

CREATE TABLE sessions (
    token_hash   BYTEA PRIMARY KEY,
    id           UUID NOT NULL,
    account_id   UUID NOT NULL REFERENCES accounts (id) ON DELETE CASCADE,
    user_agent   TEXT NOT NULL DEFAULT '',
    created_at   TIMESTAMPTZ NOT NULL DEFAULT now(),
    last_seen_at TIMESTAMPTZ NOT NULL DEFAULT now(),
    expires_at   TIMESTAMPTZ NOT NULL,
    CONSTRAINT sessions_id_key UNIQUE (id)
);
CREATE INDEX sessions_account_id_idx ON sessions (account_id);

CREATE TABLE api_tokens (
    id           UUID PRIMARY KEY,
    token_hash   BYTEA NOT NULL,
    account_id   UUID NOT NULL REFERENCES accounts (id) ON DELETE CASCADE,
    label        TEXT NOT NULL,
    created_at   TIMESTAMPTZ NOT NULL DEFAULT now(),
    last_used_at TIMESTAMPTZ,
    revoked_at   TIMESTAMPTZ,
    CONSTRAINT api_tokens_token_hash_key UNIQUE (token_hash)
);
CREATE INDEX api_tokens_account_id_idx ON api_tokens (account_id);
