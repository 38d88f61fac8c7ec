-- What is asked, and under which rules: a project holds prompts, its versioned guidelines and
-- its versioned form. Versions are rows, never updates, because every label names the versions
-- it was given under.

CREATE TABLE projects (
    id                UUID PRIMARY KEY,
    slug              TEXT NOT NULL,
    name              TEXT NOT NULL,
    overlap           SMALLINT NOT NULL DEFAULT 1,
    lease_seconds     INTEGER NOT NULL DEFAULT 3600,
    created_at        TIMESTAMPTZ NOT NULL DEFAULT now(),
    CONSTRAINT projects_slug_key UNIQUE (slug),
    CONSTRAINT projects_overlap_range CHECK (overlap BETWEEN 1 AND 100),
    CONSTRAINT projects_lease_range CHECK (lease_seconds BETWEEN 1 AND 604800)
);
COMMENT ON COLUMN projects.overlap IS 'how many labelers each new task is given to';

CREATE TABLE guidelines (
    project_id UUID NOT NULL REFERENCES projects (id) ON DELETE CASCADE,
    version    INTEGER NOT NULL,
    markdown   JSONB NOT NULL,
    created_by UUID REFERENCES accounts (id) ON DELETE SET NULL,
    created_at TIMESTAMPTZ NOT NULL DEFAULT now(),
    PRIMARY KEY (project_id, version)
);
COMMENT ON COLUMN guidelines.markdown IS 'object from language tag to Markdown: {"en": "...", "zh": "..."}';

CREATE TABLE forms (
    project_id UUID NOT NULL REFERENCES projects (id) ON DELETE CASCADE,
    version    INTEGER NOT NULL,
    fields     JSONB NOT NULL,
    created_at TIMESTAMPTZ NOT NULL DEFAULT now(),
    PRIMARY KEY (project_id, version)
);

CREATE TABLE prompts (
    id          UUID PRIMARY KEY,
    project_id  UUID NOT NULL REFERENCES projects (id) ON DELETE CASCADE,
    external_id TEXT NOT NULL,
    body        JSONB NOT NULL,
    category    TEXT NOT NULL DEFAULT 'other',
    language    TEXT,
    source      TEXT NOT NULL DEFAULT 'import',
    created_at  TIMESTAMPTZ NOT NULL DEFAULT now(),
    CONSTRAINT prompts_external_id_key UNIQUE (project_id, external_id),
    CONSTRAINT prompts_category_known CHECK (category IN (
        'generation', 'open_qa', 'brainstorming', 'chat', 'rewrite',
        'summarization', 'classification', 'other', 'closed_qa', 'extract'))
);
COMMENT ON COLUMN prompts.body IS 'a JSON string, or an array of {"role","content"} turns';

CREATE TABLE demonstrations (
    id          UUID PRIMARY KEY,
    project_id  UUID NOT NULL REFERENCES projects (id) ON DELETE CASCADE,
    external_id TEXT NOT NULL,
    messages    JSONB NOT NULL,
    category    TEXT NOT NULL DEFAULT 'other',
    labeler_id  UUID REFERENCES accounts (id) ON DELETE SET NULL,
    source      TEXT NOT NULL DEFAULT 'import',
    created_at  TIMESTAMPTZ NOT NULL DEFAULT now(),
    CONSTRAINT demonstrations_external_id_key UNIQUE (project_id, external_id)
);

CREATE TABLE texts (
    id          UUID PRIMARY KEY,
    project_id  UUID NOT NULL REFERENCES projects (id) ON DELETE CASCADE,
    external_id TEXT NOT NULL,
    body        TEXT NOT NULL,
    source      TEXT NOT NULL DEFAULT 'import',
    created_at  TIMESTAMPTZ NOT NULL DEFAULT now(),
    CONSTRAINT texts_external_id_key UNIQUE (project_id, external_id)
);
COMMENT ON TABLE texts IS 'plain text for the pretraining term of PPO-ptx';
