questions-title = Questions
questions-about = What you asked about your tasks, and what was answered. Ask on the page of a task.
questions-ask = Ask a question about this task
questions-question = Your question
questions-question-help = An admin answers. Markdown works. What you have done so far stays.
questions-new-window = It opens in a window of its own.
questions-send = Send the question
questions-sent = Sent. The answer will stand here and under Questions.
questions-failed = This could not be sent. Your question is still here: try again.
questions-n-answers = { $n ->
    [one] { $n } new answer
   *[other] { $n } new answers
  }
questions-new = new
questions-waiting = Not answered yet.
questions-read = I have read the answers
questions-back = Back to the task
questions-none = There is no question here.
questions-any-project = all projects
questions-state-open = waiting for an answer
questions-state-answered = answered
questions-state-all = all
questions-task = its task
questions-answer = Answer
questions-answer-again = Add to the answer
questions-markdown = Markdown works. The asker reads it on the page of the task and under Questions.
questions-publish = For everybody
questions-publish-this = Publish question and answer beside the guidelines, for every labeler of the project
questions-published-question = The question as they read it
questions-published-help = Nobody is named. Leave out what would tell who asked, or what a customer wrote.
questions-is-published = published
questions-withdraw = Take back
questions-send-answer = Answer
questions-published = Questions and answers
questions-about-prompt = The prompt that it is about
