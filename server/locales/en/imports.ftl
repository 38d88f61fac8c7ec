import-no-object = is not a JSON object: a line is {"{"}"id": …{"}"}
import-not-json = is not a JSON object: { $reason }
import-unfit = cannot be read: { $reason }
import-unknown-field = unknown field: use { $known }
import-nul = holds the character U+0000, which Postgres cannot store
import-missing = is missing
import-longer-bytes = is longer than { $most } bytes
import-longer-mib = is longer than { $most } MiB
import-utf16 = looks like UTF-16: save the file as UTF-8
import-not-utf8 = is not UTF-8 at byte { $byte }
import-empty-customer = is empty: leave it out where it is not known
import-language = must be a tag such as en, zh or zh-CN
import-prompt = must be a text or a list of {"{"}"role", "content"{"}"}
import-unknown-role = unknown role “{ $role }”: use system, user or assistant
import-other-role = roles are system, user and assistant
import-empty-turn = has an empty turn
import-not-users-turn = must end with a turn of the user
import-not-assistants-turn = must end with a turn of the assistant
import-empty-answer = the answer is empty
import-empty-turn-before-answer = there is an empty turn before the answer
import-not-users-turn-before-answer = what comes before the answer must end with a turn of the user
import-nothing-asked = needs a request and an answer
import-too-few = a ranking needs at least 2 with a rank
import-too-many = has { $n }; a ranking holds at most { $most }
import-n-completions = has { $n } { $n ->
    [one] completion
   *[other] completions
  }, but a task has { $fewest } to { $most }
import-empty-completion = completion { $number } is empty
import-id-twice = the id “{ $id }” comes twice
import-rank-zero = ranks count from 1
import-unknown-split = is “{ $split }”: use train or validation, or leave it out
import-display-order = must hold each of 0 to { $last } once
import-no-such-flag = is not a flag of the project’s form
import-no-such-scale = is not a scale of the project’s form
import-negative = must not be negative
import-only-prompts-csv = only prompts can be CSV: write { $kind } as JSONL
import-no-records = has no records
import-csv = is no CSV: { $reason }
import-open-quote = a record is longer than { $most } MiB: is a quote left open?
import-unknown-column = unknown column “{ $name }”: use { $known }
import-column-twice = the column { $name } comes twice
import-column-missing = the column { $name } is missing
import-cells = has { $n } { $n ->
    [one] cell
   *[other] cells
  } where the header has { $header }
import-in-file = stands on an earlier line of this file
import-in-project = is in this project already
import-other-prompt = belongs to a prompt with another text
import-other-customer = is another than an earlier line of the prompt has
import-known-customer = is not what this project has for the prompt, which snapshots may hold already
import-has-task = belongs to a prompt that has a task already
import-ranked-already = this ranking is here already
import-too-many-labelers = a task takes at most { $most } labelers
import-known-use-case = has a task already
