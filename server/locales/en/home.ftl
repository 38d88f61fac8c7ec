home-title = Home
home-hello = Hello { $name }
home-labeler = Your work
home-news = Read these before your next task
home-due-guidelines = new guidelines
home-due-consent = a new consent
home-open = You have a task in hand.
home-waiting = Waiting for you:
home-nothing-waits = Nothing is waiting for you. New tasks appear here.
home-start = Start the next task
home-go-on = Go on with your task
home-history = Your last submissions
home-n-of-kind = { $n } { $kind }
home-kind-rank = to rank
home-kind-compare = to compare
home-kind-demonstrate = to write
home-kind-review = to review
home-today = Today
home-submitted-today = submitted today
home-this-week = { $n } since Monday.
home-active = Active
home-idle = Idle
home-leased = Held
home-time-title = How time is counted
home-time-help = Days begin at midnight UTC, and a task counts to the day on which you ended it. Active: its page was in sight and you used keys or pointer within the last minute. Idle: open otherwise; a break that you begin with its button is not counted. Held: from taking the task to ending it, or until its lease ran out; the next task is taken ahead, so these times overlap.
home-pace = Your pace
home-no-pace = Nothing to measure yet.
home-of-n = median of { $n }
home-pace-help = Active time of a task, half took less. There is no target: careful comes first.
home-gold = Agreement with known answers
home-gold-of = of { $pairs ->
    [one] { $pairs } pair
   *[other] { $pairs } pairs
  } in { $tasks ->
    [one] { $tasks } task
   *[other] { $tasks } tasks
  }
home-gold-help = Pairs of candidates that a known answer puts in an order; a tie of yours counts half. Until yesterday (UTC).
home-no-gold = Shown once you have done 5 tasks whose answer is known.
home-chart-submitted = Submitted each day
home-chart-submitted-alt = Bars: submissions on each of the last 14 days, at most { $n }
home-chart-active = Active time each day
home-chart-active-alt = Bars: active time on each of the last 14 days, at most { $time }
home-numbers = The numbers
home-day = Day (UTC)
home-seconds = { $s } s
home-minutes-seconds = { $m } min { $s } s
home-minutes = { $m } min
home-hours-minutes = { $h } h { $m } min
home-admin = Projects and data
home-prompts = prompts
home-submissions = submissions by people
home-export = Snapshots and export
home-import = Import prompts
home-invite = Invite people
home-operator = Training
home-runs = { $n ->
    [one] run waiting or working
   *[other] runs waiting or working
  }
home-checkpoints = { $n ->
    [one] checkpoint
   *[other] checkpoints
  }
home-train = Runs
home-answers = { $n ->
    [one] One of your questions has a new answer.
   *[other] Your questions have { $n } new answers.
  }
home-questions = { $n ->
    [one] { $n } question waits for an answer.
   *[other] { $n } questions wait for an answer.
  }
home-screening = You were invited to become a labeler by a short test. Its page says where you stand, and how it went.
home-screening-open = Open the screening
