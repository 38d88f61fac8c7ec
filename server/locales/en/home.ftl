home-title = Home
home-hello = Hello { $name }
home-labeler = Rank model outputs
home-waiting = tasks waiting for you
home-submitted = You have submitted { $n } so far.
home-start = Start ranking
home-admin = Prompts and data
home-prompts = prompts
home-rankings = rankings by people
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
