models-title = Models
models-about = { $models ->
    [one] { $models } model
   *[other] { $models } models
  } in { $rankings ->
    [one] { $rankings } ranking
   *[other] { $rankings } rankings
  } of { $prompts ->
    [one] { $prompts } prompt
   *[other] { $prompts } prompts
  }. Labelers never learn which model wrote what.
models-only-one = Only one model was ranked, so there is nothing to compare.
models-groups = { $n } groups of models were never compared with each other, so their strengths have no common scale. { $groups }.
models-undetermined = Some model never lost to the others. Only a weak prior says how much better it is: read its strength as “far better”. Strengths that rest on it have no interval.
models-model = Model
models-strengths = Strengths
models-strengths-help = Dots are strengths in log odds against the mean model, whiskers 95 % intervals by bootstrap over prompts. A difference of 1 means that the stronger one wins 73 % of comparisons that are no tie. Overlapping whiskers do not say that two models are equal: see their differences below.
models-davidson = Bradley-Terry with ties
models-davidson-meaning = Davidson’s model of pairs: it tells strength and how readily labelers tie.
models-plackett-luce = Plackett-Luce
models-plackett-luce-meaning = From whole rankings, as choices of the best of what is left. Where both columns differ much, neither model fits well.
models-win-rate = Win rate
models-win-rate-meaning = Of comparisons with any other model, the share won, a tie counting half. It depends on whom a model met; strengths do not. Wilson’s interval for as many trials as prompts.
models-ties = Readiness to tie
models-figure = Value, 95 % interval, n
models-nu = Davidson’s ν
models-nu-of = Davidson’s ν of group { $group }
models-nu-meaning = The odds that two models of the same strength tie, against either one winning.
models-pairs = Pairs of models
models-pairs-help = How often the first is preferred to the second, a tie counting half. Dashed: 50 %. Where the interval does not hold 50 %, one is better.
models-two = First : second
models-first-wins = First preferred
models-first-wins-meaning = The share of comparisons that the first wins, a tie counting half; Wilson’s interval for as many trials as prompts.
models-difference = Difference of strengths
models-difference-meaning = By how much the first is stronger, in log odds, by Davidson’s model: whomever both met. Where the interval (bootstrap over prompts) does not hold 0, one is stronger. Too few to tell, too, where some model never lost.
models-counts = { $wins } won, { $ties } tied, { $losses } lost
models-matrix = How often the model of the row is preferred to that of the column, in percent, and the prompts
models-categories = By category
models-categories-help = The same on prompts of each category that has enough of them. Strengths are against the mean model of the category.
models-category = { $category }: { $rankings ->
    [one] { $rankings } ranking
   *[other] { $rankings } rankings
  } of { $prompts ->
    [one] { $prompts } prompt
   *[other] { $prompts } prompts
  }
