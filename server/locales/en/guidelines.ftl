guidelines-title = Guidelines
guidelines-version = version { $n }
guidelines-edit = Versions and editing
guidelines-none = None of your projects has guidelines yet.
guidelines-due = { $n ->
    [one] One text waits to be read before your next task.
   *[other] { $n } texts wait to be read before your next task.
  }
guidelines-changed = What changed since version { $n }, which you acknowledged
guidelines-title-guidelines = How to judge
guidelines-title-consent = Consent
guidelines-acknowledge-guidelines = I have read them and will judge by them
guidelines-acknowledge-consent = I have read this and agree
guidelines-why-guidelines = Each of your labels names the version that it was given under.
guidelines-why-consent = Without it you get no task of this project.
guidelines-acknowledged = You have acknowledged version { $n }.
