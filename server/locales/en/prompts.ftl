prompts-title = Prompts
prompts-project = Project
prompts-search = Search in prompts and ids
prompts-category = Category
prompts-any-category = all categories
prompts-find = Show
prompts-none = No prompt matches. Import some below.
prompts-no-project = There is no project yet. Make one on the page Projects.
prompts-id = Id
prompts-prompt = Prompt
prompts-completions = Completions
prompts-next = Next page
prompts-import = Import
prompts-import-help = A file is imported whole or not at all: every wrong line is listed with its number and field. One JSON object a line, UTF-8; prompts may also be CSV with the columns id, prompt and category.
prompts-kind = The file holds
prompts-kind-prompts = prompts
prompts-kind-demonstrations = demonstrations
prompts-kind-texts = plain texts
prompts-kind-rankings = rankings
prompts-kind-candidates = prompts with candidates to rank
prompts-kind-use-cases = use cases to write from
prompts-format = Format
prompts-format-name = by the file's name
prompts-file = File
prompts-lines = or paste lines
prompts-start-import = Import
prompts-imported = Imported { $n ->
    [one] { $n } record
   *[other] { $n } records
  } ({ $kind }).
prompts-refused = Nothing was imported, because { $n ->
    [one] { $n } line is wrong. Mend it
   *[other] { $n } lines are wrong. Mend them
  } and import the file again.
prompts-problems = Wrong lines
prompts-line = Line
prompts-field = Field
prompts-problem = What is wrong
prompts-more-problems = and { $n } more
category-generation = generation
category-open_qa = open question
category-brainstorming = brainstorming
category-chat = chat
category-rewrite = rewriting
category-summarization = summarization
category-classification = classification
category-other = other
category-closed_qa = question on a text
category-extract = extraction
