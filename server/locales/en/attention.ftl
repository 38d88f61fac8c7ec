attention-title = Attention
attention-about = Submissions that may not have been looked at closely: the order that was shown, submitted as the ranking, or done in less than { $seconds ->
    [one] { $seconds } second
   *[other] { $seconds } seconds
  }. Nothing was refused; read them before you judge. Simulated labelers are left out.
attention-untouched = order as shown
attention-too-fast = too fast
attention-sign = Sign
attention-any-sign = any
attention-any-labeler = all
attention-submissions = Submissions
attention-none = No submission bears a sign.
attention-time = Time
attention-when = Submitted
attention-n = Submissions
attention-by-chance = By chance
attention-share = { $n } of { $all } ({ $percent } %)
attention-chance = The order shown is drawn at random for each assignment, so now and then it is the right one: by chance one ranking in K! of K candidates.
attention-steady = Agrees with themselves
attention-steady-help = A task that comes back days later shows how steady a labeler is: the share of its pairs that they order alike both times, a tie against an order counting half.
