adjudication-title = Adjudication
adjudication-about = Tasks whose labelers contradict each other, the most divided first: those with the largest share of pairs of which one labeler prefers the one candidate and another the other. A tie contradicts nobody. A decision is a label of its own; the labels stay.
adjudication-figures = Of { $tasks ->
    [one] { $tasks } task
   *[other] { $tasks } tasks
  } with two rankings or more, { $conflicts ->
    [one] { $conflicts } has
   *[other] { $conflicts } have
  } a pair in conflict; { $decided } of these { $decided ->
    [one] is decided
   *[other] are decided
  }.
adjudication-state-undecided = to be decided
adjudication-state-decided = decided
adjudication-state-all = all
adjudication-any-kind = all kinds
adjudication-none = No task with these properties is in conflict.
adjudication-share = In conflict
adjudication-pairs = { $n } of { $all ->
    [one] { $all } pair
   *[other] { $all } pairs
  }
adjudication-rankings = Rankings
adjudication-still-open = still being labelled
adjudication-case = Decide between labels
adjudication-task = the task’s page
adjudication-agreed = The rankings contradict each other in no pair.
adjudication-contradict = In conflict:
adjudication-conflict = Candidate { $first } before { $second }: { $nfirst }, the other way round: { $nsecond }{ $ties ->
    [0] {""}
   *[other] {", "}tied: { $ties }
  }
adjudication-decide = Decision
adjudication-decide-help = Rank the candidates as you see them. Your ranking is kept as a label of its own beside the others, and snapshots take it in their place unless told otherwise.
adjudication-more = Rating and questions
adjudication-strength = How much better (1 barely, 4 far)
adjudication-note = Why
adjudication-record = Record the decision
adjudication-decide-again = Record a new version of the decision
adjudication-from-label = This is what one label says. Change what you see otherwise before you record it.
adjudication-simulated = Simulated labelers have ranked here too. They are programs that err on purpose; their labels are marked.
adjudication-recorded = Your decision is recorded: a label of its own, beside those of the labelers.
adjudication-recorded-show = See it, or decide again
