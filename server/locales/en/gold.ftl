gold-title = Gold tasks
gold-about = A gold task has an answer that is known to be right. It is mixed into the queue and looks like any other, each labeler gets it once, and it never enters a snapshot.
gold-share = Of the leases in { $project }, { $share } are gold.
gold-share-none = So nothing is mixed in: set a share in the project’s settings.
gold-share-of = { $share } % (n = { $n })
gold-tasks = Tasks
gold-none = There is no gold task yet. Open a task and write its right answer down:
gold-known = Known
gold-known-n = { $pairs ->
    [one] { $pairs } pair
   *[other] { $pairs } pairs
  }, { $flags ->
    [one] { $flags } flag
   *[other] { $flags } flags
  }
gold-exposed = Seen by
gold-exposed-n = { $n ->
    [one] { $n } labeler
   *[other] { $n } labelers
  }
gold-pairs = Pairs agreed
gold-flags-agreed = Flags agreed
gold-retire = Retire
gold-retire-help = Nobody gets it any more. What was said of it goes on counting.
gold-retired = retired
gold-labelers = Labelers
gold-labeler = Labeler
gold-n-labels = Gold labels
gold-open = Left open
gold-no-labels = No gold task has been labelled yet.
gold-policy = Counted is each pair that the known answer orders strictly: the same order agrees, a tie agrees by half, the other order does not. Pairs that the answer ties are left out, and so is what a labeler left open, which is counted apart. Of each label the first version counts.
gold-make = Write the right answer down
gold-make-help = A copy of this task is made, so that the labels above stay what they are.
gold-answer = The right answer
gold-version = Version { $version }, { $at }, { $by }
gold-begin-with = Begin with:
gold-from-label = These are one labeler’s answers. Leave only what you know to be right.
gold-only-known = Say only what is known. What is left open counts for nobody and against nobody.
gold-rank = Rank (1 is best)
gold-unknown = not known
gold-flags = Flags
gold-mix-in = Mix in as gold
gold-for-screening = Use for screening
gold-new-version = Save as a new version
