snapshots-title = Snapshots
snapshots-about = A snapshot freezes a selection. Runs read snapshots only, and the same snapshot is always exported as the same bytes.
snapshots-new = Take a snapshot
snapshots-name = Name
snapshots-name-help = A name that is taken gets a number.
snapshots-name-taken = a snapshot of this name was taken at the same moment: take yours again
snapshots-kind = Holds
snapshots-kind-rankings = rankings
snapshots-kind-demonstrations = demonstrations
snapshots-kind-prompts = prompts
snapshots-kind-texts = plain texts
snapshots-categories = Only some categories (none chosen: all)
snapshots-include-simulated = Include what simulated labelers said
snapshots-take = Take snapshot
snapshots-none = No snapshot has been taken yet.
snapshots-items = Records
snapshots-prompts = Prompts
snapshots-n-rankings = { $n ->
    [one] { $n } ranking
   *[other] { $n } rankings
  }
snapshots-n-demonstrations = { $n ->
    [one] { $n } demonstration
   *[other] { $n } demonstrations
  }
snapshots-n-prompts = { $n ->
    [one] { $n } prompt
   *[other] { $n } prompts
  }
snapshots-n-texts = { $n ->
    [one] { $n } text
   *[other] { $n } texts
  }
snapshots-taken = Taken
snapshots-simulated = with simulated
snapshots-id = Id
snapshots-download = Download
snapshots-format-own = One record a line, as the trainer reads them. The SHA-256 above is of this file.
snapshots-format-trl = Preference pairs for TRL: prompt, chosen, rejected. Ties are left out.
snapshots-reviewed-categories = Take the categories that reviewers gave, where there are any
snapshots-include-personal = Include prompts in which a reviewer found personal data, with their rankings and demonstrations
snapshots-left-out = Left out
snapshots-n-left-out = { $n ->
    [one] { $n } record, for personal data in its prompt
   *[other] { $n } records, for personal data in their prompts
  }
snapshots-personal = Personal data
snapshots-personal-included = prompts in which a reviewer found some are included
snapshots-as-reviewed = as reviewed, where there is a review
