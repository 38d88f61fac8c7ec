// Drafts that save themselves on every change, and what happens when two windows change the same task. What
// the server does not have yet is kept in this browser, so that a window that is closed loses nothing.
import { ask, find, notice, words } from './page.js';
import { drop, dropOwn, eachLeft, keep } from './outbox.js';

// `collect` reads what was said, and `bringBack` puts it into the form.
export function startDraft({ form, collect, bringBack, clock, signal }) {
  const { id, owner } = form.dataset;
  const url = `/api/v1/assignments/${id}/draft`;
  // Not `form.action`, which a button of that name hides.
  const page = form.getAttribute('action');
  const status = find('#draft-status');
  const choice = find('#draft-choice');
  const revision = form.elements.revision;
  // Changes so far, and how many of them the server has.
  let typed = 0;
  let kept = 0;
  let timer = 0;
  let slow = 0;
  let saving = null;
  let stopped = false;
  // The server has something newer, and the labeler has not said yet which of both counts.
  let isOpen = false;
  // What is here is being left for the newer one.
  let isGivenUp = false;

  // A live region is read aloud whenever it changes, so the same words are not written again.
  function say(text) {
    if (status.textContent !== text) status.textContent = text;
  }

  function mark() {
    status.dataset.state = typed === kept ? 'saved' : 'changed';
  }

  const whole = () => ({ ...collect(), time: clock.time(), revision: Number(revision.value) });

  // Keeps what is said in this browser; `more` says what is known of it.
  function keepHere(more = {}) {
    const body = whole();
    // As over what came before the newer one, so that it never takes the place of that unasked.
    if (isOpen) body.revision -= 1;
    return keep('draft', { id, owner, page: location.pathname, method: 'PUT', url, body, ...more });
  }

  // Saves what was said so far. The request outlives the page where it is small enough.
  function save(isRetry = false) {
    if (saving || stopped || isOpen) return saving;
    saving = send(isRetry).finally(() => { saving = null; });
    return saving;
  }

  async function send(isRetry) {
    const sent = typed;
    let retry = false;
    // Most saves are over before anybody could read that one began.
    if (!isRetry) slow = setTimeout(() => say(words().saving), 800);
    if (typed !== kept) keepHere();
    try {
      const answer = await ask('PUT', url, whole());
      // What stands between here and the server answers in words of its own.
      const said = answer.ok ? await answer.json() : await answer.json().catch(() => ({}));
      clearTimeout(slow);
      if (answer.ok) {
        // Also where a submission is on its way: what is typed after it failed is saved over this one.
        revision.value = said.revision;
        kept = sent;
        if (typed === sent) dropOwn('draft', id);
      }
      if (stopped) return;
      const isBusy = answer.status === 429 || answer.status >= 500;
      retry = isBusy || answer.status === 401;
      if (answer.ok) {
        clock.setLease(said.lease_until, said.is_held);
        say(words().saved);
      } else if (isBusy) {
        say(words().busy);
      } else {
        say({ 401: words().signedOut, 409: words().conflict, 422: words().refused }[answer.status] ?? said.detail);
      }
      showChoice(answer.status === 409);
    } catch {
      clearTimeout(slow);
      retry = true;
      if (!stopped) say(words().offline);
    } finally {
      mark();
    }
    if (retry) schedule(5000, true);
    else if (typed !== sent) schedule(0);
  }

  function schedule(delay = 600, isRetry = false) {
    clearTimeout(timer);
    if (!stopped) timer = setTimeout(() => save(isRetry), delay);
  }

  // What is hidden loses the focus, and the keyboard its place.
  function showChoice(isShown) {
    if (!isShown && choice.contains(document.activeElement)) status.focus({ preventScroll: true });
    choice.hidden = !isShown;
  }

  function changed() {
    typed += 1;
    isOpen = false;
    isGivenUp = false;
    mark();
    sayEdited();
    schedule();
  }

  // Of something submitted: what is in sight is no more what was submitted.
  function sayEdited() {
    const parts = [find('#edit-submitted'), find('#edit-draft')];
    if (parts[0]) [parts[0].hidden, parts[1].hidden] = [true, false];
  }

  // What is in the form was refused for something newer, which the form is over now: submitting it again would
  // take its place. Until the labeler does, or changes it, or says so, it is kept here only.
  function leaveOpen() {
    typed += 1;
    isOpen = true;
    mark();
    keepHere();
    say(words().conflict);
    showChoice(true);
  }

  async function newestRevision() {
    const answer = await ask('GET', url.replace(/\/draft$/, ''));
    if (!answer.ok) throw new Error(answer.statusText);
    return (await answer.json()).draft_revision;
  }

  // After a conflict: what is here takes the place of the newer draft, because the labeler says so.
  find('#keep-mine').addEventListener('click', async () => {
    try {
      revision.value = await newestRevision();
      isOpen = false;
      await save();
    } catch {
      say(words().offline);
    }
  }, { signal });
  // Or the newer one is opened, here and not in another window, and what is here is given up.
  document.addEventListener('click', (event) => {
    const link = event.target.closest('#draft-choice a, #errors a');
    const isHere = !(event.defaultPrevented || event.button || event.ctrlKey || event.metaKey || event.shiftKey || event.altKey);
    if (isHere && link?.getAttribute('href') === page) isGivenUp = true;
  }, { signal });

  // A page that goes away within the moment before a save sends what was typed first.
  function flush() {
    if (typed === kept || stopped || isGivenUp) return;
    clearTimeout(timer);
    if (saving || isOpen) keepHere();
    else save();
  }
  addEventListener('beforeunload', flush, { signal });
  addEventListener('pagehide', () => {
    if (isGivenUp) dropOwn('draft', id);
    else flush();
  }, { signal });
  addEventListener('online', () => { if (typed !== kept) schedule(0); }, { signal });
  document.addEventListener('visibilitychange', () => {
    if (document.hidden) flush();
    else lookForNewerDraft().catch(() => {});
  }, { signal });
  signal.addEventListener('abort', stop);

  function stop() {
    stopped = true;
    clearTimeout(timer);
    clearTimeout(slow);
  }

  // In sight again: the labeler may have gone on with the task elsewhere, and would submit what is old.
  async function lookForNewerDraft() {
    if (saving || stopped) return;
    const newest = await newestRevision();
    if (saving || stopped || newest <= Number(revision.value)) return;
    // Not again: this page may be what answered a form.
    if (typed === kept) { location.replace(page); return; }
    say(words().conflict);
    showChoice(true);
  }

  // What an earlier page had not saved when it went away is in the form again at once, and saved over what it was
  // typed over: where the server has something newer, it says so, and the labeler decides.
  function takeOver(entry) {
    const { time, revision: seen, ...said } = entry.body;
    if (isSame(said, collect())) { drop(entry); return; }
    // What is typed here comes first; that one waits for the next page.
    if (typed || stopped) return;
    bringBack(said);
    revision.value = seen;
    notice('brought-back', words().draftBroughtBack);
    changed();
    keepHere();
    drop(entry);
  }

  return {
    changed,
    isTouched: () => typed > 0,
    hasUnsaved: () => typed !== kept,
    keepHere,
    leaveOpen,
    say,
    save: () => { clearTimeout(timer); return save(); },
    // The save that is under way.
    settled: () => saving ?? Promise.resolve(),
    // Nothing is left to be kept: it is being submitted.
    forget: () => dropOwn('draft', id),
    stop,
    goOn() { stopped = false; },
    lookForKept: () => eachLeft('draft', owner, id, takeOver),
  };
}

// Whether both say the same: what is empty says nothing, and members have no order.
function isSame(one, other) {
  return JSON.stringify(essence(one)) === JSON.stringify(essence(other));
}

function essence(value) {
  if (Array.isArray(value)) return value.map(essence);
  if (!value || typeof value !== 'object') return value;
  const members = Object.entries(value).map(([name, member]) => [name, essence(member)]);
  const filled = members.filter(([, member]) => ![undefined, null, ''].includes(member));
  return Object.fromEntries(filled.sort(([a], [b]) => (a < b ? -1 : 1)));
}
