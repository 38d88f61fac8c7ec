// Drafts that save themselves on every change, and what happens when two windows change the same task. What
// the server does not have yet is kept in this browser, so that a window that is closed loses nothing.
import { ask, find, notice, words } from './page.js';
import { drop, findKept, keep } from './outbox.js';

// `collect` reads what was said, and `bringBack` puts it into the form.
export function startDraft({ form, collect, bringBack, clock, signal }) {
  const { id, owner } = form.dataset;
  const url = `/api/v1/assignments/${id}/draft`;
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

  // A live region is read aloud whenever it changes, so the same words are not written again.
  function say(text) {
    if (status.textContent !== text) status.textContent = text;
  }

  function mark() {
    status.dataset.state = typed === kept ? 'saved' : 'changed';
  }

  // Keeps in this browser what the server does not have, and returns what would be sent.
  function keepHere() {
    const body = { ...collect(), time: clock.time(), revision: Number(revision.value) };
    if (typed !== kept) keep('draft', { id, owner, page: location.pathname, method: 'PUT', url, body });
    return body;
  }

  // Saves what was said so far. The request outlives the page where it is small enough.
  function save(isRetry = false) {
    if (saving || stopped) return saving;
    saving = send(isRetry).finally(() => { saving = null; });
    return saving;
  }

  async function send(isRetry) {
    const sent = typed;
    let retry = false;
    // Most saves are over before anybody could read that one began.
    if (!isRetry) slow = setTimeout(() => say(words().saving), 800);
    const body = keepHere();
    try {
      const answer = await ask('PUT', url, body);
      const said = await answer.json();
      clearTimeout(slow);
      if (answer.ok) {
        // Also where a submission is on its way: what is typed after it failed is saved over this one.
        revision.value = said.revision;
        kept = sent;
        if (typed === sent) drop('draft', id);
      }
      if (stopped) return;
      retry = [401, 429].includes(answer.status) || answer.status >= 500;
      if (answer.ok) {
        clock.setLease(said.lease_until, said.is_held);
        say(words().saved);
      } else {
        say({ 401: words().signedOut, 409: words().conflict, 422: words().refused }[answer.status] ?? said.detail);
      }
      choice.hidden = answer.status !== 409;
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

  function changed() {
    typed += 1;
    mark();
    sayEdited();
    schedule();
  }

  // Of something submitted: what is in sight is no more what was submitted.
  function sayEdited() {
    const parts = [find('#edit-submitted'), find('#edit-draft')];
    if (parts[0]) [parts[0].hidden, parts[1].hidden] = [true, false];
  }

  async function newestRevision() {
    const answer = await fetch(url.replace(/\/draft$/, ''));
    if (!answer.ok) throw new Error(answer.statusText);
    return (await answer.json()).draft_revision;
  }

  // After a conflict: what is here takes the place of the newer draft, because the labeler says so.
  find('#keep-mine').addEventListener('click', async () => {
    try {
      revision.value = await newestRevision();
      await save();
    } catch {
      say(words().offline);
    }
  }, { signal });
  // Or the newer one is opened, and what is here is given up.
  choice.querySelector('a').addEventListener('click', () => { stop(); drop('draft', id); }, { signal });

  // A page that goes away within the moment before a save sends what was typed first.
  function flush() {
    if (typed === kept || stopped) return;
    clearTimeout(timer);
    if (saving) keepHere();
    else save();
  }
  addEventListener('beforeunload', flush, { signal });
  addEventListener('pagehide', flush, { signal });
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
    if (typed === kept) { location.reload(); return; }
    say(words().conflict);
    choice.hidden = false;
  }

  // What an earlier page had not saved when it went away is in the form again, unless the server has it, or
  // something newer: then the labeler decides.
  async function lookForKeptDraft() {
    const entry = findKept('draft', owner, id);
    if (!entry) return;
    const { time, revision: seen, ...said } = entry.body;
    if (isSame(said, collect())) { drop('draft', id); return; }
    // Its last save may have arrived after this page was made.
    const newest = await newestRevision();
    if (typed || stopped) return;
    if (newest > Number(revision.value)) { location.reload(); return; }
    bringBack(said);
    if (seen === newest) {
      notice('brought-back', words().draftBroughtBack);
      changed();
      return;
    }
    typed += 1;
    mark();
    say(words().conflict);
    choice.hidden = false;
  }

  return {
    changed,
    flush,
    say,
    save: () => { clearTimeout(timer); return save(); },
    isKept: () => typed === kept,
    // The save that is under way.
    settled: () => saving ?? Promise.resolve(),
    // Nothing is left to be kept: it is being submitted.
    forget: () => drop('draft', id),
    stop,
    goOn() { stopped = false; },
    lookForKept: () => lookForKeptDraft().catch(() => {}),
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
