tasks-title = Tasks
tasks-state = State
tasks-any-state = all states
tasks-state-open = open
tasks-state-held = in work
tasks-state-done = done
tasks-state-closed = closed
tasks-none = No task is like this.
tasks-candidates = Candidates
tasks-submitted = Submitted
tasks-who = Who
tasks-assignment-leased = working
tasks-assignment-submitted = submitted
tasks-close = Close
tasks-assignment-skipped = skipped
tasks-new = Open tasks
tasks-kind = Kind
tasks-any-kind = all kinds
tasks-kind-rank = ranking
tasks-kind-compare = comparison
tasks-kind-demonstrate = demonstration
tasks-kind-review = review of a prompt
tasks-purpose-gold = gold
tasks-purpose-repeat = repeat
tasks-purpose-screening = screening
tasks-writes-answer = answer to a prompt
tasks-writes-plain = prompt and answer
tasks-writes-few-shot = instruction with pairs
tasks-writes-user-based = from a use case
tasks-opened = { $n ->
    [one] { $n } task was opened.
   *[other] { $n } tasks were opened.
  }
tasks-work = What labelers do
tasks-work-rank = rank completions
tasks-work-compare = compare two completions
tasks-work-answer = answer prompts
tasks-work-own = write prompts and answers
tasks-work-few-shot = write pairs for an instruction
tasks-work-user-based = write from use cases
tasks-work-review = review prompts
tasks-which-prompts = Which prompts
tasks-categories = Only some categories (none chosen: all)
tasks-source = Source
tasks-any-source = any source
tasks-any-language = any language
tasks-completions = From the completions of a prompt
tasks-all-completions = all of them
tasks-at-random = { $n } at random
tasks-completions-help = A ranking takes 4 to 9, pairs are made of 2 to 9. Prompts with too few are left out, and with all, those with more than 9.
tasks-pairs = Pairs
tasks-all-pairs = all pairs, a task each
tasks-one-pair = one pair at random
tasks-texts = Instructions or use cases
tasks-lines = One a line
tasks-texts-help = As text, or as JSON for a text of several lines: {"{"}"use_case": "…", "language": "en"{"}"}, with "instruction" for an instruction. Without any instruction, labelers write it themselves.
tasks-file = or a file of such lines (UTF-8)
tasks-most = How many
tasks-most-help = At most so many prompts; left empty, all that match. Where labelers write on nothing given, so many tasks. An order opens at most { $most } tasks.
tasks-overlap = Labelers of each task
tasks-overlap-help = 1 to { $most }; left empty, as the project has it for the prompt’s category.
tasks-only-new = Only prompts, instructions and use cases without such a task
tasks-count = Show what this opens
tasks-preview = What this opens
tasks-changed = It comes to something else than was shown before, so nothing was opened yet.
tasks-n-tasks = { $n ->
    [one] { $n } task
   *[other] { $n } tasks
  }
tasks-open-n = { $n ->
    [one] Open { $n } task
   *[other] Open { $n } tasks
  }
tasks-from = Made of prompts or texts
tasks-known = Left out, with such a task already
tasks-unfit = Left out, with too few or too many completions
tasks-which-candidates = Which candidates
tasks-reopen = Reopen
tasks-nav = Tasks and their checks
tasks-state-gold = gold
tasks-state-repeat = repeats
tasks-state-screening = screening
tasks-assignment-expired = expired
task-title = Task
task-kind = Kind
task-kind-rank = rank the candidates
task-kind-compare = compare two
task-kind-demonstrate = write a demonstration
task-kind-review = review the prompt
task-purpose = There for
task-purpose-label = the dataset
task-purpose-gold = gold: its answer is known
task-purpose-repeat = a repeat for one labeler
task-purpose-screening = screening
task-source = the task it copies
task-repeated = the task it repeats
task-gold-copy = its gold copy
task-language = Language
task-places = Labelers
task-places-held = { $held } of { $overlap ->
    [one] { $overlap } place
   *[other] { $overlap } places
  } held
task-chosen = Place in the queue
task-chosen-oldest = the oldest first
task-chosen-random = drawn at random
task-chosen-informative = where reward models disagree most
task-chosen-evaluation = drawn at random, kept for evaluation
task-disagreement = disagreement { $value }
task-made = Made
tasks-assignment-waiting = waiting
