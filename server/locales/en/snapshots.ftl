snapshots-title = Snapshots
snapshots-about = A snapshot freezes a selection. Runs read snapshots only, and the same snapshot is always exported as the same bytes.
snapshots-new = Take a snapshot
snapshots-name = Name
snapshots-name-help = A name that is taken gets a number.
snapshots-name-taken = a snapshot of this name was taken at the same moment: take yours again
snapshots-kind = Holds
snapshots-kind-rankings = rankings
snapshots-kind-demonstrations = demonstrations
snapshots-kind-prompts = prompts
snapshots-kind-texts = plain texts
snapshots-categories = Only some categories (none chosen: all)
snapshots-include-simulated = Include what simulated labelers said
snapshots-take = Take snapshot
snapshots-none = No snapshot has been taken yet.
snapshots-items = Records
snapshots-prompts = Prompts
snapshots-n-rankings = { $n ->
    [one] { $n } ranking
   *[other] { $n } rankings
  }
snapshots-n-demonstrations = { $n ->
    [one] { $n } demonstration
   *[other] { $n } demonstrations
  }
snapshots-n-prompts = { $n ->
    [one] { $n } prompt
   *[other] { $n } prompts
  }
snapshots-n-texts = { $n ->
    [one] { $n } text
   *[other] { $n } texts
  }
snapshots-taken = Taken
snapshots-simulated = with simulated
snapshots-id = Id
snapshots-download = Download
snapshots-format-own = One record a line, as the trainer reads them. The SHA-256 above is of this file.
snapshots-format-trl = Preference pairs for TRL: prompt, chosen, rejected. Ties are left out.
snapshots-format-trl-implicit = Preference pairs for TRL’s reward trainer: whole conversations, chosen and rejected.
snapshots-format-trl-unpaired = Single completions for TRL (KTO): first places are good, last places are not, the rest is left out.
snapshots-format-nectar = All completions of a prompt with their ranks on one line, as Nectar has them.
snapshots-format-hh = Pairs of transcripts, as Anthropic’s HH data has them.
snapshots-format-summarize = Pairs with a choice, as OpenAI’s comparisons of summaries have them.
snapshots-format-alpaca = Instruction, input, output.
snapshots-format-sharegpt = Conversations of human and gpt.
snapshots-format = Format
snapshots-build = Build a file
snapshots-build-first = tables and datasets are built into a file first: POST to …/exports
snapshots-container = As
snapshots-container-jsonl = JSON lines
snapshots-container-parquet = Parquet
snapshots-container-dataset = dataset (tar with Parquet by split, a card and checksums)
snapshots-margin = Margin of pairs
snapshots-margin-none = none
snapshots-margin-ranks = ranks between them
snapshots-margin-ratings = points of the rating between them
snapshots-aggregation = Several labelers
snapshots-aggregation-labelers = each for themselves
snapshots-aggregation-mean-rank = as one, by mean rank
snapshots-files = Files
snapshots-state = State
snapshots-state-building = being built
snapshots-state-ready = ready
snapshots-state-failed = failed
snapshots-rows = Rows
snapshots-bytes = Bytes
snapshots-look-again = Look again
exports-not-ready = this export is not built yet
exports-file-gone = the file of this export is gone: have it built again on its snapshot’s page
snapshots-reviewed-categories = Take the categories that reviewers gave, where there are any
snapshots-include-personal = Include prompts in which a reviewer found personal data, with their rankings and demonstrations
snapshots-left-out = Left out
snapshots-n-left-out = { $n ->
    [one] { $n } record, for personal data in its prompt
   *[other] { $n } records, for personal data in their prompts
  }
snapshots-personal = Personal data
snapshots-personal-included = prompts in which a reviewer found some are included
snapshots-as-reviewed = as reviewed, where there is a review
snapshots-labels = Where somebody decided
snapshots-labels-help = Of rankings alone. Decisions come from adjudication.
snapshots-labels-adjudicated = the decision in place of the labels
snapshots-labels-all = labels and decisions
snapshots-labels-labels = labels alone
snapshots-leave-out = Leave out tasks and labelers
snapshots-leave-out-help = Percentages; blank leaves nothing out. Labels that are withdrawn are left out anyway.
snapshots-least-agreement = Tasks on which labelers agree on less than
snapshots-least-agreement-help = Of rankings: the share of pairs of completions that each two labelers of the task order alike. A task that somebody decided stays, with the decision in place of the labels.
snapshots-ties = A tie in these shares
snapshots-without-single = Leave out tasks of which no agreement can be told, too, as with a single label
snapshots-least-gold = Labelers who agree with gold on less than
snapshots-least-quality = Labelers whose quality is below
snapshots-least-quality-help = The figures of the agreement page: 50 % quality is who guesses.
snapshots-without-unproven = Leave out labelers of whom too little is known for that figure, too
snapshots-without-labelers = Labelers, one address a line
snapshots-filters = Chosen
snapshots-said-agreement = tasks with an agreement of at least { $percent } % (ties: { $ties })
snapshots-said-gold = labelers who agree with gold on at least { $percent } % (ties: { $ties })
snapshots-said-quality = labelers with a quality of at least { $percent } %
snapshots-without-labelers-withdrawn = { $n ->
    [one] left out: { $n } labeler whose labels are withdrawn
   *[other] left out: { $n } labelers whose labels are withdrawn
  }
snapshots-without-labelers-named = { $n ->
    [one] left out: { $n } labeler who was named
   *[other] left out: { $n } labelers who were named
  }
snapshots-without-labelers-gold = { $n ->
    [one] left out: { $n } labeler who agrees too little with gold
   *[other] left out: { $n } labelers who agree too little with gold
  }
snapshots-without-labelers-quality = { $n ->
    [one] left out: { $n } labeler of too little quality
   *[other] left out: { $n } labelers of too little quality
  }
snapshots-without-tasks-agreement = { $n ->
    [one] left out: { $n } task with too little agreement
   *[other] left out: { $n } tasks with too little agreement
  }
snapshots-without-tasks-single = { $n ->
    [one] left out: { $n } task of which no agreement can be told
   *[other] left out: { $n } tasks of which no agreement can be told
  }
