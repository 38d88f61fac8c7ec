withdrawals-title = Withdrawn labels
withdrawals-help = What these labelers said is left out of every snapshot that is taken from now on: rankings, demonstrations and reviews. Nothing is deleted, and snapshots taken before stay the same bytes. Figures on the agreement page still count it.
withdrawals-nobody = There are no further labels that could be withdrawn.
withdrawals-whose = Whose labels
withdrawals-whose-help = Everybody who has submitted something in this project.
withdrawals-n-submitted = { $n ->
    [one] { $n } submission
   *[other] { $n } submissions
  }
withdrawals-withdraw = Leave their labels out of later snapshots
withdrawals-none = No labels are withdrawn.
withdrawals-since = Withdrawn
withdrawals-until = Taken in again
withdrawals-open = left out
withdrawals-own = by withdrawing their consent
withdrawals-theirs = Ends when they agree again
withdrawals-end = Take them in again
withdrawals-end-of = Take them in again: { $name }
withdrawals-only-theirs = this labeler withdrew their consent: only they can agree again
