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
guidelines-decline = I do not agree
guidelines-decline-why = You get no task of this project, and go on with your others. You can agree later.
guidelines-refused = You do not agree to this, so you get no task of this project. Your other projects go on. You can agree at any time.
guidelines-withdraw = Withdraw my consent
guidelines-withdraw-why = You get no further task of this project, and tasks that you hold go back to the others. Everything you said here is left out of datasets that are made from now on; datasets made before cannot be changed. You can agree again at any time.
guidelines-withdraw-now = Withdraw my consent
