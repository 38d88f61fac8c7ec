runs-title = Runs
runs-new = New run
runs-start = Start a run
runs-start-generation = Draw completions
runs-start-sft = Fine-tune on demonstrations
runs-start-reward = Train a reward model
runs-start-ppo = Run PPO
runs-start-dpo = Run DPO
runs-about-generation = The model answers each prompt of a snapshot several times, and a task opens for each prompt, so that labelers can rank the answers.
runs-about-sft = The model learns to answer as the demonstrations do. The result is a good start for PPO.
runs-about-reward = A reward model learns from rankings to score completions as the labelers would.
runs-about-ppo = The policy answers prompts, the reward model scores the answers, and the policy moves towards better scores without straying far from where it began.
runs-about-dpo = The policy learns from rankings directly, without a reward model: it becomes more likely to give the better of two completions than it was at the start. A baseline for PPO.
runs-none = No runs yet. Start one above.
runs-name = Name
runs-kind = Kind
runs-status = Status
runs-phase = Progress
runs-preset = Preset
runs-created = Created
runs-started = Started
runs-ended = Ended
runs-worker = Worker
runs-status-queued = queued
runs-status-running = running
runs-status-finished = finished
runs-status-failed = failed
runs-status-cancelled = cancelled
runs-base = Starts from
runs-reward = Reward model
runs-gold = Second opinion
runs-no-gold = none
runs-gold-help = A second reward model scores every answer too, and training never sees its scores: they show whether the policy improves, or only pleases the first.
runs-snapshot = Snapshot
runs-snapshot-demonstrations = Demonstrations
runs-snapshot-rankings = Rankings
runs-snapshot-prompts = Prompts
runs-texts = Pretraining texts
runs-no-texts = none: plain PPO
runs-texts-help = For the pretraining term; some are kept out of it to measure what the policy forgets.
runs-no-texts-sft = none: demonstrations alone
runs-texts-help-sft = Mixed in with the demonstrations: the setting pretraining_share says how much of what is learnt. At 0, as in summarize, they are not used.
runs-no-reward-sft = none: epochs are told apart by their loss alone
runs-reward-help-sft = Scores sampled answers to held-out prompts after each epoch. With {"{"}"keep": "best_reward"{"}"} in the settings, the epoch that it scores highest is kept.
runs-demonstrations = Demonstrations for the zero point
runs-no-demonstrations = none: the ranked completions score 0 on average
runs-demonstrations-help = Scores are shifted so that these demonstrations score 0 on average.
runs-no-models = There is no model yet: plackett model pull smollm2-135m-instruct
runs-no-rewards = There is no reward model yet: train one first.
runs-no-snapshots = There is no snapshot of this kind yet.
runs-candidates = Candidates for each prompt
runs-overlap = Labelers for each task
runs-max-new-tokens = Longest completion, in tokens
runs-temperature = Temperature
runs-top-p = Top-p
runs-seed = Seed
runs-preset-tiny = For tiny models, as the tests have them: seconds. All layers are trained, so SmolLM2 takes longer with it than with demo.
runs-preset-demo = Minutes for SmolLM2-135M on two CPU cores. Only the upper layers are trained: 2 of a reward model, 4 otherwise.
runs-preset-instructgpt = The constants of the InstructGPT paper. All layers are trained, which takes days without a GPU.
runs-preset-summarize = The constants of summarize_from_feedback_details (summaries of posts; arXiv 2403.17031). All layers are trained.
runs-preset-lm-human-preferences = The constants of openai/lm-human-preferences (continuations in a style, for models like GPT-2). All layers are trained.
runs-settings = Settings that differ from the preset
runs-settings-help = An object such as {"{"}"seed": 2{"}"}. A setting that does not exist is an error; the run's page shows all settings.
runs-queue = Start
runs-back = Back to the runs
runs-stopping = stops at its next step
runs-cancel = Stop this run
runs-reload = This page does not move by itself without JavaScript.
runs-reload-now = Load it again
runs-last-words = This run failed. Its last words:
runs-see-checkpoint = See the checkpoint
runs-tasks-opened = { $n ->
    [one] { $n } task was opened for labelers.
   *[other] { $n } tasks were opened for labelers.
  }
runs-curves = Curves
runs-numbers = Numbers
runs-numbers-chosen = { $n } of { $all ->
    [one] { $all } step
   *[other] { $all } steps
  }, at even distances.
runs-step = Step
runs-no-curves = No numbers yet.
runs-ended-without-figures = This run ended before its first figure.
runs-stopped-on-request = Somebody asked this run to stop ({ $at }).
runs-ended-by-kl-budget = Ended early, after { $done } of { $all ->
    [one] { $all } iteration
   *[other] { $all } iterations
  }: KL exceeded its budget of { $budget } nats.
runs-ended-by-reward-drop = Ended early, after { $done } of { $all ->
    [one] { $all } iteration
   *[other] { $all } iterations
  }: for { $patience ->
    [one] { $patience } iteration
   *[other] { $patience } iterations
  } running, the mean score was more than { $deviations } standard deviations below that of the first.
runs-ended-by-eos-floor = Ended early, after { $done } of { $all ->
    [one] { $all } iteration
   *[other] { $all } iterations
  }: for { $patience ->
    [one] { $patience } iteration
   *[other] { $patience } iterations
  } running, less than { $eos } of the completions ended by themselves.
runs-ended-by-spread-floor = Ended early, after { $done } of { $all ->
    [one] { $all } iteration
   *[other] { $all } iterations
  }: for { $patience ->
    [one] { $patience } iteration
   *[other] { $patience } iterations
  } running, the scores differed by less than { $spread } of what they did in the first: the completions have become alike.
runs-ended-by-divergence = Ended early, after { $done } of { $all ->
    [one] { $all } iteration
   *[other] { $all } iterations
  }: the next one gave numbers that are not finite. Its steps were taken back.
runs-headlines = Main figures
runs-all-figures = All figures
runs-interval = 95 % interval { $interval }
runs-no-interval = no interval: too few prompts, or all alike
runs-kl-budget = of { $budget } nats allowed
runs-on-kept-out-prompts = { $n ->
    [one] on { $n } prompt kept out of training
   *[other] on { $n } prompts kept out of training
  }
runs-on-known-prompts = { $n ->
    [one] on { $n } prompt that was trained on too
   *[other] on { $n } prompts that were trained on too
  }
runs-same-prompts = on the same prompts
runs-yes = yes
runs-no = no
runs-checks = Checks
runs-check-passed = holds
runs-check-failed = fails
runs-samples = Samples
runs-more-samples = { $n ->
    [one] { $n } more sample
   *[other] { $n } more samples
  }
runs-sample-prompt = Prompt
runs-sample-answer = Completion
runs-before = Before training
runs-after = After training
runs-sample-reward = reward
runs-sample-gold = second opinion
runs-log = Log
runs-about = About this run
runs-files = Files:
runs-config = All settings
runs-over-optimisation = Over-optimisation
runs-over-optimisation-help = What the policy gained with its distance from where it began, in standard deviations of the first batch. By a second opinion the gain often grows first and falls later; where it does, the curve tells how far it paid to go (Gao et al., 2022).
runs-frontier = Gain against the square root of KL
runs-frontier-label = Mean score of each batch against the square root of its KL, with a fitted curve for each judge
runs-frontier-help = Points are batches; lines are d (alpha - beta ln d) above what the first batch was off by, fitted to them. In brackets: where the peak lies in 95 of 100 resamples of the batches. A line upwards marks the peak of a judge's curve where the run came so far.
runs-root-kl = d = square root of KL (nats)
runs-judge = Judge
runs-judge-reward = The reward model that is trained against
runs-judge-gold = Second opinion, not trained on
runs-judge-reward-short = reward model
runs-judge-gold-short = second opinion
runs-gain-of = Gain, { $judge }
runs-peak-of = peak, { $judge }
runs-judge-newest = Newest gain
runs-judge-curve = Fitted curve
runs-judge-peak = Highest
runs-peak = { $gain } at d = { $distance } [{ $low }, { $high }], a KL of { $kl } nats
runs-no-limit = no limit
runs-no-peak = none: the curve has no highest point
runs-setting = Setting
runs-setting-value = Value
runs-setting-source = Source
runs-setting-changed = chosen for this run
figure-train-loss = Training loss
figure-train-accuracy = Training accuracy
figure-train-grad_norm = Gradient norm
figure-train-learning_rate = Learning rate
figure-train-reward_mean = Mean reward of training completions
figure-train-reward_std = Spread of training rewards (standard deviation)
figure-held_out-loss = Held-out loss
figure-held_out-reward = Mean reward of sampled answers to held-out prompts
figure-held_out-accuracy = Held-out accuracy
figure-held_out-accuracy_low = Held-out accuracy, lower end of the 95 % interval
figure-held_out-accuracy_high = Held-out accuracy, upper end of the 95 % interval
figure-held_out-length_only_accuracy = Held-out accuracy of length alone
figure-train-margin = Training margin (difference of implicit rewards)
figure-train-log_prob_chosen = Log-probability of the better completion in training (nats)
figure-train-log_prob_rejected = Log-probability of the worse completion in training (nats)
figure-held_out-margin = Held-out margin (difference of implicit rewards)
figure-held_out-margin_low = Held-out margin, lower end of the 95 % interval
figure-held_out-margin_high = Held-out margin, upper end of the 95 % interval
figure-held_out-log_prob_chosen = Log-probability of the better held-out completion (nats)
figure-held_out-log_prob_rejected = Log-probability of the worse held-out completion (nats)
figure-cross_validation-accuracy = Accuracy on each part of the cross-validation
figure-completions-finished_share = Share of completions that end by themselves
figure-completions-mean_tokens = Mean length of a completion (tokens)
figure-objective-reward = Mean reward of a batch
figure-objective-reward_std = Spread of the rewards in a batch (standard deviation)
figure-objective-score = Mean score that is trained on (the reward, clipped, with what a missing end costs)
figure-objective-score_std = Spread of the scores that are trained on (standard deviation)
figure-objective-member_deviation = Mean disagreement of the reward ensemble (standard deviation)
figure-objective-kl = KL to the reference (nats per completion)
figure-objective-root_kl = Square root of KL
figure-objective-kl_k3_per_token = KL to the reference per token (k3 estimate)
figure-objective-kl_coefficient = Weight of the KL penalty
figure-objective-score_minus_kl = Mean score less the KL penalty
figure-objective-entropy = Entropy per token (nats)
figure-objective-response_length = Mean length of a completion (tokens)
figure-objective-longest_response = Longest completion (tokens)
figure-objective-eos_rate = Share of completions that end by themselves
figure-policy-loss = Policy loss
figure-policy-ratio = Mean probability ratio, new to old
figure-policy-lowest_ratio = Lowest probability ratio
figure-policy-highest_ratio = Highest probability ratio
figure-policy-clipped_share = Share of tokens whose ratio is clipped
figure-policy-approximate_kl = KL to the policy that drew the batch (estimate)
figure-policy-grad_norm = Gradient norm of the policy
figure-value-loss = Value loss
figure-value-clipped_share = Share of values that are clipped
figure-value-explained_variance = Variance that the value model explains
figure-value-grad_norm = Gradient norm of the value model
figure-ptx-loss = Loss on pretraining texts
figure-objective-gold = Mean second opinion of a batch (not trained on)
figure-objective-text_loss_held_out = Loss on texts kept out of training (nats per token)
figure-objective-gold_std = Spread of the second opinion in a batch (standard deviation)
figure-policy-drawing_gap = Largest gap between a token's log-probability when drawn and when trained (nats)
figure-value-passes = Passes over a batch
figure-time-tokens_per_second = Tokens per second
figure-held_out_loss_before = Held-out loss before training
figure-held_out_loss = Held-out loss of the kept weights
figure-kept_epoch = Epoch whose weights were kept
figure-kept_iteration = Iteration whose policy was kept
figure-held_out_reward_before = Mean reward of sampled answers before training
figure-held_out_reward = Mean reward of sampled answers of the kept weights
figure-pretraining_share = Share of pretraining texts in the learnt tokens
figure-memory_estimate_gib = Memory estimated before the run (GiB)
figure-memory_peak_gib = Highest memory of the run (GiB)
figure-n_train = Records trained on
figure-n_held_out = Records held out
figure-n_held_out_pairs = Held-out pairs
figure-held_out_accuracy = Held-out accuracy
figure-held_out_accuracy_low = Held-out accuracy, lower end of the 95 % interval
figure-held_out_accuracy_high = Held-out accuracy, upper end of the 95 % interval
figure-held_out_accuracy_before = Held-out accuracy before training
figure-length_only_accuracy = Held-out accuracy of length alone
figure-length_only_accuracy_low = Length alone, lower end of the 95 % interval
figure-length_only_accuracy_high = Length alone, upper end of the 95 % interval
figure-accuracy_over_length = Gain over length alone
figure-accuracy_over_length_low = Gain over length alone, lower end of the 95 % interval
figure-accuracy_over_length_high = Gain over length alone, upper end of the 95 % interval
figure-disagreement_area = Chance that the ensemble disagrees more on a wrong pair than on a right one
figure-disagreement_area_low = Disagreement on wrong pairs, lower end of the 95 % interval
figure-disagreement_area_high = Disagreement on wrong pairs, upper end of the 95 % interval
figure-held_out_margin = Held-out margin (difference of implicit rewards)
figure-held_out_margin_low = Held-out margin, lower end of the 95 % interval
figure-held_out_margin_high = Held-out margin, upper end of the 95 % interval
figure-log_prob_chosen_before = Log-probability of the better held-out completion before training (nats)
figure-log_prob_chosen = Log-probability of the better held-out completion after training (nats)
figure-log_prob_rejected_before = Log-probability of the worse held-out completion before training (nats)
figure-log_prob_rejected = Log-probability of the worse held-out completion after training (nats)
figure-cross_validated_accuracy = Cross-validated accuracy
figure-cross_validated_accuracy_low = Cross-validated accuracy, lower end of the 95 % interval
figure-cross_validated_accuracy_high = Cross-validated accuracy, upper end of the 95 % interval
figure-cross_validated_length_only = Cross-validated accuracy of length alone
figure-cross_validated_length_only_low = Length alone, cross-validated, lower end of the 95 % interval
figure-cross_validated_length_only_high = Length alone, cross-validated, upper end of the 95 % interval
figure-cross_validated_over_length = Cross-validated gain over length alone
figure-cross_validated_over_length_low = Cross-validated gain over length, lower end of the 95 % interval
figure-cross_validated_over_length_high = Cross-validated gain over length, upper end of the 95 % interval
figure-calibration_error = Calibration error (ECE)
figure-calibration_error_with_temperature = Calibration error with a temperature
figure-pair_nll = Negative log-likelihood of a pair
figure-temperature = Temperature that fits best
figure-cross_validated_calibration_error = Calibration error (ECE) of the cross-validated models
figure-cross_validated_calibration_error_with_temperature = Calibration error of the cross-validated models with a temperature
figure-cross_validated_pair_nll = Negative log-likelihood of a pair, cross-validated models
figure-cross_validated_temperature = Temperature that fits the cross-validated models best
figure-labeler_agreement = Agreement of labelers with each other
figure-labeler_agreement_low = Agreement of labelers, lower end of the 95 % interval
figure-labeler_agreement_high = Agreement of labelers, upper end of the 95 % interval
figure-training_labelers_accuracy = Accuracy on labelers learnt from (folds by labeler)
figure-training_labelers_accuracy_deviation = Accuracy on labelers learnt from, deviation over folds
figure-held_out_labelers_accuracy = Accuracy on labelers held out (folds by labeler)
figure-held_out_labelers_accuracy_deviation = Accuracy on labelers held out, deviation over folds
figure-reward_before = Mean reward before training
figure-reward_after = Mean reward after training
figure-reward_gain = Gain in reward
figure-reward_gain_low = Gain in reward, lower end of the 95 % interval
figure-reward_gain_high = Gain in reward, upper end of the 95 % interval
figure-gold_before = Second opinion before training
figure-gold_after = Second opinion after training
figure-gold_gain = Gain by the second opinion
figure-gold_gain_low = Gain by the second opinion, lower end of the 95 % interval
figure-gold_gain_high = Gain by the second opinion, upper end of the 95 % interval
figure-text_loss_held_out_before = Loss on texts kept out, before training (nats per token)
figure-text_loss_held_out = Loss on texts kept out, after training (nats per token)
figure-gold_alpha = Over-optimisation: alpha of the second opinion's curve
figure-gold_beta = Over-optimisation: beta of the second opinion's curve
figure-gold_fit_r_squared = Over-optimisation: share of the gains that the curve explains
figure-gold_peak_root_kl = Over-optimisation: square root of KL at the predicted peak
figure-gold_peak_root_kl_low = Over-optimisation: least square root of KL at the predicted peak (95 %)
figure-gold_peak_root_kl_high = Over-optimisation: greatest square root of KL at the predicted peak (95 %)
figure-gold_peak_gain = Over-optimisation: gain at the predicted peak (standard deviations of the first batch)
figure-stopped_by_kl_budget = Ended early by its KL budget
figure-stopped_by_reward_drop = Ended early by a drop of the reward
figure-stopped_by_eos_floor = Ended early by completions that no longer ended
figure-stopped_by_spread_floor = Ended early by completions that had become alike
figure-stopped_by_divergence = Ended early by numbers that are not finite
figure-kl_after = KL on the evaluation prompts after training (nats per completion)
figure-kl_last_batch = KL to the reference in the last batch (nats per completion)
figure-n_iterations = Iterations
figure-n_evaluation_prompts = Prompts answered before and after
figure-evaluation_prompts_kept_out = These prompts were kept out of training
figure-tasks = Tasks opened
figure-completions = Completions drawn
figure-prompts_left_out = Prompts left out
runs-check = Check
runs-check-detail = Found
runs-kind-generation = completions
runs-kind-sft = fine-tuning
runs-kind-reward = reward model
runs-kind-ppo = PPO
runs-kind-dpo = DPO
runs-resume = Go on where it stopped
runs-resume-help = From the newest savepoint; without one it starts anew.
runs-sample-cut-off = The limit ended this answer.
runs-as-project = as the project has it
