guidelines-title = Guidelines
guidelines-version = version { $n }
guidelines-edit = Write a new version
guidelines-save = Publish as a new version
guidelines-none = No project has guidelines yet.
