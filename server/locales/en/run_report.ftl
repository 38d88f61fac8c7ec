report-title = Report on the model
report-of-held-out = { $pairs ->
    [one] Measured on { $pairs } held-out pair
   *[other] Measured on { $pairs } held-out pairs
  } of { $prompts ->
    [one] { $prompts } prompt
   *[other] { $prompts } prompts
  } ({ $rankings ->
    [one] { $rankings } ranking
   *[other] { $rankings } rankings
  }).
report-of-cross-validation = Measured by cross-validation on { $pairs ->
    [one] { $pairs } pair
   *[other] { $pairs } pairs
  } of { $prompts ->
    [one] { $prompts } prompt
   *[other] { $prompts } prompts
  } ({ $rankings ->
    [one] { $rankings } ranking
   *[other] { $rankings } rankings
  }): each prompt by a model of the same settings that had not learnt from it.
report-intervals = Intervals are of 95 %, by bootstrap over prompts. There is none over a single prompt, nor where prompts that are all alike do not tell one.
report-no-interval = no interval
report-no-correlation = none: one of the two does not vary
report-reliability = Reliability
report-reliability-label = How often the model is right, by how sure it is; the numbers follow
report-reliability-help = On the dashed line the model is as often right as it says. Below it, the model is too sure. Each point is one of up to ten bins of equally many pairs.
report-confidence = Confidence
report-calibration = Calibration
report-probabilities = Probabilities
report-ece = Calibration error (ECE)
report-brier = Brier score
report-nll = NLL
report-as-it-is = as the model gives them
report-with-temperature = with a temperature, fitted on one half of the prompts and measured on the other
report-temperature = Over all pairs a temperature of { $temperature } fits best: differences of rewards are to be divided by it.
report-no-temperature = No finite temperature fits these pairs best: they are all in the right order, or no better than chance.
report-bins = The bins in numbers
report-accuracy = Accuracy
report-interval = 95 % interval
report-pairs = Pairs
report-prompts = Prompts
report-of = Of
report-picture = From 0 to 1
report-bar-help = The thin line is the interval; the short thick line across shows what length alone reaches on the same pairs.
report-bar-agreement = The dashed line across shows how far labelers agree with each other.
report-length-alone = Length alone
report-model = The model
report-model-on-these = The model on those prompts
report-agreement = { $n ->
    [one] Agreement of { $n } labeler with others
   *[other] Agreement of { $n } labelers with each other
  }
report-known-labelers = The model on labelers it learnt from (folds by labeler)
report-new-labelers = The model on labelers held out (folds by labeler)
report-folds = { $n ->
    [one] { $n } fold
   *[other] deviation over { $n } folds
  }
report-by-category = Accuracy by category
report-by-labeler = Accuracy by labeler
report-by-completions = Accuracy by number of completions ranked
report-by-length = Accuracy by length
report-not-stated = not stated
report-better-is-shorter = Where the better one is shorter
report-better-is-longer = Where the better one is longer
report-near-in-length = Where lengths differ by at most 10 %
report-correlation = Correlation of reward with length in tokens
report-over-all = Over all completions
report-within-prompt = Within a prompt
