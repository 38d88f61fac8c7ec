agreement-title = Agreement
agreement-about = { $rankings ->
    [one] { $rankings } ranking
   *[other] { $rankings } rankings
  } of { $prompts ->
    [one] { $prompts } prompt
   *[other] { $prompts } prompts
  } by { $labelers ->
    [one] { $labelers } labeler
   *[other] { $labelers } labelers
  }. Kept apart: { $gold } of gold tasks, { $repeats } of repeated tasks, { $decisions ->
    [one] { $decisions } decision
   *[other] { $decisions } decisions
  } by admins.
agreement-intervals = Thin lines and brackets are 95 % intervals, by bootstrap over prompts unless it says otherwise, since the pairs of one prompt hang together. What would rest on fewer than { $fewest } prompts, or rankings where each counts alone, is not told: “too few”.
agreement-policy = Ties in agreement
agreement-policy-left-out = not counted
agreement-policy-half = count half
agreement-policy-category = a third answer
agreement-sort = Sort labelers by
agreement-sort-agreement = Agreement with others
agreement-sort-quality = Quality
agreement-sort-gold = Agreement with gold
agreement-sort-repeats = Agreement with themselves
agreement-sort-rankings = Rankings
agreement-sort-name = Name
agreement-sort-ties = Ties
agreement-sort-untouched = Untouched order
agreement-sort-too-fast = Too fast
agreement-sort-seconds = Active seconds
agreement-sort-longer = Preference for length
agreement-sort-position = Position bias
agreement-what = Figure
agreement-figure = Value, 95 % interval, n
agreement-n-rankings = { $n ->
    [one] { $n } ranking
   *[other] { $n } rankings
  }

agreement-overall = Overall
agreement-overall-help = For comparison, the pairwise bars mark what InstructGPT reports: the thick short line 72.6 ± 1.5 % among its training labelers, the dashed line 77.3 ± 1.3 % among held-out labelers. The paper does not say how it counts ties.
agreement-own-help = Each figure of this labeler is drawn on the same scale as on the page of all; dashed lines are what it is compared to.
agreement-ties-left-out = Agreement, ties left out
agreement-ties-left-out-meaning = Of pairs that two labelers both order strictly, the share they order alike. Two who guess reach 50 %.
agreement-ties-half = Agreement, ties count half
agreement-ties-half-meaning = Of all pairs: two ties are alike, a tie against a strict order is half alike.
agreement-ties-category = Agreement, a tie is a third answer
agreement-ties-category-meaning = Of all pairs: alike only where both say the same of first, second and tie.
agreement-tau-b = Kendall’s tau-b
agreement-tau-b-meaning = How far two rankings of a prompt go together: 1 the same order, 0 no relation, −1 the reverse; ties allowed for.
agreement-w = Kendall’s W
agreement-w-meaning = How far all labelers of a task rank alike, where three or more did: 1 all the same; at random, one over the number of labelers. The interval resamples tasks.
agreement-alpha-of-ranks = Krippendorff’s alpha of ranks
agreement-alpha-of-ranks-meaning = Agreement on ranks beyond chance (ordinal): 1 perfect, 0 as by chance.
agreement-alpha-of-ratings = Krippendorff’s alpha of “{ $scale }”
agreement-alpha-of-ratings-meaning = Agreement on this rating beyond chance (ordinal): 1 perfect, 0 as by chance.
agreement-ties = Ties
agreement-ties-meaning = Of the pairs within a ranking, the share put at the same rank.
agreement-untouched = Untouched order
agreement-untouched-meaning = Of rankings of more than two, the share whose ranks are the order shown, first to last: an attention signal, not a proof.
agreement-too-fast = Too fast
agreement-too-fast-meaning = Of rankings that people made here, the share that took under { $least ->
    [one] { $least } second
   *[other] { $least } seconds
  } until first submitted (a setting of the project): active ones, or since the page was opened where that is less.
agreement-seconds = Active seconds
agreement-seconds-meaning = The median of active time; the interval is between order statistics. Pauses of over a minute do not count.
agreement-longer = Longer preferred
agreement-longer-meaning = Of pairs that differ in rank and length, the share in which the longer text is preferred. Dashed: 50 %, length does not matter.

agreement-weeks = Over time
agreement-weeks-help = By week (from its Monday, UTC). A prompt counts in the week of its last ranking. Dotted lines: 72.6 % and 77.3 %, as the paper reports.
agreement-weeks-numbers = The weeks in numbers
agreement-week = Week from
agreement-pairwise = Pairwise agreement
agreement-categories = By category
agreement-categories-help = Dashed: the agreement over everything that passes the filter.
agreement-category = Category
agreement-form-versions = By version of the form
agreement-form-versions-help = Where two labelers had different versions, their pair is in neither. Dashed: the agreement over everything.
agreement-form-version = Version

agreement-labelers = Labelers
agreement-labelers-help = With many labelers some look unusual by chance alone: of forty, two fall outside a 95 % interval of what is usual. Look at who is far out on several figures.
agreement-how-well = How well they rank
agreement-work = How they work
agreement-labeler = Labeler
agreement-with-others = Agreement with others
agreement-with-others-meaning = How often this labeler and another order a pair alike, by the policy on ties that is named above. Dashed: over all labelers.
agreement-quality = Quality
agreement-quality-meaning = How probably this labeler orders a pair as it truly is, of those they do not tie, told from all rankings by the Crowd-BT model: unlike agreement, it does not fall because others err. It cannot be told of two who share tasks with each other only: that takes three who do. The interval is normal on log odds, from what prompts say. Dashed: 50 %, who guesses. A simulated labeler who judges a share e of pairs wrongly has 1 − e where two are compared; in a longer ranking a place rests on all pairs of a candidate, and the quality is a little higher: “plackett simulate” prints which to expect.
agreement-quality-untold = cannot be told apart
agreement-gold = Agreement with gold
agreement-gold-meaning = How often a pair is ordered as is known to be right, in the first version of gold tasks; a tie is half right, however ties count above. The interval resamples tasks.
agreement-gold-flags = Flags as gold has them
agreement-gold-flags-meaning = Of flags that are known of gold tasks and that this labeler answered, the share answered rightly.
agreement-repeats = Agreement with themselves
agreement-repeats-meaning = How often a pair is ordered as the same labeler ordered it before, in tasks that came back.
agreement-position-p = Position bias
agreement-position-p-meaning = The p value of a chi-square test: how probable such uneven first places are if the place on the page does not matter. Told from five expected first ranks of each place on.
agreement-labeler-about = { $project }: { $n ->
    [one] { $n } ranking passes
   *[other] { $n } rankings pass
  } the filter. { $policy }.

agreement-pairs = Pairs of labelers
agreement-pairs-help = Those who share most prompts. Dashed: the agreement over all labelers.
agreement-two-labelers = Two labelers
agreement-pairs-numbers = The pairs with intervals
agreement-matrix = Pairwise agreement in percent, and the prompts that both ranked

agreement-flags = Flags
agreement-flags-help = Only answers count: unanswered is not “no”. Where a flag is rare, kappa falls towards 0 although labelers nearly always agree; AC1 does not.
agreement-flag = Flag
agreement-prevalence = Yes
agreement-prevalence-meaning = Of answers, the share that are yes.
agreement-same = Same answer
agreement-same-meaning = Of pairs of answers on a completion, by two labelers, the share that are the same.
agreement-ac1 = Gwet’s AC1
agreement-ac1-meaning = Agreement beyond chance, steady where answers are nearly all the same: 1 perfect, 0 as by chance. The interval is Student’s t over prompts.
agreement-kappa = Fleiss’ kappa
agreement-kappa-meaning = Agreement beyond chance as most papers report it. The interval is Student’s t over prompts.
agreement-flag-labelers = By labeler
agreement-flag-by-labeler = By labeler: { $flag }
agreement-told-help = How well this labeler tells each flag, by Dawid and Skene’s model: it weighs every answer by how reliable its labeler is.
agreement-sensitivity = Sensitivity
agreement-sensitivity-meaning = How probably the flag is set where it is due (Dawid and Skene’s model); n counts completions that are probably due. The interval is normal on log odds, and allows for what completions of a prompt have in common.
agreement-specificity = Specificity
agreement-specificity-meaning = How probably the flag is not set where it is not due. The interval is as that of sensitivity.

agreement-position = Position on the page
agreement-position-help = The order of display is drawn for each labeler, so every place should come first equally often (dashed). Intervals are Wilson’s.
agreement-place = Place
agreement-slot = Place { $n }
agreement-first = Comes first
agreement-first-meaning = Of rankings, the share in which the candidate shown here came first; who share the first rank share it.
agreement-mean-rank = Mean rank
agreement-mean-rank-meaning = Without bias it is half of one more than the number of candidates. The interval is Student’s t over rankings.
agreement-position-of = { $k } candidates, { $n ->
    [one] { $n } ranking
   *[other] { $n } rankings
  }.
agreement-position-test = Chi-square test: χ²({ $freedom }) = { $chi }, { $p }.
agreement-position-few = Too few for the chi-square test: it wants five expected first ranks of each place.
agreement-without-order = { $n ->
    [one] { $n } ranking came in a file that does not say in which order candidates were shown; it is left out.
   *[other] { $n } rankings came in files that do not say in which order candidates were shown; they are left out.
  }
