work-none-title = Nothing is waiting
work-none-done = You have submitted { $n } tasks. Thank you.
work-none-help = New tasks appear here when an operator generates completions or an admin opens tasks.
work-next-title = Tasks are waiting
work-next-waiting = { $n ->
    [one] { $n } task is waiting for you.
   *[other] { $n } tasks are waiting for you.
  }
work-next-start = Start the next task
work-history-title = Last submissions
work-history-help = Your last 20 submissions. Open one to correct it: a new version is written, and the earlier ones stay.
work-history-go-on = Go on with your work
work-history-none = You have not submitted anything yet.
work-history-time = Submitted
work-history-kind = Kind
work-history-prompt = Prompt
work-history-own = your own
work-history-versions = Versions
work-history-late = late
work-kind-rank = ranking
work-kind-compare = comparison
work-kind-demonstrate = demonstration
work-kind-review = review
work-outbox-sent = What this browser had kept for you has been submitted.
work-outbox-waiting = A submission is kept in this browser and could not be sent yet.
work-outbox-signed-out = A submission is kept in this browser. It will be sent when you sign in.
work-outbox-refused = A submission that was kept in this browser was not taken.
work-outbox-open = Open its task
work-outbox-drop = Leave it out
