guidelines-title = Guidelines
guidelines-version = version { $n }
guidelines-edit = Write a new version
guidelines-save = Publish as a new version
guidelines-none = No project has guidelines yet.
guidelines-acknowledge = I have read them and will judge by them
guidelines-acknowledge-why = Each of your labels names the version that it was given under.
guidelines-acknowledged = You have acknowledged version { $n }.
