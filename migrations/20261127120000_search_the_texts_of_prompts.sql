-- A search looked into the JSON of prompts, where quotes, backslashes and line breaks are escaped, so that what a
-- reader sees was not found, and the words of the format, such as "role", were found in every conversation.

CREATE FUNCTION prompt_text(body JSONB) RETURNS TEXT LANGUAGE sql IMMUTABLE PARALLEL SAFE AS $$
    SELECT CASE jsonb_typeof(body)
        WHEN 'array' THEN (
            SELECT string_agg(turn ->> 'content', E'\n' ORDER BY place)
            FROM jsonb_array_elements(body) WITH ORDINALITY AS turns (turn, place))
        ELSE body #>> '{}'
    END
$$;
COMMENT ON FUNCTION prompt_text IS 'what a reader sees of a prompt: its text, or that of its turns, one below the other';
