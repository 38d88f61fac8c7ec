-- Rankings can teach a policy without a reward model: direct preference optimisation, the baseline
-- that people hold PPO against. Its runs read a snapshot of rankings and make a policy.

ALTER TABLE runs
    DROP CONSTRAINT runs_kind_known,
    ADD CONSTRAINT runs_kind_known
        CHECK (kind IN ('sft', 'reward', 'ppo', 'dpo', 'generation', 'evaluation'));
