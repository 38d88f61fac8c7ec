work-none-title = Nothing is waiting
work-none-done = You have submitted { $n } tasks. Thank you.
work-none-help = New tasks appear here when an operator generates completions or an admin opens tasks.
work-next-title = Tasks are waiting
work-next-waiting = { $n ->
    [one] { $n } task is waiting for you.
   *[other] { $n } tasks are waiting for you.
  }
work-next-start = Start the next task
