-- A policy may please the reward model that it is trained against and nobody else, so a PPO run may name
-- a second reward model, whose scores are shown and never trained on.

ALTER TABLE runs ADD COLUMN gold_checkpoint_id UUID REFERENCES checkpoints (id);
