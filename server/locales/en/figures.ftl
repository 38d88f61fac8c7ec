figures-too-few = too few
figures-no-interval = no interval
figures-seconds = { $n } s
figures-of = Of
figures-meanings = What the columns say
figures-n-pairs = n = { $n ->
    [one] { $n } pair
   *[other] { $n } pairs
  }, { $prompts ->
    [one] { $prompts } prompt
   *[other] { $prompts } prompts
  }
figures-n-ranking-pairs = n = { $n ->
    [one] { $n } pair of rankings
   *[other] { $n } pairs of rankings
  }, { $prompts ->
    [one] { $prompts } prompt
   *[other] { $prompts } prompts
  }
figures-n-rankings = n = { $n ->
    [one] { $n } ranking
   *[other] { $n } rankings
  }
figures-n-tasks = n = { $n ->
    [one] { $n } task
   *[other] { $n } tasks
  }
figures-n-completions = n = { $n ->
    [one] { $n } completion
   *[other] { $n } completions
  }, { $prompts ->
    [one] { $prompts } prompt
   *[other] { $prompts } prompts
  }
figures-n-answers = n = { $n ->
    [one] { $n } answer
   *[other] { $n } answers
  }, { $prompts ->
    [one] { $prompts } prompt
   *[other] { $prompts } prompts
  }
figures-n-answer-pairs = n = { $n ->
    [one] { $n } pair of answers
   *[other] { $n } pairs of answers
  }, { $prompts ->
    [one] { $prompts } prompt
   *[other] { $prompts } prompts
  }
figures-n-comparisons = n = { $n ->
    [one] { $n } comparison
   *[other] { $n } comparisons
  }, { $prompts ->
    [one] { $prompts } prompt
   *[other] { $prompts } prompts
  }
figures-n-rankings-of-prompts = n = { $n ->
    [one] { $n } ranking
   *[other] { $n } rankings
  }, { $prompts ->
    [one] { $prompts } prompt
   *[other] { $prompts } prompts
  }
figures-project = Project
figures-since = From
figures-until = Until
figures-category = Category
figures-language = Language
figures-kind = Kind of task
figures-kind-rank = Rank K candidates
figures-kind-compare = Compare two
figures-form-version = Version of the form
figures-any = All
figures-simulated = Whose rankings
figures-simulated-false = people
figures-simulated-true = people and simulated labelers
figures-simulated-alone = Fewer than { $fewest } rankings here are by people, so these figures rest on what simulated labelers said too. They are programs that err on purpose; they are marked, and snapshots leave them out unless asked for.
figures-simulated-in = What simulated labelers said is among these figures. They are programs that err on purpose; they are marked, and snapshots leave them out unless asked for.
figures-simulated-out = What simulated labelers said is left out of these figures.
figures-show = Show
figures-parts = Parts of this page
figures-download = Tables as CSV
figures-json = Everything as JSON (for programs)
figures-cut = There are more rankings than are read here. These are the newest { $most } that pass the filter; narrow the days to see others.
figures-is-simulated = simulated
figures-none = Nothing to tell yet.
figures-newest = The newest is of { $at }.
figures-no-rankings = No ranking passes this filter.
figures-n-prompts = n = { $n ->
    [one] { $n } prompt
   *[other] { $n } prompts
  }
figures-csv-english = Columns and rows are named in English whatever language the page has, so that programs can rely on them.
