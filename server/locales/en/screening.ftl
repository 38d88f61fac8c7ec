screening-title = Screening
screening-about = Who labels is decided by a test: flags and rankings are held against answers that are known, texts are graded by admins who do not see who wrote them. Whoever passes becomes a labeler of the project.
screening-candidates = Candidates
screening-candidate = Candidate
screening-no-candidates = Nobody has been invited yet.
screening-grade-texts = Grade texts
screening-done = Done
screening-numbers = Numbers
screening-numbers-help = Shares are of everything that is known, and what was left open or skipped counts as not agreed; a text that was not written counts 1. A tie where the known answer has none is half agreed.
screening-test = Test
screening-reached = Reached
screening-needed = Needed
screening-enough = Enough
screening-flags = Flags
screening-ranks = Rankings
screening-demonstrations = Texts
screening-grades = Grades
screening-grade-of = { $mean } of 7 (n = { $n })
screening-n-open = { $n } left open
screening-self-short = Self-assessment
screening-self-decides-nothing = The self-assessment decides nothing. It helps to give people the work that suits them.
screening-status-invited = invited
screening-status-started = begun
screening-status-waiting = waiting for grades
screening-status-passed = passed
screening-status-failed = not passed
screening-status-withdrawn = withdrawn
screening-invite = Invite somebody
screening-invite-help = An account without a role is made. It sees its screening and nothing else until it has passed.
screening-invite-known = Somebody who has an account: they find the test on their first page when they sign in. An admin of everything makes accounts.
screening-invited = Invited
screening-withdraw = Take back
screening-retake = Invite again
screening-tasks = The test
screening-tasks-help = Write the right answer down on the page of a task and choose “Use for screening”. Known flags make the flagging test, known ranks the ranking test. Each candidate gets copies of all of these.
screening-nothing-asked = Nothing is asked yet. Whoever is invited cannot begin before something is.
screening-n-asked = Asked
screening-is-graded = graded by people
screening-remove = Ask no more
screening-add-prompt = Let candidates answer the prompt with the id
screening-add = Add
screening-rules = Cut-offs
screening-rules-help = The paper’s cut-offs are 75 %, 75 % and 6 of 7. They hold for decisions to come.
screening-meanwhile = Somebody saved other cut-offs since you opened this page, so nothing was saved yet. This is what saving would change of theirs. What you typed is still here: look at it, then save again.
screening-least-flags = Flags agreed, per cent
screening-least-ranks = Pairs agreed, per cent
screening-least-texts = Mean grade of texts, 1 to 7
screening-graders = Admins who grade each text
screening-asked = What is asked
screening-welcome = You are invited to become a labeler. The test shows what the work is like; take the time that you need, and come back as often as you want.
screening-asked-ranks = { $n ->
    [one] One task: read its answers, answer the questions on each, and put them in order.
   *[other] { $n } tasks: read the answers of each, answer the questions on each, and put them in order.
  }
screening-asked-texts = { $n ->
    [one] One prompt to answer yourself.
   *[other] { $n } prompts to answer yourself.
  }
screening-cut-offs = You pass when all of this is so:
screening-cut-flags = your answers to the questions agree with ours in at least { $share } % of cases
screening-cut-ranks = your order of two answers agrees with ours in at least { $share } % of cases
screening-cut-texts = your texts get a mean grade of at least { $grade } of 7, from people who do not know who wrote them
screening-how = What you leave open counts as not agreed. Ties are allowed.
screening-self = For what topics or cultural groups are you comfortable identifying sensitive speech?
screening-self-help = Choose as many as you like. This decides nothing; it helps us to give you work that suits you.
screening-words = In your own words
screening-start = Begin
screening-progress = { $done } of { $all ->
    [one] { $all } task
   *[other] { $all } tasks
  } done
screening-next = Go on
screening-waiting = You have done everything. People are reading your texts now; the result will stand here.
screening-passed = You have passed, and are a labeler now. Welcome!
screening-failed = Thank you for the time and care that you gave this. This time it was not enough for us to ask you to label; that says something about how far your judgements and ours agree, and nothing about you. Below is how it went. You can take the test again when you are invited again.
screening-topic-race = Race and ethnicity
screening-topic-religion = Religion
screening-topic-gender = Gender
screening-topic-orientation = Sexual orientation
screening-topic-disability = Disability and health
screening-topic-age = Age
screening-topic-migration = Migration and nationality
screening-topic-politics = Politics
screening-topic-violence = Violence and terrorism
screening-topic-sexual = Sexual content
screening-topic-self-harm = Self-harm
screening-topic-children = Safety of children
screening-grading = Grade texts
screening-grading-waiting = { $n ->
    [one] One text waits for you.
   *[other] { $n } texts wait for you.
  }
screening-grading-help = They come in an order of their own, and nobody’s name is on this page: judge the text alone.
screening-grading-none = No text waits for your grade.
screening-text = What was written
screening-grade = Grade
screening-grade-scale = 1 = not what we need · 7 = could not be better
screening-grade-save = Save the grade
error-screening-graded = you have graded this text already
screening-done-invited = The invitation stands. They find it on their home page when they sign in next.
screening-done-withdrawn = The invitation was taken back.
screening-done-rules = The cut-offs were saved. They hold for decisions to come.
screening-done-asked = Candidates to come are asked this text.
screening-done-removed = Candidates to come are not asked this any more.
